"The registry of annotation formats, and the row-wise IoU against the two formulas that it replaced."
import json
import numpy as np, pandas as pd, pytest, torch

from lesionlab.core import DataError, ParameterError
from lesionlab.annotations.boxes import iou3d, iou_rows
from lesionlab.annotations.table import BOX, annotation_table
from lesionlab.annotations.io import (
    FORMATS, Format, format_of, lacks_columns, read_annotations, register, what_is_lost, write_annotations, writers,
)
from lesionlab.apps.convert import convert_annotations


@pytest.fixture
def table():
    box = dict(zip(BOX, [1, 2, 3, 4, 6, 8]))
    return annotation_table([dict(volume=v, **box, score=.5, organ='liver') for v in 'ab'])


def write_tabs(table, path, **_): table[['volume', *BOX]].to_csv(path, index=False, sep='\t')
def read_tabs(path, **_): return annotation_table(pd.read_csv(path, sep='\t'), str(path))


@pytest.fixture
def tabs():
    "One entry more for the time of a test."
    register(Format('tabs', ('.tsv',), read_tabs, write_tabs, loses=(lambda table, geometry: 'scores are not kept',)))
    yield
    del FORMATS['tabs']


def test_a_format_is_one_entry(tabs, table, tmp_path):
    "Once registered, reading, writing, warning and conversion know it, and so do their messages."
    assert format_of('x.tsv') == 'tabs' and 'tabs' in writers()
    assert read_annotations(write_annotations(table, tmp_path/'t.tsv'))[BOX].equals(table[BOX])
    assert what_is_lost(table, 'tabs') == ['scores are not kept']
    done = convert_annotations(tmp_path/'t.tsv', tmp_path/'t.json')
    assert done.table.volume.tolist() == ['a', 'b'] and done.lost == []
    assert convert_annotations(tmp_path/'t.json', tmp_path/'u.csv', 'tabs').lost == ['scores are not kept']
    (tmp_path/'x.xyz').write_text('')
    with pytest.raises(DataError, match=r'those end in .*\.tsv'): read_annotations(tmp_path/'x.xyz')
    with pytest.raises(ParameterError, match='the formats are: .*tabs'): write_annotations(table, tmp_path/'x.xyz')
    with pytest.raises(ParameterError, match='the choices are: .*tabs'):
        write_annotations(table, tmp_path/'x.csv', 'yolo')
    with pytest.raises(ParameterError, match='tabs: there is a format of this name'): register(FORMATS['tabs'])


def test_what_endings_mean():
    meant = {'DL_info.csv': 'dl_info', 'DL_info_part.csv': 'dl_info', 'a.csv': 'table', 'A.CSV': 'table',
             'a.parquet': 'table', 'a.json': 'coco', 'a.pkl': 'boxes', 'labelsTr': 'nndetection'}
    assert {name: format_of(name) for name in meant} == meant
    for name in ('a.mrk.json', 'a.txt', 'a.xlsx'):
        with pytest.raises(ParameterError, match='what format this shall be'): format_of(name)
    assert set(writers()) == {'table', 'dl_info', 'recist', 'recist.annot', 'boxes', 'tracklets', 'coco', 'monai',
                              'slicer', 'nndetection'}


def test_what_is_lost(table):
    deep = '2 boxes are deeper than a slice: each is written on its middle slice only'
    scores, columns = 'scores are not kept', 'columns are not kept: organ'
    lost = {'table': [], 'coco': [], 'dl_info': [scores],
            'recist': [deep, scores, columns], 'recist.annot': [deep, scores, columns],
            'boxes': [scores, columns], 'tracklets': ['boxes are the same on all their slices', columns],
            'monai': [scores, columns], 'nndetection': [scores, columns], 'slicer': [columns]}
    assert {kind: what_is_lost(table, kind) for kind in lost} == lost


@pytest.mark.parametrize('data, says', [
    (3, 'COCO style has'), ([1], 'MONAI'), ({'training': [3]}, 'Slicer'),
    ({'markups': []}, 'no volume among the images'),
    ({'images': 3}, 'is no COCO-style JSON')])
def test_json_that_is_none(tmp_path, data, says):
    (tmp_path/'a.json').write_text(json.dumps(data))
    with pytest.raises(DataError, match=says): read_annotations(tmp_path/'a.json')


def test_a_csv_without_columns_says_which():
    lacks = lacks_columns(['volume', *BOX])
    assert lacks(['volume', *BOX], None) == '' and lacks(['volume', *BOX[:5]], None) == 'the table lacks the column x2'


def plain_boxes(a, b, axes):
    "As tables were matched before: IoU of voxel boxes over some axes."
    low, high = np.maximum(a[:, :3], b[:, :3])[:, axes], np.minimum(a[:, 3:], b[:, 3:])[:, axes]
    inter = np.maximum(high - low, 0).prod(1)
    size_a, size_b = ((boxes[:, 3:] - boxes[:, :3])[:, axes].prod(1) for boxes in (a, b))
    return inter / (size_a + size_b - inter)


def plain_pixels(a, b):
    "The authors': widths in pixels, a union of 1e-6 at least."
    wide = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]) + 1, 0)
    inter = wide[:, 0] * wide[:, 1]
    area = [(v[:, 2] - v[:, 0] + 1) * (v[:, 3] - v[:, 1] + 1) for v in (a, b)]
    return inter / np.maximum(area[0] + area[1] - inter, 1e-6)


def some_boxes(rng, n, axes):
    low = rng.uniform(-20, 500, (n, axes))
    return np.concatenate([low, low + rng.uniform(-.999, 60, (n, axes))], 1)


@pytest.mark.parametrize('dtypes', [(float, float), (np.float32, float), (np.float32, np.float32), (int, np.float32)])
def test_rowwise_iou_to_the_last_digit(dtypes):
    rng = np.random.default_rng(0)
    a = some_boxes(rng, 20_000, 3).astype(dtypes[0])
    b = (a + rng.normal(0, 6, a.shape)).astype(dtypes[1])
    plane, xyxy = [1, 2, 4, 5], [2, 1, 5, 4]
    with np.errstate(all='ignore'):
        pairs = [(iou_rows(a, b), plain_boxes(a, b, [0, 1, 2])),
                 (iou_rows(a[:, plane], b[:, plane]), plain_boxes(a, b, [1, 2])),
                 (iou_rows(a[:, xyxy], b[:, xyxy], pixels=1, min_union=1e-6), plain_pixels(a[:, xyxy], b[:, xyxy]))]
    for got, want in pairs:
        assert got.dtype == want.dtype and got.tobytes() == want.tobytes()


def test_rowwise_iou_broadcasts_and_agrees_with_tensors():
    rng = np.random.default_rng(1)
    a, b = (np.abs(some_boxes(rng, 8, 3)) for _ in 'ab')
    a[:, 3:], b[:, 3:] = a[:, :3] + 90, b[:, :3] + 120
    np.testing.assert_allclose(iou_rows(a[:, None], b), iou3d(torch.tensor(a), torch.tensor(b)), rtol=1e-12)
