"The repository agrees with itself: notebooks clean and exported, versions stated alike."
import configparser, json, multiprocessing, os, re, shutil, subprocess
import pytest, yaml
from packaging.requirements import Requirement
from packaging.version import Version

from conftest import ROOT

from wings import WINGS, imports, rooms

LIBRARY = [f'{wing}/{p.name}' for wing in WINGS for p in sorted((ROOT/'nbs'/wing).glob('*.ipynb'))]
EXPERIMENTS = sorted(p.name for p in (ROOT/'nbs').glob('*.ipynb'))


@pytest.fixture(scope='module')
def again(tmp_path_factory):
    "A copy of the tree, cleaned and exported once more."
    copy = tmp_path_factory.mktemp('tree')/'lesionlab'
    keep = ('nbs', 'lesionlab', 'settings.ini', 'setup.py', 'pyproject.toml', 'README.md')
    ignored = shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints')
    for name in keep:
        if (ROOT/name).is_dir(): shutil.copytree(ROOT/name, copy/name, ignore=ignored)
        else: shutil.copy(ROOT/name, copy/name)
    for command in ('nbdev_clean', 'nbdev_export'): subprocess.run([command], cwd=copy, check=True)
    return copy


@pytest.mark.parametrize('name', LIBRARY + EXPERIMENTS)
def test_notebook_is_clean(again, name):
    assert (again/'nbs'/name).read_text() == (ROOT/'nbs'/name).read_text(), f'{name}: run nbdev_clean'


def _modules(root): return {p.relative_to(root): p.read_text() for p in (root/'lesionlab').rglob('*.py')}


def test_modules_are_exported(again):
    assert _modules(ROOT) == _modules(again), 'run nbdev_export'


def _nbdev_test(path, log):
    "Run by a process of its own, which has the library's packages imported already."
    with open(log, 'w') as f:
        for stream in (1, 2): os.dup2(f.fileno(), stream)
    os.chdir(path.parent)
    import phantom_cache
    phantom_cache.enabled = path.parent.name != 'phantom'
    from nbdev.test import nbdev_test
    nbdev_test(str(path))


@pytest.fixture(scope='session')
def fresh():
    "Fresh processes at the price of a fork."
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['phantom_cache', 'nbdev.test', 'nbdev.showdoc', 'matplotlib.pyplot',
                                    'lesionlab.experiments.detection', 'lesionlab.experiments.sweep'])
    return context


@pytest.mark.parametrize('name', LIBRARY)
def test_notebook(fresh, name, tmp_path):
    "Every cell of a library notebook runs, its tests included."
    process = fresh.Process(target=_nbdev_test, args=(ROOT/'nbs'/name, tmp_path/'log'))
    process.start()
    process.join()
    assert process.exitcode == 0, (tmp_path/'log').read_text()[-6000:]
    assert not (ROOT/'nbs'/name).with_name('outputs').exists(), f'{name}: writes beside itself'


def test_notebook_outputs_are_small():
    for name in LIBRARY:
        cells = json.loads((ROOT/'nbs'/name).read_text())['cells']
        assert sum(len(json.dumps(c.get('outputs', []))) for c in cells) < 400_000, f'{name}: outputs too heavy'
    for name in EXPERIMENTS:
        cells = json.loads((ROOT/'nbs'/name).read_text())['cells']
        assert not any(c.get('outputs') for c in cells), f'{name}: experiment notebooks are committed without outputs'
        tagged = sum('parameters' in c['metadata'].get('tags', []) for c in cells)
        assert tagged == 1, f'{name}: needs one parameters cell'


def test_folders_of_notebooks_are_the_wings():
    folders = {p.name for p in (ROOT/'nbs').iterdir() if p.is_dir() and not p.name.startswith('.')}
    assert folders == set(WINGS)
    for wing in WINGS:
        numbers = [p.name[:2] for p in sorted((ROOT/'nbs'/wing).glob('*.ipynb'))]
        wanted = [f'{i:02}' for i in range(len(numbers))]
        assert numbers == wanted, f'nbs/{wing}: number its notebooks from 00 without a gap'


def test_every_module_is_a_room():
    package = ROOT/'lesionlab'
    names = {str(p.relative_to(package).with_suffix('')).replace('/', '.') for p in package.rglob('*.py')}
    assert {m for m in names if not m.endswith('__init__') and m != '_modidx'} == set(rooms())


@pytest.mark.parametrize('module', rooms())
def test_rooms_import_one_way(module):
    "A room imports from wings above its own, and in its wing from notebooks of a lower number."
    order = rooms()
    for other in imports(module): assert order[other] < order[module], f'{module} imports {other}'


