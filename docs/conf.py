"""Sphinx configuration: notebooks as they were run, nothing fetched from outside. tools/build_docs.py makes the
source folder, in which every page is where the repository has it, and turns warnings into errors."""
project, author, copyright = 'lesionlab', 'The lesionlab developers', '2026 onwards, The lesionlab developers'
extensions = ['myst_nb']
nb_execution_mode = 'off'
highlight_language = 'text' # of blocks that name none
myst_heading_anchors = 3
html_theme = 'pydata_sphinx_theme'
html_title = 'lesionlab'
html_static_path = ['_build/source/_static']
html_theme_options = dict(
    show_toc_level=2, navigation_with_keys=False, show_nav_level=1, header_links_before_dropdown=6,
    icon_links=[dict(name='GitHub', url='https://github.com/lesionlab/lesionlab', icon='fa-brands fa-github')])
html_sidebars = {'index': []}
