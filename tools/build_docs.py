"Build the documentation site in docs/_build from the README and the notebooks as they were run."
import json, re, shutil, subprocess, sys
from pathlib import Path

from lesionlab.viz.scenes import scene
from lesionlab.viz.charts import save_figure
from lesionlab.phantom.dataset import phantom
from wings import WINGS

root = Path(__file__).parents[1]
docs, copies = root/'docs', root/'docs'/'_notebooks'


def plain(source):
    "A notebook without nbdev's directives and hidden cells."
    nb = json.loads(source.read_text())
    text = {id(c): ''.join(c['source']) for c in nb['cells']}
    nb['cells'] = [c for c in nb['cells'] if not re.search(r'^#\|\s*(hide|default_exp\b.*)$', text[id(c)], re.M)]
    for c in nb['cells']: c['source'] = re.sub(r'^#\|.*\n?', '', text[id(c)], flags=re.M)
    nb['metadata']['kernelspec'] = dict(name='python3', display_name='Python 3', language='python')
    return json.dumps(nb)


def results():
    "The results, with links that hold on the site."
    text = re.sub(r'\]\(\.\./nbs/(\w+)\.ipynb\)', r'](\1)', (docs/'results.md').read_text())
    return re.sub(r'\[([^]]+)\]\((measured|ledger\.jsonl)\)', r'\1', text.replace('](images/', '](../images/'))


def contents():
    "The README and a table of contents by wings."
    pages = {wing: [f'{wing}/{p.stem}' for p in sorted((copies/wing).glob('*.ipynb'))] for wing in WINGS}
    pages['experiments, by papermill'] = ['results', *(p.stem for p in sorted(copies.glob('*.ipynb')))]
    trees = [tree(wing, found) for wing, found in pages.items()]
    readme = (root/'README.md').read_text().replace('docs/images/', 'images/').replace('](nbs/', '](_notebooks/')
    readme = readme.replace('](docs/results.md)', '](_notebooks/results)')
    # not on the site
    readme = re.sub(r'\[([^]]+)\]\((CONTRIBUTING\.md|CITATION\.cff|lesionlab/weights/README\.md|docs/(measured|ledger)[^)]*)\)', r'\1', readme)
    turning = '## Turn it\n\nA synthetic volume with its lesions.\n\n```{raw} html\n<iframe src="_static/scene.html" style="width:100%;height:540px;border:0"></iframe>\n```\n'
    return f'{readme}\n{turning}\n' + '\n'.join(trees)


def tree(caption, pages):
    "A hidden table of contents of some pages."
    return f'```{{toctree}}\n:caption: {caption}\n:maxdepth: 1\n:hidden:\n\n' + '\n'.join(f'_notebooks/{p}' for p in pages) + '\n```\n'


def main():
    for folder in (copies, docs/'jupyter_execute'): shutil.rmtree(folder, ignore_errors=True) # of an earlier build
    for source in sorted((root/'nbs').rglob('*.ipynb')):
        if '.ipynb_checkpoints' in source.parts: continue
        copy = copies/source.relative_to(root/'nbs')
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(plain(source))
    (copies/'results.md').write_text(results())
    ph = phantom(0, 3)
    save_figure(scene(ph.volume, ph.lesions, mask=ph.mask), docs/'_static'/'scene.html')
    (docs/'index.md').write_text(contents())
    subprocess.run([sys.executable, '-m', 'sphinx', '-q', '-b', 'html', docs, docs/'_build'], check=True)
    print(f'The site is {docs/"_build"/"index.html"}')


if __name__ == '__main__': main()