@pytest.mark.parametrize('command', [
    'ruff check', 'python tools/check_code.py', pytest.param('basedpyright', marks=pytest.mark.slow)])
def test_make_check(command):
    done = subprocess.run(command.split(), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]


def _settings():
    cfg = configparser.ConfigParser(delimiters=['='])
    cfg.read(ROOT/'settings.ini')
    return cfg['DEFAULT']


def _project(name): return name.lower().replace('_', '-')


def _pins(name):
    "Project: version of a file of constraints."
    pins = dict(l.split('==') for l in (ROOT/name).read_text().splitlines() if '==' in l)
    return {_project(k): v for k, v in pins.items()}


def test_versions_agree():
    """settings.ini and environment.yml state the same ranges.

    The versions of constraints.txt are inside them, those of constraints-oldest.txt at their lower end."""
    cfg = _settings()
    ranges = {str(Requirement(r)) for r in (cfg['requirements'] + ' ' + cfg['dev_requirements']).split()}
    lines = (ROOT/'environment.yml').read_text().split('- pip:')[1].splitlines()
    conda = {str(Requirement(l.strip()[2:])) for l in lines if l.strip().startswith('- ') and '-e' not in l}
    assert ranges == conda
    pins = _pins('constraints.txt')
    for r in map(Requirement, ranges):
        pin = pins[_project(r.name)]
        assert pin in r.specifier, f'{r} does not hold for {pin}'
    assert Version('2.8') in Requirement(next(r for r in ranges if r.startswith('torch'))).specifier
    needed = map(Requirement, cfg['requirements'].split())
    lower = {_project(r.name): s.version for r in needed for s in r.specifier if s.operator == '>='}
    oldest = _pins('constraints-oldest.txt')
    assert {k: Version(v) for k, v in oldest.items()} == {k: Version(v) for k, v in lower.items()}


def _sources(notebook):
    return [''.join(c['source']) for c in json.loads((ROOT/'nbs'/f'{notebook}.ipynb').read_text())['cells']]


def test_train_detector_is_train_vld_but_for_the_name_of_the_net():
    "Two notebooks for two ways to name a net; what they do with it must stay the same."
    differ = [a for a, b in zip(_sources('train_vld'), _sources('train_detector'), strict=True) if a != b]
    assert len(differ) == 3
    assert differ[0].startswith('# Train') and 'preset:str' in differ[1] and 'core.read_parameters' in differ[2]


def test_results_are_written_from_what_was_measured():
    """What the runs left is what docs/results.md, the README's short form and the ledger say.

    Each figure has its origin."""
    from make_results import written
    from lesionlab.experiments.ledger import ORIGIN, load_ledger, read_lines
    measured, files = written()
    for path, text in files.items(): assert path.read_text() == text, f'{path.name}: run tools/make_results.py'
    lines = json.loads(json.dumps(list(measured.lines.values())))
    assert read_lines(ROOT/'docs'/'ledger.jsonl') == lines, 'ledger.jsonl: run tools/make_results.py'
    ledger = load_ledger(ROOT/'docs'/'ledger.jsonl')
    assert not ledger[list(ORIGIN)].isna().any(axis=None)
    assert not ledger.command.str.contains('/work|/tmp|/root', regex=True).any()


TEXTS = sorted(p for p in (*ROOT.glob('*.md'), *ROOT.glob('docs/*.md'), *ROOT.glob('lesionlab/weights/*.md')))


@pytest.mark.parametrize('page', TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_of_the_texts(page):
    "What a page links to exists; anchors and pages of the site are checked when it is built."
    links = re.findall(r'\]\((?!\w+:|#)([^)#\s]+)', page.read_text())
    missing = [link for link in links if not (page.parent/link).exists()]
    assert not missing


def test_make_targets_of_the_texts_exist():
    targets = set(re.findall(r'^(\w+):', (ROOT/'Makefile').read_text(), re.M))
    named = {t for page in TEXTS for t in re.findall(r'(?:^|`)make (\w+)', page.read_text(), re.M)}
    assert named <= targets


def test_citation_states_the_version():
    assert yaml.safe_load((ROOT/'CITATION.cff').read_text())['version'] == _settings()['version']


def test_pre_commit_has_the_tested_versions():
    pins = _pins('constraints.txt')
    repo = yaml.safe_load((ROOT/'.pre-commit-config.yaml').read_text())['repos'][0]
    assert repo['rev'] == pins['nbdev']
    for hook in repo['hooks']:
        assert dict(d.split('==') for d in hook['additional_dependencies']).items() <= pins.items()
