"What a user gets: wheel and source distribution, each installed by itself outside the repository, and its commands."
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
import pytest

from conftest import ROOT
from lesionlab.annotations.table import annotation_table, save_table, to_rows
from lesionlab.ct.io import write_image
from lesionlab.phantom.dataset import phantom, write_phantom

EXPERIMENTS = sorted(p.name for p in (ROOT/'nbs').glob('*.ipynb'))


def _run(*command, cwd, env=None):
    "Standard output of a command that ends well."
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f'{command}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}'
    return done.stdout


def _files():
    "The repository's files that a build may read, those that are not committed yet among them."
    names = _run('git', 'ls-files', '--cached', '--others', '--exclude-standard', cwd=ROOT).splitlines()
    return [n for n in names if (ROOT/n).is_file() and ('/' not in n or n.startswith(('lesionlab/', 'nbs/')))]


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "Paths of the source distribution, the wheel that was built from it, and the wheel built from the tree."
    folder = tmp_path_factory.mktemp('built')
    for name in _files(): # a clean tree: what an old build/ holds would go into the wheel, too
        (folder/'tree'/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT/name, folder/'tree'/name)
    build = [sys.executable, '-m', 'build', '--no-isolation', '--outdir']
    _run(*build, 'dist', 'tree', cwd=folder)
    _run(*build, 'direct', '--wheel', 'tree', cwd=folder)
    (sdist,), (wheel,), (direct,) = (folder.glob(p) for p in ('dist/*.tar.gz', 'dist/*.whl', 'direct/*.whl'))
    return sdist, wheel, direct


def _contents(wheel):
    "Name: bytes of a wheel's files."
    with zipfile.ZipFile(wheel) as z: return {name: z.read(name) for name in z.namelist()}


def test_wheel_holds_the_package_and_the_experiments(built):
    names = {name for name in _contents(built[1]) if '.dist-info/' not in name}
    package = {name for name in _files() if name.startswith('lesionlab/')}
    assert names == package | {f'lesionlab/notebooks/{name}' for name in EXPERIMENTS}
    assert 'lesionlab/py.typed' in names


def test_sdist_holds_what_a_build_needs(built):
    with tarfile.open(built[0]) as t: names = {name.partition('/')[2] for name in t.getnames()}
    assert {'settings.ini', 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE'} <= names
    assert {name for name in names if name.endswith('.ipynb')} == {f'nbs/{name}' for name in EXPERIMENTS}


def test_wheel_of_the_sdist_equals_the_direct_one(built):
    wheel, direct = map(_contents, built[1:])
    assert wheel.keys() == direct.keys()
    assert [name for name in wheel if wheel[name] != direct[name]] == []


def _install(package, folder):
    """A virtual environment with `package`; the variables of a shell in which it is active.
    Its dependencies are those of the environment that runs the tests."""
    venv.create(folder, with_pip=False)
    python = folder/'bin'/'python'
    site = _run(python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"), end="")', cwd=folder)
    # a folder's own .pth files are not read: an editable lesionlab stays out
    dependencies = [p for p in sys.path if p.endswith('site-packages')]
    with open(f'{site}/dependencies.pth', 'w') as f: f.write('\n'.join(dependencies))
    options = '--no-deps --no-index --no-build-isolation --ignore-installed'.split()
    _run(sys.executable, '-m', 'pip', '--python', python, 'install', *options, package, cwd=folder)
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME')}
    return dict(env, VIRTUAL_ENV=str(folder), PATH=f'{folder/"bin"}{os.pathsep}{env["PATH"]}')


@pytest.mark.parametrize('kind', ['sdist', 'wheel'])
def test_installs_by_itself(built, tmp_path, kind):
    env = _install(built[('sdist', 'wheel').index(kind)], tmp_path/'env')
    where = _run('python', '-c', 'import lesionlab; print(lesionlab.__file__)', cwd=tmp_path, env=env)
    assert where.startswith(str(tmp_path/'env'))
    assert re.fullmatch(r'\d+\.\d+\.\d+\n', _run('lesionlab', '--version', cwd=tmp_path, env=env))


@pytest.fixture(scope='module')
def installed(built, tmp_path_factory):
    "A folder far from the repository with a scan, its truth and a data set; and variables of a shell with the wheel."
    folder = tmp_path_factory.mktemp('elsewhere')
    env = _install(built[1], folder/'env')
    example = phantom(0, 0)
    write_image(example.volume, folder/'ct.nii.gz')
    save_table(annotation_table(to_rows(example.lesions, 'ct', source='phantom')), folder/'truth.csv')
    write_phantom(folder/'phantom', volumes=20)
    return folder, env


def test_every_module_imports(installed):
    folder, env = installed
    code = '''import importlib, pkgutil, lesionlab
for m in pkgutil.walk_packages(lesionlab.__path__, 'lesionlab.'): importlib.import_module(m.name)'''
    _run('python', '-c', code, cwd=folder, env=env)


def test_predict_and_evaluate(installed):
    "The weights that ship, the default folder, and the figures of what was found."
    folder, env = installed
    _run('lesionlab', 'predict', 'ct.nii.gz', cwd=folder, env=env)
    found = folder/'outputs'/'predictions'
    assert {'lesions.csv', 'lesions.json', 'report.html'} <= {p.name for p in found.rglob('*')}
    assert 'AP' in _run('lesionlab', 'evaluate', 'truth.csv', found/'lesions.csv', cwd=folder, env=env)


def test_notebooks_are_copied_out(installed):
    folder, env = installed
    _run('lesionlab', 'notebooks', 'mine', cwd=folder, env=env)
    assert sorted(p.name for p in (folder/'mine').iterdir()) == EXPERIMENTS


def test_train(installed):
    folder, env = installed
    parameters = '-p preset tiny -p steps 4 -p data_root phantom'.split()
    _run('lesionlab', 'train', *parameters, '--out', 'run', cwd=folder, env=env)
    assert json.loads((folder/'run'/'metrics.json').read_text())['steps'] == 4
    assert (folder/'run'/'weights.safetensors').exists()


def test_snippets_of_the_texts(installed):
    "Typed out page by page in a fresh process, beside a scan `ct.nii.gz` and its `truth.csv`."
    folder, env = installed
    pages = [ROOT/'README.md', *sorted((ROOT/'docs').glob('*.md'))]
    snippets = re.compile(r'^```python\n(.*?)^```', re.M | re.S)
    found = {str(p.relative_to(ROOT)): '\n'.join(snippets.findall(p.read_text())) for p in pages}
    assert found['README.md']
    code = f'for page, code in {found!r}.items(): exec(compile(code, page, "exec"), {{}})'
    (folder/'snippets.py').write_text(code)
    _run('python', 'snippets.py', cwd=folder, env=dict(env, MPLBACKEND='agg'))
