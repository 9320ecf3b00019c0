"The main experiment runs by papermill, leaves what it promises, and can be repeated."
import json
import re
import pandas as pd, pytest
from safetensors import safe_open

from conftest import ROOT, papermill
from lesionlab.annotations.table import load_table
from lesionlab.phantom.dataset import write_phantom
from lesionlab.evaluation.metrics import froc
from lesionlab.detectors.registry import load_detector
from lesionlab.experiments.papers import paper_table


@pytest.fixture(scope='module')
def data(tmp_path_factory): return write_phantom(tmp_path_factory.mktemp('data')/'phantom', volumes=20)


@pytest.fixture(scope='module')
def run(tmp_path_factory, data):
    "A tiny seeded run."
    out = tmp_path_factory.mktemp('run')
    done = papermill('train_vld.ipynb', out/'train_vld.ipynb', out_dir=out, preset='tiny', data_root=data, seed=3,
                     points='spr', backbone='acs')
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def test_run_leaves_its_files(run):
    names = {p.name for p in run.iterdir()}
    tables = {'metrics.json', 'parameters.json', 'history.csv', 'detections.parquet', 'truth.parquet'}
    curves = {'froc.html', 'froc.png', 'loss.html', 'loss.png', 'plotly.min.js'}
    pictures = {'scene_found.html', 'scene_found.png', 'slices_found.html', 'slices_found.png'}
    assert tables | curves | pictures | {'weights.safetensors'} <= names
    assert not [n for n in names if n.startswith('.') or 'checkpoint' in n]


def test_parameters_arrive(run):
    m = json.loads((run/'metrics.json').read_text())
    assert (m['seed'], m['parameters']['preset'], m['parameters']['points']) == (3, 'tiny', 'spr')
    assert 1 in m['fps'] and len(m['fps']) == len(m['sensitivity']) == len(m['sensitivity_iou50'])
    assert m['versions']['torch'] and m['commit'] is not None


def test_figures_follow_from_the_tables(run):
    m = json.loads((run/'metrics.json').read_text())
    found, truth = load_table(run/'detections.parquet'), load_table(run/'truth.parquet')
    assert m['n_volumes'] == truth.volume.nunique() and m['n_lesions'] == truth.z1.notna().sum()
    for key, iou in (('sensitivity', .3), ('sensitivity_iou50', .5)):
        assert froc(found, truth, iou).at(m['fps']).round(4).tolist() == m[key]


def test_weights_load_by_themselves(run):
    model = load_detector(run/'weights.safetensors')
    assert model.settings.points == 'spr' and model.preprocessing.spacing == (2.5, 1.6, 1.6)
    with safe_open(run/'weights.safetensors', 'pt') as f: assert set(f.keys()) == set(model.state_dict())


def test_executed_notebook_keeps_its_pictures(run):
    cells = json.loads((run/'train_vld.ipynb').read_text())['cells']
    outputs = [o for c in cells for o in c.get('outputs', [])]
    pictures = sum('application/vnd.plotly.v1+json' in o.get('data', {}) for o in outputs)
    assert pictures in (3, 4) # loss, FROC, found, missed if any
    assert not [o for o in outputs if o['output_type'] == 'error']


def test_tiny_run_repeats_stored_metrics(run):
    """A change of the code that changes the metrics shows here.

    The last digits differ between processors and the difference grows with the steps, so losses may differ by 2, 6
    and 12 percent."""
    stored = json.loads((ROOT/'tests'/'experiments'/'tiny_run.json').read_text())
    history = pd.read_csv(run/'history.csv')
    for column, values in stored['history'].items():
        for ours, value, rel in zip(history[column], values, (.02, .06, .12), strict=True):
            assert ours == pytest.approx(value, rel=rel), column
    m = json.loads((run/'metrics.json').read_text())
    for name in ('n_volumes', 'n_lesions', 'n_parameters'): assert m[name] == stored[name], name


@pytest.mark.parametrize('points,backbone', [('none', 'i3d'), ('drp', 'st3d')])
def test_other_networks_run_from_another_ones_trunk(tmp_path, data, run, points, backbone):
    done = papermill('train_vld.ipynb', tmp_path/'o.ipynb', out_dir=tmp_path, preset='tiny', steps=4, data_root=data,
                     points=points, backbone=backbone, weights=run/'weights.safetensors')
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'tensors loaded, 0 missing' in (tmp_path/'o.ipynb').read_text()
    assert json.loads((tmp_path/'metrics.json').read_text())['steps'] == 4


@pytest.mark.slow
def test_misspelt_parameter_names_those_that_exist(tmp_path):
    done = papermill('train_vld.ipynb', tmp_path/'o.ipynb', bakbone='acs')
    assert done.returncode != 0 and 'no parameter is called bakbone' in done.stderr and 'backbone' in done.stderr


@pytest.mark.slow
def test_missing_slice_stops_the_run(tmp_path):
    root = write_phantom(tmp_path/'set', volumes=10)
    (root/'Images_png'/'000002_01_01'/'005.png').unlink()
    done = papermill('train_vld.ipynb', tmp_path/'o.ipynb', out_dir=tmp_path/'run', preset='tiny', data_root=root)
    assert done.returncode != 0 and '000002_01_01: slice 005.png is missing' in done.stderr
    assert not (tmp_path/'run'/'metrics.json').exists()


