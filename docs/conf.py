"Sphinx configuration: notebooks as they were run, nothing fetched from outside."
project, author, copyright = 'lesionlab', 'The lesionlab developers', '2026 onwards, The lesionlab developers'
extensions = ['myst_nb']
nb_execution_mode = 'off'
myst_enable_extensions = ['dollarmath']
html_theme = 'pydata_sphinx_theme'
html_title = 'lesionlab'
exclude_patterns = ['_build', 'measured']
suppress_warnings = ['myst.header', 'mystnb.unknown_mime_type', 'misc.highlighting_failure']
html_theme_options = dict(show_toc_level=2, navigation_with_keys=False, show_prev_next=True)
