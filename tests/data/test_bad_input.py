"Bad input gets one sentence that names the file and the fault, and leaves nothing half written."
import json
from dataclasses import replace
import numpy as np, pandas as pd, pytest, SimpleITK as sitk

from lesionlab.core import DataError, LesionlabError
from lesionlab.ct.volume import Volume
from lesionlab.ct.io import read_image, write_image
from lesionlab.annotations.table import BOX
from lesionlab.phantom.dataset import phantom, write_phantom
from lesionlab.data.layouts import find_cases
from lesionlab.data.splits import split_cases
from lesionlab.data.preprocessing import prepare_all


@pytest.fixture
def folder(tmp_path):
    "Three images with a table of boxes."
    rows = []
    for i in range(3):
        p = phantom(0, i, lesions=1)
        write_image(p.volume, tmp_path/f'p{i}.nii.gz')
        rows += [dict(volume=f'p{i}', **dict(zip(BOX, b))) for b in p.lesions.boxes.tolist()]
    pd.DataFrame(rows).to_csv(tmp_path/'boxes.csv', index=False)
    return tmp_path


def one_sentence(call, *words):
    with pytest.raises(DataError) as e: call()
    text = str(e.value)
    assert '\n' not in text and all(w in text for w in words), text
    assert isinstance(e.value, LesionlabError)


def load(root): return prepare_all(find_cases(root), (2.5, 1.6, 1.6))


def test_good_folder_reads(folder): assert len(load(folder)[0]) == 3


def test_truncated(folder):
    f = folder/'p1.nii.gz'
    f.write_bytes(f.read_bytes()[:5000])
    one_sentence(lambda: load(folder), 'p1.nii.gz', 'damaged')


def test_unreadable(folder):
    (folder/'p1.nii.gz').write_text('no image')
    one_sentence(lambda: load(folder), 'p1.nii.gz', 'damaged')


@pytest.mark.parametrize('ending', ['nii.gz', 'nrrd', 'mha'])
def test_nan(tmp_path, ending):
    a = np.zeros((3, 4, 5), np.float32)
    a[1, 1, 1] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(a), str(tmp_path/f'n.{ending}'))
    one_sentence(lambda: read_image(tmp_path/f'n.{ending}'), f'n.{ending}', '1 voxels are NaN')


def test_four_dimensions(folder):
    img = sitk.ReadImage(str(folder/'p1.nii.gz'))
    sitk.WriteImage(sitk.JoinSeries([img, img]), str(folder/'p1.nii.gz'))
    one_sentence(lambda: load(folder), 'p1.nii.gz', '4 dimensions')


def test_box_outside(folder):
    t = pd.read_csv(folder/'boxes.csv')
    t.loc[1, 'x2'] = 300
    t.to_csv(folder/'boxes.csv', index=False)
    one_sentence(lambda: load(folder), 'p1.nii.gz', 'outside the volume')


def test_unknown_volume(folder):
    (folder/'p1.nii.gz').unlink()
    one_sentence(lambda: find_cases(folder), 'p1', 'no such image')


def test_empty_folder(tmp_path): one_sentence(lambda: find_cases(tmp_path), str(tmp_path), 'no image')


def test_mask_of_another_shape(tmp_path):
    p = phantom(0, 0)
    write_image(p.volume, tmp_path/'imagesTr'/'a.nii.gz')
    write_image(Volume(p.mask[:, :-1], p.volume.spacing), tmp_path/'labelsTr'/'a.nii.gz')
    pair = dict(image='./imagesTr/a.nii.gz', label='./labelsTr/a.nii.gz')
    (tmp_path/'dataset.json').write_text(json.dumps(dict(training=[pair])))
    one_sentence(lambda: find_cases(tmp_path), 'labelsTr/a.nii.gz', '95')
    (tmp_path/'labelsTr'/'a.nii.gz').unlink()
    one_sentence(lambda: find_cases(tmp_path), 'labelsTr/a.nii.gz', 'no such file')


def test_no_lesion_in_training(tmp_path):
    root = write_phantom(tmp_path/'set', volumes=10)
    cases = [replace(c, boxes=c.boxes[:0]) if c.split == 'train' else c for c in find_cases(root)]
    one_sentence(lambda: split_cases(cases), 'training set')


def test_missing_slice_is_set_aside_on_request(tmp_path):
    root = write_phantom(tmp_path/'set', volumes=4)
    (root/'Images_png'/'000002_01_01'/'005.png').unlink()
    one_sentence(lambda: load(root), '000002_01_01', '005.png is missing')
    good, bad = prepare_all(find_cases(root), (2.5, 1.6, 1.6), set_aside=True)
    assert len(good) == 3 and len(bad) == 1 and '005.png' in bad[0]


def test_interrupted_phantom_leaves_nothing(tmp_path, monkeypatch):
    from lesionlab.phantom import dataset as room
    calls = iter(range(99))
    def fail(*a, **k):
        if next(calls) == 2: raise OSError('disk full')
        return room._Written('volume', [], [], [], 'train', '')
    monkeypatch.setattr(room, '_write_one', fail)
    with pytest.raises(OSError, match='disk full'): room.write_phantom(tmp_path/'set', 5)
    assert list(tmp_path.iterdir()) == []
