"On public CTs and on DeepLesion's own tables."
import json, subprocess, sys
import numpy as np, pytest

from lesionlab.ct.volume import AIR, to_world
from lesionlab.ct.io import read_image
from lesionlab.ct.spatial import resample
from lesionlab.annotations.table import BOX, SPACING
from lesionlab.annotations.recist import recist_to_3d
from lesionlab.annotations.deeplesion import from_dl_info
from lesionlab.data.layouts import find_cases
from lesionlab.data.splits import split_cases
from lesionlab.data.recropping import cut_off_centre, crop_leakage
from lesionlab.data.planning import plan_spacing


@pytest.fixture(scope='module')
def cases(real_data): return find_cases(real_data/'ct')


def corners(ranges):
    "A box of (first, last) voxel of each axis, both included."
    return [first for first, _ in ranges] + [last + 1 for _, last in ranges]


def test_masks_become_the_boxes_of_the_manifest(real_data, cases):
    known = {e['name']: e for e in json.loads((real_data/'ct'/'manifest.json').read_text())}
    assert len(cases) == 24
    for c in cases:
        e = known[c.name]
        assert c.geometry()[0] == tuple(e['shape_xyz'][::-1])
        theirs = [corners(l['box_vox'][::-1]) for l in e['lesions']]
        assert sorted(c.boxes.tolist()) == sorted(map(list, np.array(theirs, float).tolist())), c.name


def test_abdomen_is_read_with_padding_as_air(real_data):
    ct = read_image(real_data/'ct'/'imagesTs'/'crlm_1004.nii.gz')
    assert ct.shape == (41, 512, 512) and ct.array.min() == AIR and ct.array.dtype == np.int16
    grid = resample(ct, (4, 4, 4))
    of_ct = np.array(ct.shape)[None] * [[0], [1]] # first and last corner
    of_grid = np.array(grid.shape)[None] * [[0], [1]]
    np.testing.assert_allclose(to_world(grid, of_grid), to_world(ct, of_ct), atol=1e-6)
    assert abs(grid.array.mean(dtype=float) - ct.array.mean(dtype=float)) < 2 # HU


def test_shapes_give_the_tumours_away_until_cut_again(cases):
    assert crop_leakage(cases) > .9
    splits = cut_off_centre(split_cases(cases, 0), 0)
    assert {s: len({c.patient for c in part}) for s, part in splits.items()} == dict(train=15, validation=3, test=6)
    assert sum(len(c.boxes) for c in splits['test']) == 30 and any(len(c.boxes) == 0 for c in splits['test'])
    assert max(crop_leakage(splits[s]) for s in ("train", "test")) < .4
    assert plan_spacing(splits['train']) == (4., 4., 4.)


def test_a_cut_is_where_it_says(cases):
    cut = cut_off_centre(dict(test=cases[:1]), 0)['test'][0]
    whole, part = cases[0].read(), cut.read()
    in_part, in_whole = (boxes[:, :3].numpy() for boxes in (cut.boxes, cases[0].boxes))
    np.testing.assert_allclose(to_world(part, in_part), to_world(whole, in_whole), atol=1e-3)


def test_recist_marks_of_deeplesion(real_data):
    table = recist_to_3d(from_dl_info(real_data/'deeplesion'/'DL_info_part.csv'))
    assert len(table) == 5050 and table.volume.str.fullmatch(r'\d{6}_\d\d_\d\d_\d{3}-\d{3}').all()
    size = (table[BOX[3:]].to_numpy() - table[BOX[:3]].to_numpy()) * table[SPACING].to_numpy()
    side = size[:, 1:].max(1)
    assert 12 < np.median(side) < 20 and (size > 0).all() # mm; the README of the data: boxes' larger side, median 14.4
    assert set(table.split) == {'train', 'validation', 'test'} and (table.split == 'test').sum() == 4927


def test_whole_abdomen_in_bounded_memory(real_data):
    "41 x 512 x 512 on its own grid, by the small net, in under 4 GiB."
    code = f'''
import resource, torch
from lesionlab.ct.io import read_image
from lesionlab.data.preprocessing import Preprocessing
from lesionlab.detectors.registry import make_detector
from lesionlab.engine.inference import predict
ct = read_image({str(real_data/"ct"/"imagesTs"/"crlm_1004.nii.gz")!r})
found = predict(make_detector('vld_acs_spr', 'small').eval(), ct, Preprocessing(ct.spacing), score_thresh=.2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout.split()[-1]) < 4
