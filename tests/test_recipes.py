"CONTRIBUTING's recipes, applied in a copy of the repository and used there."
import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import ROOT
from lesionlab.annotations.table import annotation_table, load_table, save_table, to_rows
from lesionlab.phantom.dataset import phantom, write_phantom

KEEP = ('nbs', 'lesionlab', 'settings.ini', 'setup.py', 'pyproject.toml', 'README.md')
CODE = re.compile(r'^```python\n# (nbs/\S+): (a new notebook|a new cell|a line of (\w+))\n(.*?)^```', re.M | re.S)


def _cell(number, source):
    "A cell of a notebook; markdown is written as comments."
    first, _, rest = source.partition('\n')
    base = dict(id=f'recipe{number}', metadata={})
    if first.strip() == '[markdown]':
        text = re.sub(r'^# ?', '', rest.strip(), flags=re.M)
        return dict(base, cell_type='markdown', source=text.splitlines(True))
    return dict(base, cell_type='code', execution_count=None, outputs=[], source=source.strip('\n').splitlines(True))


def _apply(root, notebook, kind, name, code):
    "Do what a block of code of a recipe says."
    path = root/notebook
    if kind == 'a new notebook':
        nb = dict(cells=[], metadata={}, nbformat=4, nbformat_minor=5)
        nb['cells'] = [_cell(i, source) for i, source in enumerate(re.split(r'^# %%', code, flags=re.M)[1:])]
    else: nb = json.loads(path.read_text())
    if kind == 'a new cell': nb['cells'].append(_cell(0, code))
    if name:
        cell = next(c for c in nb['cells'] if f'\n{name} = {{' in '\n' + ''.join(c['source']))
        lines = ''.join(cell['source']).splitlines(True)
        at = next(i for i, line in enumerate(lines) if line.startswith(f'{name} = {{'))
        cell['source'] = [*lines[:at+1], code, *lines[at+1:]]
    path.write_text(json.dumps(nb))


def _recipe(title):
    text = (ROOT/'CONTRIBUTING.md').read_text()
    part = text.split(f'\n### {title}\n')[1]
    return re.split(r'^##', part, flags=re.M)[0]


@pytest.fixture(scope='module')
def scratch(tmp_path_factory):
    "A function that runs a recipe's commands in a folder of data, with a copy of the repository that has all recipes."
    root, data = tmp_path_factory.mktemp('scratch')/'lesionlab', tmp_path_factory.mktemp('elsewhere')
    ignore = shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', 'outputs')
    for name in KEEP:
        if (ROOT/name).is_dir(): shutil.copytree(ROOT/name, root/name, ignore=ignore)
        else: shutil.copy(ROOT/name, root/name)
    for title in ('A detector', 'A file format', 'A metric'):
        for block in CODE.findall(_recipe(title)): _apply(root, *block)
    subprocess.run(['nbdev_export'], cwd=root, check=True)
    save_table(annotation_table(to_rows(phantom(0, 3).lesions, 'ct')), data/'truth.csv')
    write_phantom(data/'phantom', volumes=20)

    def run(title):
        said = ''
        for line in re.findall(r'^lesionlab .*', _recipe(title), re.M):
            env = dict(os.environ, PYTHONPATH=str(root))
            done = subprocess.run(line, shell=True, cwd=data, env=env, capture_output=True, text=True)
            assert done.returncode == 0, f'{line}\n{done.stderr[-3000:]}'
            said += done.stdout
        return data, said
    return run


def test_a_detector(scratch):
    "Trained by its name, it writes weights that say what they are."
    data, _ = scratch('A detector')
    assert json.loads((data/'run'/'metrics.json').read_text())['steps'] == 4
    assert b'"plain' in (data/'run'/'weights.safetensors').read_bytes().replace(b'\\', b'')


def test_a_file_format(scratch):
    data, said = scratch('A file format')
    assert (data/'centres.csv').read_text().startswith('volume,z,y,x,depth,height,width\n')
    one, two = (load_table(data/name) for name in ('truth.csv', 'again.csv'))
    assert len(one) and abs(one[['z1', 'y2']] - two[['z1', 'y2']]).max().max() < 1e-6


def test_a_metric(scratch):
    _, said = scratch('A metric')
    assert re.search(r'recall at any score +1\.0', said)
