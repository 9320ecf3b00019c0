"""Build the documentation site in docs/_build/html from the README, the guide and the notebooks as they were run.

Pages are copied to docs/_build/source with the repository's folders, so that relative links hold there as they do on
GitHub. A link to a file of the repository that is no page leads to GitHub; any other broken link ends the build."""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from lesionlab.phantom.dataset import phantom
from lesionlab.viz.charts import save_figure
from lesionlab.viz.scenes import scene
from wings import WINGS

root = Path(__file__).parents[1]
docs, build = root/'docs', root/'docs'/'_build'
source, site = build/'source', build/'html'
GITHUB = 'https://github.com/lesionlab/lesionlab'
PLOTLY = 'application/vnd.plotly.v1+json'
LINK = re.compile(r'(\]\()(?!\w+:|#)([^)#\s]+)((?:#[^)\s]*)?\))')
TURNING = """## A volume in 3D

A synthetic volume with its lesions; drag to rotate.

```{raw} html
<iframe src="_static/scene.html" title="3D scene" style="width:100%;height:540px;border:0"></iframe>
```
"""


def notebooks():
    "All notebooks of the repository."
    return [p for p in sorted((root/'nbs').rglob('*.ipynb')) if '.ipynb_checkpoints' not in p.parts]


def markdown():
    "Pages in Markdown."
    guide = [p for p in sorted(docs.glob('*.md')) if p.name != 'results.template.md']
    return [*sorted(root.glob('*.md')), *guide, root/'lesionlab'/'weights'/'README.md']


PAGES = {*markdown(), *notebooks()}


def place(page):
    "Where a page or picture goes; the README is the site's first page."
    return source/('index.md' if page == root/'README.md' else page.relative_to(root))


def linked(text, page):
    "A page's text with links that hold on the site."
    def link(found):
        start, path, end = found.groups()
        target = Path(os.path.normpath(page.parent/path))
        if target == root/'README.md': path = os.path.relpath(place(target), place(page).parent)
        elif target.is_dir() and target.parent == root/'nbs': path = os.path.relpath(docs/'wings.md', page.parent)
        elif target.exists() and target not in PAGES and target.suffix != '.png':
            path = f'{GITHUB}/{"tree" if target.is_dir() else "blob"}/main/{target.relative_to(root)}'
        return f'{start}{path}{end}'
    return LINK.sub(link, text)


def plain(page):
    "A notebook without nbdev's directives and hidden cells."
    nb = json.loads(page.read_text())
    text = {id(c): ''.join(c['source']) for c in nb['cells']}
    nb['cells'] = [c for c in nb['cells'] if not re.search(r'^#\|\s*(hide|default_exp\b.*)$', text[id(c)], re.M)]
    for c in nb['cells']:
        shown = re.sub(r'^#\|.*\n?', '', text[id(c)], flags=re.M)
        c['source'] = linked(shown, page) if c['cell_type'] == 'markdown' else shown
        for output in c.get('outputs', []): output.get('data', {}).pop(PLOTLY, None) # its picture or text is shown
    nb['metadata']['kernelspec'] = dict(name='python3', display_name='Python 3', language='python')
    return json.dumps(nb)


def tree(pages, caption=''):
    "A hidden table of contents; its entries are the site's menu."
    lines = ['```{toctree}', ':hidden:', ':maxdepth: 1', *([f':caption: {caption}'] if caption else []), '']
    return '\n'.join([*lines, *(f'/{p}' for p in pages), '```', ''])


def named(pages):
    "Names by which Sphinx knows pages."
    return [p.relative_to(root).with_suffix('') for p in pages]


def menu():
    "Page: its tables of contents."
    top = [docs/'README.md', docs/'wings.md', docs/'results.md', root/'CONTRIBUTING.md', root/'CHANGELOG.md']
    names = re.findall(r'\]\((\w+\.md)\)', (docs/'README.md').read_text())
    guide = [p for p in map(docs.joinpath, dict.fromkeys(names)) if p not in top] # in its order, each once
    rooms = {wing: [p for p in notebooks() if p.parent.name == wing] for wing in WINGS}
    rooms['experiments, by papermill'] = [p for p in notebooks() if p.parent == root/'nbs']
    return {
        root/'README.md': tree(named(top)),
        docs/'README.md': tree(named([*guide, root/'lesionlab'/'weights'/'README.md'])),
        docs/'wings.md': '\n'.join(tree(named(pages), wing) for wing, pages in rooms.items()),
        root/'CONTRIBUTING.md': tree(named([root/'CODE_OF_CONDUCT.md', root/'SECURITY.md']))}


def copy_pages():
    "Write the source folder anew."
    below = menu()
    below[root/'README.md'] = f'{TURNING}\n{below[root/"README.md"]}'
    for page in PAGES:
        text = plain(page) if page.suffix == '.ipynb' else f'{linked(page.read_text(), page)}\n{below.get(page, "")}'
        place(page).parent.mkdir(parents=True, exist_ok=True)
        place(page).write_text(text)
    shutil.copytree(docs/'images', place(docs/'images'))


def main():
    shutil.rmtree(build, ignore_errors=True) # of an earlier build
    copy_pages()
    example = phantom(0, 3)
    save_figure(scene(example.volume, example.lesions, mask=example.mask), source/'_static'/'scene.html')
    command = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', '-b', 'html', '-c', docs, source, site]
    if subprocess.run(command).returncode: sys.exit('The site has broken links or other faults, listed above.')
    print(f'The site is {site/"index.html"}')


if __name__ == '__main__': main()
