"Sphinx configuration: notebooks as they were run, nothing fetched from outside."
project, author, copyright = 'lesionlab', 'The lesionlab developers', '2026 onwards, The lesionlab developers'
extensions = ['myst_nb']
nb_execution_mode = 'off'
html_theme = 'pydata_sphinx_theme'
html_title = 'lesionlab'
html_static_path = ['_static']
exclude_patterns = ['_build', 'measured', 'results.md', 'results.template.md']
suppress_warnings = ['myst.header', 'myst.xref_missing', 'misc.highlighting_failure']
html_theme_options = dict(show_toc_level=2, navigation_with_keys=False)
