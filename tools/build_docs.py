"Build the documentation site from the notebooks: docs/_notebooks are processed copies, docs/_build is the site."
import json, os, re, shutil, subprocess, sys
from pathlib import Path
from nbdev.serve import proc_nbs

root = Path(__file__).parents[1]
docs, copies = root/'docs', root/'docs'/'_notebooks'
ROOMS = dict(Data=('00', '09'), Evaluation=('10', '19'), Networks=('20', '39'), Running=('40', '49'))


def title(path):
    "A notebook's first heading."
    cell = next(c for c in json.loads(path.read_text())['cells'] if c['cell_type'] == 'markdown')
    return re.search(r'^#\s*(.+)', ''.join(cell['source']), re.M)[1]


def plain(path):
    "Turn what nbdev writes for Quarto into what Sphinx reads: frontmatter and code directives taken out."
    nb = json.loads(path.read_text())
    cells = []
    for c in nb['cells']:
        source = ''.join(c['source'])
        if c['cell_type'] == 'raw':
            found = re.search(r'^title:\s*["\']?(.+?)["\']?$', source, re.M)
            about = re.search(r'^description:\s*["\']?(.+?)["\']?$', source, re.M)
            if found: cells.append(dict(cell_type='markdown', metadata={}, source=f'# {found[1]}\n\n' + (f'*{about[1]}*' if about else '')))
            continue
        if re.search(r'^#\s*\|\s*(hide|default_exp)\s*$', source, re.M): continue
        c['source'] = re.sub(r'^#\s*\|.*\n?', '', source, flags=re.M)
        cells.append(c)
    nb['cells'] = cells
    nb['metadata']['kernelspec'] = dict(name='python3', display_name='Python 3', language='python')
    path.write_text(json.dumps(nb))


def main():
    shutil.rmtree(copies, ignore_errors=True); copies.mkdir(parents=True)
    for p in sorted((root/'nbs').glob('*.ipynb')): shutil.copy(p, copies/p.name)
    for p in copies.glob('*.ipynb'): plain(p)
    names = sorted(p.stem for p in copies.glob('*.ipynb'))
    rooms = {r: [n for n in names if n[0].isdigit() and a <= n[:2] <= b] for r, (a, b) in ROOMS.items()}
    rooms['Experiments'] = [n for n in names if not n[0].isdigit()]
    toc = '\n'.join(f'```{{toctree}}\n:caption: {room}\n:maxdepth: 1\n\n' + '\n'.join(f'_notebooks/{n}' for n in stems) + '\n```\n' for room, stems in rooms.items() if stems)
    readme = (root/'README.md').read_text().replace('docs/images/', 'images/')
    (docs/'index.md').write_text(readme + '\n' + toc)
    subprocess.run([sys.executable, '-m', 'sphinx', '-q', '-b', 'html', str(docs), str(docs/'_build')], check=True)
    print(f'The site is {docs/"_build"/"index.html"}')


if __name__ == '__main__': main()
