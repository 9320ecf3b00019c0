"""What `import lesionlab as ll` and the command `lesionlab` give.
The names are listed here, in lesionlab/__init__.pyi and in docs/python.md."""
import inspect
import json
import re
import shlex
import subprocess
import sys

import pytest
import typer

import lesionlab as ll
from conftest import ROOT
from lesionlab.apps.main import main
from lesionlab.detectors.registry import shipped_weights
from wings import WINGS

NAMES = (
    'read_image read_annotations Lesions convert ACSConv3d ST3DConv detector_names make_detector load_detector '
    'predict evaluate p3d_evaluate froc stack harvest insert_lesions show scene').split()
COMMANDS = 'predict evaluate convert phantom train harvest run notebooks'.split()
HEAVY = ('torch', 'numpy', 'pandas', 'monai', 'plotly', 'papermill')


def python(code, **options):
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, **options)
    return done.stdout.strip()


def test_names_are_these_and_no_others():
    assert sorted(ll.__all__) == sorted(NAMES)
    for name in NAMES: assert callable(getattr(ll, name)), name


def test_the_guide_lists_them():
    assert re.findall(r'^\| `(\w+)` \|', (ROOT/'docs'/'python.md').read_text(), re.M) == NAMES


@pytest.mark.parametrize('name', NAMES)
def test_public_names_are_fully_typed(name):
    "Every parameter and every result has a type, for editors and type checkers."
    thing = getattr(ll, name)
    signature = inspect.signature(thing) # of a class that of its `__init__`, without `self`
    named = [p for p in signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    assert [p.name for p in named if p.annotation is p.empty] == []
    assert inspect.isclass(thing) or signature.return_annotation is not signature.empty


def test_a_name_is_the_same_however_it_is_loaded():
    "No sub-package hides a function: `harvesting`, not `harvest`."
    wings = '; '.join(f'import lesionlab.{w}' for w in WINGS)
    kinds = python(f'{wings}; import lesionlab as ll; print(*(type(getattr(ll, n)).__name__ for n in {NAMES}))')
    assert len(kinds.split()) == len(NAMES) and set(kinds.split()) <= {'function', 'type', 'ABCMeta'}


def test_import_loads_nothing_heavy():
    assert python(f'import sys, lesionlab; print([m for m in {HEAVY} if m in sys.modules])') == '[]'


def test_the_command_loads_nothing_heavy():
    "So that --help answers at once, on any machine."
    assert python(f'import sys, lesionlab.apps.main; print([m for m in {HEAVY} if m in sys.modules])') == '[]'


def lesionlab(*args, cwd=None):
    return subprocess.run(['lesionlab', *map(str, args)], capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize('command', ['', *COMMANDS])
def test_help(command):
    done = lesionlab(*filter(None, [command]), '--help')
    assert done.returncode == 0 and 'Usage: lesionlab' in done.stdout
    if not command: assert all(c in done.stdout for c in COMMANDS)


@pytest.mark.parametrize('args, says', [
    (('predict', 'none.nii.gz'), 'none.nii.gz: no such file or folder'),
    (('predict', 'x.nii.gz', '--weights', 'sarkoma'), 'those that ship are called demo and sarcoma'),
    (('evaluate', 'none.csv', 'none.csv'), 'none.csv'),
    (('evaluate', 'a.csv', 'b.csv', '--fps', 'one'), "fps is 'one', but must be numbers"),
    (('convert', 'none.csv', 'x.json'), 'none.csv'),
    (('phantom', 'x', '--preset', 'huge'), "preset is 'huge', but the choices are: regional, half, deeplesion, liver"),
    (('train', '-p', 'bakbone', 'i3d'), 'train_vld.ipynb: no parameter is called bakbone; there are: backbone'),
    (('train', '-p', 'detector', 'mscn', '-p', 'backbone', 'i3d'),
     'train_detector.ipynb: no parameter is called backbone'),
    (('harvest', '-p', 'rounds'), 'rounds has no value'),
    (('run', 'train_vdl'), 'train_vdl: no such notebook; there are: benchmarks'),
])
def test_an_error_is_one_sentence(args, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end: main([*args])
    error = capsys.readouterr().err
    assert end.value.code == 2 and len(error.strip().splitlines()) == 1
    assert error.startswith('error: ') and says in error
    assert not list(tmp_path.iterdir())


def test_an_error_ends_the_process(tmp_path):
    done = lesionlab('predict', 'none.nii.gz', cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.endswith('none.nii.gz: no such file or folder\n')


def test_paths_count_from_the_current_folder(tmp_path):
    "A settings.ini above changes nothing."
    (tmp_path/'settings.ini').write_text('[DEFAULT]\nlib_name = other\n')
    (tmp_path/'sub').mkdir()
    assert lesionlab('phantom', 'set', '--volumes', 1, cwd=tmp_path/'sub').returncode == 0
    assert (tmp_path/'sub'/'set'/'DL_info.csv').exists()


def test_weights_that_ship():
    assert set(shipped_weights()) == {'demo', 'sarcoma'}
    for name, file in shipped_weights().items():
        model = ll.load_detector(name)
        assert file.stat().st_size < 1e6 and model.preprocessing
        assert {'trained_on', 'knows', 'data', 'command', 'measured'} <= set(model.about)


def test_every_room_is_in_the_guide():
    text = (ROOT/'docs'/'wings.md').read_text()
    found = [p for p in sorted((ROOT/'nbs').rglob('*.ipynb')) if '.ipynb_checkpoints' not in p.parts]
    there = [str(p.relative_to(ROOT)) for p in found]
    assert sorted(set(re.findall(r'\]\(\.\./(nbs/[\w/]+\.ipynb)\)', text))) == sorted(there)
    assert re.findall(r'^\| `(\w+)` \| ', text.split('| wing |')[1], re.M) == WINGS


def test_the_readme_lists_the_wings():
    assert re.findall(r'^- \[(\w+)\]\(nbs/\1\)', (ROOT/'README.md').read_text(), re.M) == WINGS


def written_commands():
    "Every line of a text's code that calls `lesionlab`."
    for page in (ROOT/'README.md', ROOT/'CONTRIBUTING.md', *sorted((ROOT/'docs').glob('*.md'))):
        blocks = re.findall(r'^```\n(.*?)^```', page.read_text(), re.M | re.S)
        yield from re.findall(r'^lesionlab .*', '\n'.join(blocks), re.M)


def known_parameters(notebook):
    "Names in a notebook's cell of parameters."
    cells = json.loads((ROOT/'nbs'/f'{notebook}.ipynb').read_text())['cells']
    source = next(''.join(c['source']) for c in cells if 'parameters' in c['metadata'].get('tags', []))
    return set(re.findall(r'^(\w+):', source, re.M))


@pytest.mark.parametrize('line', sorted(set(written_commands())))
def test_written_commands_parse(line):
    "Commands and options of the texts exist, and so do the parameters that they pass to notebooks."
    from lesionlab.apps.main import app
    name, *args = shlex.split(line, comments=True)[1:]
    if name == '--version': return
    context = typer.main.get_command(app).commands[name].make_context(name, args)
    given = [pair.split('=')[0] for pair in context.params.get('p') or ()]
    notebook = dict(train='train_detector' if 'detector' in given else 'train_vld', harvest='harvest')
    if given: assert set(given) <= known_parameters(notebook.get(name) or context.params['notebook'])
