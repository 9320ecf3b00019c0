"What all tests share: the repository's root, real data where there is some, markers, and the closing line."
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
os.environ.setdefault('TQDM_DISABLE', '1')
if 'PYTEST_XDIST_WORKER' in os.environ: os.environ.setdefault('OMP_NUM_THREADS', '1') # a process a core
if 'LESIONLAB_TEST_CACHE' not in os.environ: os.environ['LESIONLAB_TEST_CACHE'] = tempfile.mkdtemp()
import phantom_cache # noqa: F401, before any test imports a phantom
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT/'tools'))
counts = dict(passed=0, failed=0)


def papermill(notebook, out, **parameters):
    "Run a notebook with parameters from the repository's root; lists as YAML."
    command = ['papermill', '--no-progress-bar', f'nbs/{notebook}', str(out)]
    for name, value in parameters.items():
        command += ['-y', f'{name}: {value}'] if isinstance(value, list) else ['-p', name, str(value)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope='session')
def real_data():
    "Folder of public CTs and annotations (see CONTRIBUTING); without it the test is skipped, in CI it fails."
    folder = Path(os.environ.get('LESIONLAB_TEST_DATA', ROOT.parent/'shared'/'data'))
    if not folder.is_dir():
        if os.environ.get('CI') == 'true': pytest.fail(f'{folder} is missing, and CI must not skip')
        pytest.skip(f'no real data at {folder}')
    return folder


@pytest.fixture(autouse=True)
def own_phantoms(request, monkeypatch):
    "The tests of the phantom make what they test."
    if request.path.parent.name == 'phantom': monkeypatch.setattr(phantom_cache, 'enabled', False)


# fixtures that take long: their tests are slow, and run in one process, so that each is made once
COSTLY = ('run', 'again', 'planned', 'built', 'scratch')


def _mark(item):
    "Markers that follow from an item's fixtures: `real`, `slow` and the group of a costly one."
    costly = next((f'{item.path.name} {f}' for f in COSTLY if f in item.fixturenames), '')
    if costly: item.add_marker(pytest.mark.xdist_group(costly))
    if costly or 'fresh' in item.fixturenames: item.add_marker(pytest.mark.slow)
    if 'real_data' in item.fixturenames: item.add_marker(pytest.mark.real)
    return costly


def _without_cuda():
    import torch
    return not torch.cuda.is_available()


@pytest.hookimpl(tryfirst=True) # before pytest-xdist looks at the groups
def pytest_collection_modifyitems(items):
    "Tests of one costly fixture together and first; all others wherever a process is free."
    group = {item: _mark(item) for item in items}
    on_gpu = [item for item in items if item.get_closest_marker('gpu')]
    if on_gpu and _without_cuda():
        for item in on_gpu: item.add_marker(pytest.mark.skip(reason='no CUDA'))
    items.sort(key=lambda item: (not group[item], 'labour_budget' not in item.name))


def pytest_runtest_logreport(report):
    if report.failed: counts['failed'] += 1
    elif report.passed and report.when == 'call': counts['passed'] += 1


def pytest_unconfigure(config):
    if hasattr(config, 'workerinput'): return # one line in all
    shutil.rmtree(os.environ['LESIONLAB_TEST_CACHE'], ignore_errors=True)
    print(f"{counts['passed']} passed, {counts['failed']} failed")