@pytest.mark.slow
def test_surface_points_study_runs(tmp_path, data):
    done = papermill('surface_points_study.ipynb', tmp_path/'o.ipynb', out_dir=tmp_path, data_root=data, seeds=1,
                     steps=2)
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads((tmp_path/'metrics.json').read_text())['summary']
    assert set(summary) == {'drp', 'spr', 'spr, eased'} and all(0 <= v['outside_mean'] <= 1 for v in summary.values())


def test_phantom_difficulty_runs(tmp_path, data, run):
    done = papermill('phantom_difficulty.ipynb', tmp_path/'o.ipynb', out_dir=tmp_path, data_root=data, run_dir=run,
                     volumes=20, tuning=2)
    assert done.returncode == 0, done.stderr[-3000:]
    m = json.loads((tmp_path/'metrics.json').read_text())
    assert set(m['sensitivity_at_1fp']) == {'threshold', 'blobs', 'net'}
    assert all(0 <= v <= 1 for v in m['sensitivity_at_1fp'].values())
    with_them, without = m['false_positives'], m['false_positives_without_look_alikes']
    assert m['look_alikes_cost'] == (round(1 - without / with_them, 4) if with_them else None)


@pytest.mark.slow
def test_vld_efficiency_runs(tmp_path):
    done = papermill('vld_efficiency.ipynb', tmp_path/'o.ipynb', out_dir=tmp_path, depth=4, side=32, rounds=1)
    assert done.returncode == 0, done.stderr[-3000:]
    m = json.loads((tmp_path/'metrics.json').read_text())
    nets, paper = m['networks'], paper_table('vld', 'supplement')
    for name in ('2D', '2.5D, slice by slice', '3D'): # counted
        assert nets[name]['parameters, M'] == pytest.approx(paper['parameters, M'][name], rel=.02), name
        assert nets[name]['GFLOPs'] == pytest.approx(paper['GFLOPs'][name], rel=.01), name
    assert nets['P3DC ACS, literal']['GFLOPs'] == pytest.approx(904, abs=1)
    assert nets['P3DC ACS, wider']['GFLOPs'] == pytest.approx(paper['GFLOPs']['P3DC ACS, literal'], rel=.003)
    assert m['difference'] < 1e-4 and (tmp_path/'cost.png').exists()


@pytest.mark.slow
def test_benchmarks_run(tmp_path):
    done = papermill('benchmarks.ipynb', tmp_path/'o.ipynb', out_dir=tmp_path, depth=2, side=32, rounds=1, evaluated=20)
    assert done.returncode == 0, done.stderr[-3000:]
    m = json.loads((tmp_path/'metrics.json').read_text())
    assert m['p3dc']['difference'] < 1e-4
    assert set(m['against_25d']) == {'2.5D, slice by slice', '2.5D, shared', 'P3DC, plain', 'P3DC, fast'}
    assert (tmp_path/'ratios.png').exists()


@pytest.mark.slow
def test_metric_concordance_runs(tmp_path):
    done = papermill('metric_concordance.ipynb', tmp_path/'o.ipynb', out_dir=tmp_path, volumes=60, detectors=6)
    assert done.returncode == 0, done.stderr[-3000:]
    m = json.loads((tmp_path/'metrics.json').read_text())
    assert m['simulated'] and len(m['scores']['skill']) == 6
    assert all(-1 <= r <= 1 for r in m['pearson'].values())


def test_every_experiment_is_run_here():
    "A new experiment notebook needs a smoke run in these tests."
    names = [p.name for p in (ROOT/'nbs').glob('[a-z]*.ipynb')]
    tests = ''.join(p.read_text() for p in (ROOT/'tests').rglob('test_*.py'))
    assert set(names) <= set(re.findall(r"(?:papermill|execute)\(\s*'([\w.]+)'", tests))


@pytest.mark.slow
def test_decathlon_layout_is_cut_off_centre(tmp_path, real_data):
    "The user's line on real CT: recropped, trained, and used on the unlabelled images."
    root = tmp_path/'ct'
    (root/'imagesTs').mkdir(parents=True)
    for part in ('imagesTr', 'labelsTr'): (root/part).symlink_to(real_data/'ct'/part)
    nodule = real_data/'ct'/'imagesTs'/'lst_PartSolidLesionCropped.nii.gz'
    (root/'imagesTs'/'nodule.nii.gz').symlink_to(nodule)
    pairs = json.loads((real_data/'ct'/'dataset.json').read_text())
    (root/'dataset.json').write_text(json.dumps(dict(training=pairs['training'][:8])))
    done = papermill('train_vld.ipynb', tmp_path/'o.ipynb', out_dir=tmp_path/'run', preset='tiny', steps=2,
                     data_root=root, points='none')
    assert done.returncode == 0, done.stderr[-3000:]
    m = json.loads((tmp_path/'run'/'metrics.json').read_text())
    assert m['off_centre'] and all(3.2 < s <= 4 for s in m['grid'][1:]) and 4 < m['grid'][0] < 12
    assert m['n_volumes'] > m['n_lesions'] == 10
    assert (tmp_path/'run'/'slices_nodule.png').exists() and (tmp_path/'run'/'predicted_nodule.parquet').exists()
