"Every detector of the registry learns, answers and is saved; their tables are made by one command."
import json
import pytest, torch

from conftest import papermill
from lesionlab.ct.volume import Volume
from lesionlab.annotations.boxes import iou3d
from lesionlab.phantom.dataset import phantom, write_phantom
from lesionlab.phantom.liver import write_multiphase
from lesionlab.data.crops import Batch
from lesionlab.data.preprocessing import Preprocessing
from lesionlab.detectors.registry import detector_names, load_detector, make_detector, save_detector
from lesionlab.engine.inference import predict
from lesionlab.experiments.ledger import ORIGIN, load_ledger


@pytest.fixture(scope='module')
def part():
    "Half of a phantom's slices' area, with its three lesions."
    ph = phantom(0, 3)
    corner = torch.tensor([4., 32, 0] * 2)
    return Volume(ph.volume.array[4:, 32:, :48], ph.volume.spacing), ph.lesions.boxes - corner


@pytest.mark.parametrize('name', detector_names())
def test_detector_learns_one_volume_by_heart(name, part, tmp_path):
    volume, boxes = part
    torch.manual_seed(0)
    pre = Preprocessing(volume.spacing)
    net, image = make_detector(name, 'tiny', prior_size=(4., 12., 12.)).train(), pre.image(volume.array)[None]
    adam, losses = torch.optim.Adam(net.parameters(), 3e-3), []
    for step in range(60):
        if step == 40: adam.param_groups[0]['lr'] /= 10
        loss = net.loss(net(image), Batch([boxes], progress=step / 60))['total']
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < .5 * losses[0]
    found = predict(net.eval(), volume, pre)
    overlap = iou3d(boxes, found.boxes).max(1).values
    thin = name.startswith(('mscn', 'centernet_2d', 'faster')) # a stack makes thin lesions too deep
    assert overlap.mean() > (.3 if thin else .5)
    again = load_detector(save_detector(net, tmp_path/'w.safetensors', pre))
    same = predict(again, volume, pre)
    assert torch.allclose(found.boxes, same.boxes, atol=1e-4) and torch.allclose(found.scores, same.scores, atol=1e-5)


@pytest.fixture(scope='module')
def data(tmp_path_factory): return write_phantom(tmp_path_factory.mktemp('data')/'phantom', volumes=20)


def test_tables_of_vld_and_what_is_done_is_not_done_again(tmp_path, data):
    rows, table = 'vld_acs_none centernet_3d', dict(data_root=data, out_dir=tmp_path/'out', preset='tiny', steps=4)
    done = papermill('vld_tables.ipynb', tmp_path/'o.ipynb', names=rows, **table)
    assert done.returncode == 0, done.stderr[-3000:]
    m = json.loads((tmp_path/'out'/'metrics.json').read_text())
    assert m['failed'] == [] and m['synthetic']
    assert list(m['table_1']['ours Avg.']) == rows.split() and m['table_1']['paper Avg.']['centernet_3d'] == 18.7
    assert (tmp_path/'out'/'figure_5.png').exists() and m['table_2']['paper > 50 mm']['vld_acs_none'] == 57.7
    ledger = load_ledger(tmp_path/'ledger.jsonl')
    assert ledger.command.str.startswith('papermill nbs/vld_tables.ipynb OUT.ipynb').all()
    assert ledger[list(ORIGIN)].notna().all(axis=None)
    assert (ledger.figure == 'table_1 / ours Avg. / centernet_3d').sum() == 1
    before = {f: f.stat().st_mtime_ns for f in tmp_path.rglob('weights.safetensors')}
    assert len(before) == 2
    done = papermill('vld_tables.ipynb', tmp_path/'o.ipynb', names='vld_acs_none', **table)
    assert done.returncode == 0, done.stderr[-3000:]
    assert all(f.stat().st_mtime_ns == t for f, t in before.items())
    again = json.loads((tmp_path/'out'/'metrics.json').read_text())
    assert list(again['table_1']['ours Avg.']) == ['vld_acs_none']


def test_phases_of_a_dynamic_ct_are_the_channels(tmp_path):
    root = write_multiphase(tmp_path/'liver', patients=8)
    table = dict(data_root=root, out_dir=tmp_path/'out', preset='tiny', steps=4)
    phases, names = ['portal', 'arterial'], 'vld_acs_spr faster_rcnn'
    done = papermill('vld_tables.ipynb', tmp_path/'o.ipynb', phases=phases, names=names, **table)
    assert done.returncode == 0, done.stderr[-3000:]
    m = json.loads((tmp_path/'out'/'metrics.json').read_text())
    assert m['synthetic'] and m['table_1']['paper Avg.'] == dict(vld_acs_spr=70.2)
    assert m['table_2']['paper 0-50 mm'] == dict(vld_acs_spr=65.7)
    assert 'faster_rcnn sees one phase of a CT, but the data has portal, arterial' in m['failed'][0]['error']
    net = load_detector(next(tmp_path.rglob('weights.safetensors')))
    assert net.settings.channels == 2


def test_unknown_detector_names_those_that_exist(tmp_path):
    done = papermill('train_detector.ipynb', tmp_path/'o.ipynb', detector='vld_acs')
    assert done.returncode != 0 and 'vld_acs_spr' in done.stderr and 'centernet_3d' in done.stderr
