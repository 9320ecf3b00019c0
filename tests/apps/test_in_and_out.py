"Scans and annotations in, predictions out: good and bad input, and the formats of other tools."
import gzip, json, os, pickle
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
import nibabel as nib, numpy as np, pandas as pd, pydicom, pytest, SimpleITK as sitk, torch

from lesionlab.core import DataError
from lesionlab.ct.volume import Volume
from lesionlab.ct.io import read_image, to_sitk, write_image
from lesionlab.ct.png16 import write_png_series
from lesionlab.ct.dicom import read_dicom, write_dicom
from lesionlab.annotations.table import BOX, Lesions, annotation_table, to_rows
from lesionlab.annotations.recist import from_deeplesion, recist_axes
from lesionlab.annotations.deeplesion import from_authors, from_dl_info, load_pickle, save_pickle
from lesionlab.annotations.exchange import MM, boxes_to_mm, lesion_table, to_label_map, to_markups, to_monai
from lesionlab.annotations.io import read_annotations, write_annotations
from lesionlab.phantom.dataset import phantom, write_phantom
from lesionlab.data.scans import find_scans
from lesionlab.data.preprocessing import Preprocessing
from lesionlab.detectors.registry import load_detector, make_detector, save_detector
from lesionlab.engine.inference import predict
from lesionlab.apps.predict import predict_scans, write_prediction
from lesionlab.apps.evaluate import match_files
from lesionlab.apps.main import main


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp('weights')/'w.safetensors'
    torch.manual_seed(0)
    return save_detector(make_detector('vld_acs_spr', 'tiny'), path, Preprocessing((4., 4., 4.)))


def command(name, *args):
    "A command of the package: its exit status and what it prints."
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end: main([name, *map(str, args)])
    return SimpleNamespace(returncode=end.value.code or 0, stdout=out.getvalue(), stderr=err.getvalue())


CT = phantom(0, 3).volume


AFFINE = np.diag([1.6, 1.6, 2.5, 1.])


def write_nifti(path, array, affine=AFFINE):
    "As nibabel writes it, which checks less than we read."
    path.write_bytes(gzip.compress(nib.Nifti1Image(array, affine).to_bytes()))


def write_bad_files(folder):
    "Files that can't be used; name: a word of the reason."
    def path(name): return folder/f'{name}.nii.gz'
    good, values = write_image(CT, folder.parent/'good.nii.gz'), CT.array.T
    path('truncated').write_bytes(good.read_bytes()[:good.stat().st_size // 2])
    path('zero').write_bytes(b'')
    path('magic').write_bytes(b'MZ' + bytes(4000))
    with_nan = values.astype(np.float32)
    with_nan[3, 4, 5] = np.nan
    write_nifti(path('nan'), with_nan)
    write_nifti(path('complex'), values.astype(np.complex64))
    write_nifti(path('four'), np.stack([values] * 2, -1))
    raw = bytearray(nib.Nifti1Image(values, AFFINE).to_bytes())
    raw[88:92] = bytes(4)
    path('flat').write_bytes(gzip.compress(bytes(raw)))
    write_nifti(path('sheared'), values, AFFINE + np.array([[0, 0, 1.5, 0]] + [[0] * 4] * 3))
    write_nifti(path('eight_bit'), (np.random.default_rng(0).random(values.shape) * 255).astype(np.uint8))
    path('link').symlink_to(good)
    return dict(truncated='damaged', zero='damaged', magic='damaged', nan='1 voxels are NaN', complex='complex',
                four='4 dimensions', flat='mm (z y x), which can', sheared='right angles', eight_bit='not HU',
                link='leads out of')


def write_bad_series(folder):
    "Folders of slices that can't be used; name: a word of the reason."
    for name in ('no_slope', 'missing_slice', 'double_slice', 'torn_slice'): write_dicom(CT, folder/name)
    for path in (folder/'no_slope').iterdir():
        ds = pydicom.dcmread(path)
        del ds.RescaleIntercept
        ds.save_as(path)
    (folder/'missing_slice'/'0004.dcm').unlink()
    (folder/'double_slice'/'x.dcm').write_bytes((folder/'double_slice'/'0004.dcm').read_bytes())
    torn = folder/'torn_slice'/'0004.dcm'
    torn.write_bytes(torn.read_bytes()[:-900])
    write_png_series(CT, folder/'pngs')
    return dict(no_slope='no RescaleIntercept', missing_slice='1 slice(s) missing', double_slice='same place',
                torn_slice='0004.dcm', pngs='spacing only a DL_info.csv would tell')


def test_bad_volumes_do_not_stop_the_others(tmp_path, weights):
    "Fifty volumes, fifteen of them bad in fifteen ways: each has its sentence, and the others are predicted."
    folder = tmp_path/'scans mit Umlaut ü'
    folder.mkdir()
    small = replace(CT, array=CT.array[4:12, 16:64, 16:64])
    for i in range(35): write_image(small, folder/f'volume {i:02d}.nii.gz')
    says = write_bad_files(folder) | write_bad_series(folder)
    table = predict_scans([folder], weights, tmp_path/'out', report=False).set_index('volume')
    assert table.status.value_counts().to_dict() == dict(done=35, failed=15)
    for name, word in says.items():
        row = table[[name in Path(str(v)).name for v in table.index]].iloc[0]
        assert row.status == 'failed'
        assert word in row.reason and name in row.reason and '\n' not in row.reason, (name, row.reason)
    failed = pd.read_csv(tmp_path/'out'/'failed.csv')
    assert len(failed) == 15 and not any((tmp_path/'out').glob('.*'))
    assert set(pd.read_csv(tmp_path/'out'/'lesions.csv').volume) <= set(table.index[table.status == 'done'])


def test_exit_codes_and_messages(tmp_path, weights):
    scans, out = tmp_path/'in', tmp_path/'out'
    write_image(CT, scans/'a.nii.gz')
    done = command('predict', scans, '--weights', weights, '--out', out, '--no-report')
    assert done.returncode == 0 and '1 volumes predicted' in done.stdout and not (out/'a'/'report.html').exists()
    (scans/'b.nrrd').write_text('x')
    bad = command('predict', scans, '--weights', weights, '--out', out, '--no-report')
    assert bad.returncode == 1 and 'b.nrrd' in bad.stderr and '1 as before, 1 failed' in bad.stdout
    for args in ((tmp_path/'none', '--weights', weights, '--out', tmp_path/'o'),
                 (scans, '--weights', tmp_path/'none', '--out', tmp_path/'o'),
                 (scans, '--weights', weights, '--oot', 'x')):
        wrong = command('predict', *args)
        assert wrong.returncode == 2 and 'Traceback' not in wrong.stderr and not (tmp_path/'o').exists(), wrong.stderr
    assert command('evaluate', tmp_path/'none.csv', tmp_path/'x.json').returncode == 2


PRIVATE = dict(PatientName='Mustermann^Erika', PatientID='ID4711', PatientBirthDate='19640812',
               InstitutionName='Charite', SeriesDescription='Secret protocol')
UIDS = 'SeriesInstanceUID', 'StudyInstanceUID', 'SOPInstanceUID'


def test_no_name_of_a_patient_leaves_the_header(tmp_path, weights):
    secrets = {'Mustermann', 'ID4711', '19640812', 'Charite', 'Secret protocol'}
    write_dicom(CT, tmp_path/'in'/'series')
    for path in (tmp_path/'in'/'series').iterdir():
        ds = pydicom.dcmread(path)
        for tag, value in PRIVATE.items(): setattr(ds, tag, value)
        secrets |= {str(getattr(ds, tag)) for tag in UIDS}
        ds.save_as(path)
    predict_scans([tmp_path/'in'], weights, tmp_path/'out')
    for path in (tmp_path/'out').rglob('*'):
        if not path.is_file(): continue
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.name.endswith('.gz') else raw).decode('latin1')
        assert not any(word in text for word in secrets), path


ORIENTATIONS = ['LPS', 'RAS', 'LAS', 'PSR', 'ASL', 'SAL']


def oriented(axes, angle=0.):
    "A volume with a bright block, its axes as named, perhaps oblique; and the block's box in voxels."
    c, s = np.cos(angle), np.sin(angle)
    array = np.full((12, 30, 40), -1000, np.int16)
    array[3:6, 8:15, 20:32] = 500
    image = to_sitk(Volume(array, (5., .8, .7), (-100., 20., 300.), (c, -s, 0, s, c, 0, 0, 0, 1)))
    image = sitk.DICOMOrient(image, axes)
    geometry = image.GetSpacing()[::-1], image.GetOrigin(), image.GetDirection()
    v = Volume(sitk.GetArrayFromImage(image), *geometry, 'block')
    at = np.argwhere(v.array == 500)
    return v, image, torch.tensor([[*at.min(0), *(at.max(0) + 1)]], dtype=torch.float32)


def bits(c): return c >> 0 & 1, c >> 1 & 1, c >> 2 & 1


def corners_of(image, box):
    "(8, 3) corners of a box in the world, by SimpleITK's own transform."
    ends = box.reshape(2, 3).flip(1).tolist() # x y z
    indices = [[ends[b][a] - .5 for a, b in enumerate(bits(c))] for c in range(8)]
    return np.array([image.TransformContinuousIndexToPhysicalPoint(i) for i in indices])


def corners_of_roi(roi):
    "(8, 3) corners of Slicer's ROI in the world."
    rotation, half = np.array(roi['orientation']).reshape(3, 3), np.array(roi['size']) / 2
    signs = 2 * np.array([bits(c) for c in range(8)]) - 1
    return np.array(roi['center']) + (signs * half) @ rotation.T


@pytest.mark.parametrize('axes', ORIENTATIONS)
@pytest.mark.parametrize('angle', [0., .3])
def test_boxes_are_where_simpleitk_says(tmp_path, axes, angle):
    "The eight corners of a block in the world, compared with every format that has its place."
    v, image, box = oriented(axes, angle)
    corners = corners_of(image, box)
    low, high = corners.min(0), corners.max(0)
    lesions = Lesions(box, torch.tensor([.7]))
    np.testing.assert_allclose(lesion_table(lesions, v)[MM].to_numpy()[0], [*low, *high], atol=1e-3)
    entry = to_monai(annotation_table(to_rows(lesions, 'block')), {'block': v})['training'][0]['box'][0]
    np.testing.assert_allclose(entry, [*(low + high) / 2, *(high - low)], atol=1e-3)
    drawn = corners_of_roi(to_markups(lesions, v)['markups'][0])
    apart = np.linalg.norm(drawn[:, None] - corners[None], axis=-1)
    assert apart.min(1).max() < 1e-3 and apart.min(0).max() < 1e-3
    label = sitk.ReadImage(str(write_image(to_label_map(lesions, v), tmp_path/'boxes.nii.gz')))
    assert (sitk.GetArrayFromImage(label) == (v.array == 500)).all()
    np.testing.assert_allclose(label.GetOrigin(), image.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(label.GetDirection(), image.GetDirection(), atol=1e-5)


@pytest.mark.parametrize('axes', ORIENTATIONS)
def test_detections_do_not_depend_on_the_orientation(weights, axes):
    model = load_detector(weights)
    v, w = oriented('LPS')[0], oriented(axes)[0]
    a, b = (predict(model, x, score_thresh=0.) for x in (v, w))
    np.testing.assert_allclose(boxes_to_mm(a.boxes, v), boxes_to_mm(b.boxes, w), atol=1e-2)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)


def check_roi(roi):
    "The rules for an ROI."
    assert roi['roiType'] == 'Box' and isinstance(roi['insideOut'], bool)
    for key, n in (('center', 3), ('size', 3), ('orientation', 9)):
        assert len(roi[key]) == n and all(isinstance(v, float) for v in roi[key])
    rotation = np.array(roi['orientation']).reshape(3, 3)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(rotation) > 0


def check_point(point):
    "The rules for a control point."
    assert isinstance(point['id'], str) and isinstance(point['label'], str)
    assert len(point['position']) == 3 and len(point['orientation']) == 9
    assert point['positionStatus'] in ('undefined', 'preview', 'defined')
    assert all(isinstance(point[key], bool) for key in ('selected', 'locked', 'visibility'))


def check_markups(data):
    "The rules of Slicer's markups schema 1.0.3, as far as ROIs and fiducials go."
    assert set(data) >= {'@schema', 'markups'} and data['@schema'].endswith('markups-schema-v1.0.3.json#')
    for m in data['markups']:
        assert m['type'] in ('Fiducial', 'Line', 'Angle', 'Curve', 'ClosedCurve', 'Plane', 'ROI')
        assert m['coordinateSystem'] in ('LPS', 'RAS') and m['coordinateUnits'] in ('mm', 'um')
        assert isinstance(m['locked'], bool) and isinstance(m['fixedNumberOfControlPoints'], bool)
        assert isinstance(m['labelFormat'], str) and isinstance(m['name'], str)
        if m['type'] == 'ROI': check_roi(m)
        for point in m['controlPoints']: check_point(point)


def test_every_file_of_a_prediction(tmp_path):
    "Read by the tool it is for: pandas, json, nibabel, and Slicer's published rules."
    v, _, box = oriented('RAS', .2)
    lesions = Lesions(torch.cat([box, box + 1]), torch.tensor([.7, .2]), torch.rand(2, 8, 3) * 5 + 8)
    out = write_prediction(lesions, v, tmp_path/'block')
    check_markups(json.loads((out/'lesions.mrk.json').read_text()))
    table = pd.read_csv(out/'lesions.csv')
    assert list(table) == ['score', *BOX, *MM] and table.score.tolist() == [.7, .2]
    coco = json.loads((out/'lesions.json').read_text())
    assert {'info', 'images', 'annotations', 'categories'} <= set(coco)
    assert coco['images'][0]['file_name'] == 'block' and len(coco['annotations'][0]['bbox']) == 6
    label = nib.load(out/'boxes.nii.gz')
    assert label.shape == v.shape[::-1] and set(np.unique(label.dataobj)) == {0, 1, 2}
    assert len(pd.read_csv(out/'surface_points.csv')) == 16
    write_prediction(lesions[:1], v, tmp_path/'block') # again, in its place
    assert len(pd.read_csv(out/'lesions.csv')) == 1


def test_files_of_a_prediction_without_lesions(tmp_path):
    v, _, box = oriented('RAS', .2)
    out = write_prediction(Lesions(box[:0]), v, tmp_path/'none')
    table = pd.read_csv(out/'lesions.csv')
    assert list(table) == ['score', *BOX, *MM] and len(table) == 0
    assert json.loads((out/'lesions.mrk.json').read_text())['markups'] == []
    assert json.loads((out/'lesions.json').read_text())['annotations'] == []


def test_resumes_and_notices_changes(tmp_path, weights):
    scans, out = tmp_path/'in', tmp_path/'out'
    for n in 'ab': write_image(replace(CT, array=CT.array[:8]), scans/f'{n}.nii.gz')
    def run(**options):
        table = predict_scans([scans], weights, out, report=False, **options)
        return dict(table.set_index('volume').status)
    assert run() == dict(a='done', b='done')
    assert run() == dict(a='as before', b='as before')
    write_image(replace(CT, array=CT.array[2:10]), scans/'a.nii.gz')
    assert run() == dict(a='done', b='as before')
    (out/'b'/'boxes.nii.gz').unlink() # half of an interrupted copy
    assert run() == dict(a='as before', b='done')
    assert run(top_k=5) == dict(a='done', b='done') and len(pd.read_csv(out/'a'/'lesions.csv')) <= 5


def test_inputs_are_never_written_to(tmp_path, weights):
    "An output folder that is an input, or in one, is refused; labels never replace a scan."
    scans, images = tmp_path/'in', tmp_path/'images'
    write_dicom(CT, scans/'pat')
    before = {p: p.read_bytes() for p in scans.rglob('*.dcm')}
    for out in (scans, scans/'pat', scans/'out'):
        with pytest.raises(ValueError, match='nothing is written there'): predict_scans([scans], weights, out)
    assert command('predict', scans/'pat', '--weights', weights, '--out', scans).returncode in (1, 2)
    scan = write_image(CT, images/'a.nii.gz').read_bytes()
    pd.DataFrame([dict(volume='a', **dict(zip(BOX, range(6))))]).to_csv(tmp_path/'t.csv', index=False)
    options = ('--format', 'nndetection', '--images', images)
    assert command('convert', tmp_path/'t.csv', images, *options).returncode == 2
    assert {p: p.read_bytes() for p in scans.rglob('*.dcm')} == before
    assert (images/'a.nii.gz').read_bytes() == scan


def test_leftovers_and_damage_are_done_again(tmp_path, weights):
    scan, out = tmp_path/'in'/'a.nii.gz', tmp_path/'out'
    write_image(CT, scan)
    def run(): return predict_scans([tmp_path/'in'], weights, out, report=False).status.tolist()
    assert run() == ['done']
    (out/'.a.new').mkdir()
    (out/'.a.new'/'x').write_text('half')
    (out/'a'/'lesions.csv').write_text('')
    assert run() == ['done']
    assert run() == ['as before']
    assert sorted(p.name for p in out.iterdir()) == ['a', 'failed.csv', 'lesions.csv', 'summary.csv']
    scan.write_bytes(b'junk')
    assert run() == ['failed']
    assert not (out/'a').exists() and (out/'a.stale'/'lesions.csv').exists()


def test_scans_named_like_the_tables(tmp_path, weights):
    "Their folders get another name; and predictions are not taken for scans."
    scans, out = tmp_path/'in', tmp_path/'out'
    for name in ('summary.csv', 'lesions.csv'): write_image(CT, scans/f'{name}.nii.gz')
    assert predict_scans([scans], weights, out, report=False).status.tolist() == ['done', 'done']
    assert (out/'lesions.csv').is_file()
    inputs = [out/'summary.csv_scan'/'boxes.nii.gz', scans]
    earlier = predict_scans(inputs, weights, tmp_path/'other', report=False)
    assert earlier.status.tolist().count('done') == 2 and len(find_scans([out]).cases) == 0


def test_values_without_their_offset_are_no_hu(tmp_path, weights):
    files = [tmp_path/'u16.nrrd', tmp_path/'u32768.nrrd']
    for path, off in zip(files, (1024, 32768)):
        values = (CT.array.astype(np.int32) + off + 24).astype(np.uint16)
        sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    table = predict_scans(files, weights, tmp_path.parent/'o', report=False)
    assert table.status.tolist() == ['failed'] * 2
    assert table.reason.str.contains('none below 0, so they are not HU').all()


def test_a_bad_index_does_not_stop_its_neighbours(tmp_path, weights):
    scans = tmp_path/'in'
    write_phantom(scans/'dl', volumes=1)
    (scans/'dl'/'DL_info.csv').write_text('a,b\n1,2\n')
    write_image(CT, scans/'good.nii.gz')
    write_image(CT, scans/'dec'/'other.nii.gz')
    (scans/'dec'/'dataset.json').write_text('{')
    write_phantom(scans/'whole', volumes=1)
    write_image(CT, scans/'whole'/'extra.nii.gz')
    table = predict_scans([scans], weights, tmp_path/'out', report=False)
    assert (table.status == 'done').sum() == 4
    assert table[table.status == 'failed'].reason.str.contains('is no DL_info.csv').tolist() == [True]


def test_scores_survive_volumes_without_lesions(tmp_path):
    rows = [dict(volume='a', **dict(zip(BOX, range(6)))), dict(volume='b', **dict.fromkeys(BOX, np.nan))]
    table = annotation_table(rows)
    for name, kind in (('x.pkl', 'boxes'), ('y.pkl', 'recist'), ('z.json', 'coco')):
        assert read_annotations(write_annotations(table, tmp_path/name, kind)).score[0] == 1


@pytest.mark.parametrize('content, says', [
    (pickle.dumps({'v': os.system}), 'it wants posix.system'),
    (pickle.dumps([1])[:-2], "can't be read"),
    (b'', "can't be read"),
    (pickle.dumps([1, 2]), 'is no dictionary of volumes'),
    (pickle.dumps({'v': [[5, 5, 7, 9, 3, 2]]}), 'second corner below its first'),
])
def test_bad_pickles(tmp_path, content, says):
    (tmp_path/'a.pkl').write_bytes(content)
    with pytest.raises(DataError, match=says) as e: read_annotations(tmp_path/'a.pkl')
    assert 'a.pkl' in str(e.value)


def as_excel(text): return b'\xef\xbb\xbf' + text.replace('\n', '\r\n').encode()


@pytest.mark.parametrize('encode', [str.encode, as_excel])
def test_tables_as_spreadsheets_save_them(tmp_path, encode):
    table = annotation_table([dict(volume='a', **dict(zip(BOX, [0, 1, 2, 3, 4, 5.5])), remark='kept, with a comma')])
    (tmp_path/'mit Leerzeichen ä.csv').write_bytes(encode(table.to_csv(index=False)))
    back = read_annotations(tmp_path/'mit Leerzeichen ä.csv')
    assert back[BOX].to_numpy().tolist() == [[0, 1, 2, 3, 4, 5.5]] and back.remark[0] == 'kept, with a comma'


@pytest.mark.parametrize('kind', ['eight_bit', 'colour', 'sizes'])
def test_png_slices_that_are_not_deeplesions(tmp_path, kind):
    write_phantom(tmp_path/'dl', volumes=2)
    png = sorted((tmp_path/'dl'/'Images_png').rglob('*.png'))[3]
    wrong = dict(eight_bit=np.zeros((96, 96), np.uint8), colour=np.zeros((96, 96, 3), np.uint8),
                 sizes=np.zeros((90, 96), np.uint16))
    sitk.WriteImage(sitk.GetImageFromArray(wrong[kind], isVector=kind == 'colour'), str(png))
    with pytest.raises(DataError, match=png.name): [c.read() for c in find_scans([tmp_path/'dl']).cases]


def test_predictions_of_deeplesion_are_evaluated_as_they_come(tmp_path, weights):
    "From the download's layout to metrics, by the functions of three commands."
    data, out = tmp_path/'dl', tmp_path/'out'
    write_phantom(data, volumes=6)
    table = predict_scans([data], weights, out, report=False)
    assert set(table.status) == {'done', 'passed over'} # the masks are passed over
    assert (table.status == 'done').sum() == from_dl_info(data/'DL_info.csv').volume.nunique()
    options = ('--rounds', 20, '--by', 'size', '--out', tmp_path/'figures')
    result = command('evaluate', data/'truth.csv', out/'lesions.csv', *options)
    assert result.returncode == 0, result.stderr
    assert 'sensitivity at 1 FP' in result.stdout and '0-20 mm' in result.stdout


def random_tracklet(rng):
    "2D boxes x1 y1 x2 y2 score on slices in a row, with one score."
    first, score = rng.integers(0, 30), rng.uniform(0, 1)
    boxes = []
    for z in range(first, first + rng.integers(1, 5)):
        corner = rng.uniform(0, 400, 2)
        boxes.append((int(z), np.float32([*corner, *(corner + rng.uniform(5, 30, 2)), score])))
    return boxes


def test_tracklets_of_the_release_come_back(tmp_path):
    "A file of detections through the table and its slices, box by box."
    rng = np.random.default_rng(0)
    data = {}
    for i in range(8): data[f'{i:06d}_01_01_001-040'] = [random_tracklet(rng) for _ in range(rng.integers(0, 4))]
    save_pickle(data, tmp_path/'a.pkl')
    assert command('convert', tmp_path/'a.pkl', tmp_path/'b.pkl', '--format', 'tracklets').returncode == 0
    back = load_pickle(tmp_path/'b.pkl')
    assert list(back) == list(data)
    for name in data:
        for a, b in zip(data[name], back[name], strict=True):
            assert [z for z, _ in a] == [z for z, _ in b]
            np.testing.assert_allclose([v for _, v in a], [v for _, v in b], rtol=1e-6, atol=1e-4)


RELEASES = [('Revised-Train744', 'recist.annot', 744, 3033), ('RECIST-Box-Valid', 'recist', 3001, 4885),
            ('3D-Box', 'boxes', 272, 874)] # name, format, volumes, boxes


def test_real_releases_through_every_format(real_data, tmp_path):
    "744 volumes with 3,033 boxes, 3,001 with 4,885: out and in again."
    for name, kind, volumes, boxes in RELEASES:
        source = real_data/'deeplesion'/f'{name}.pkl'
        table = read_annotations(source)
        assert (table.volume.nunique(), int(table.z1.notna().sum())) == (volumes, boxes)
        for target, how in (('t.csv', 'table'), ('t.parquet', 'table'), ('t.json', 'coco'), ('t.pkl', kind)):
            back = read_annotations(write_annotations(table, tmp_path/target, how))
            one, two = (t.sort_values(['volume', *BOX]) for t in (back, table))
            assert one.volume.tolist() == two.volume.tolist()
            np.testing.assert_allclose(one[BOX].to_numpy(float), two[BOX].to_numpy(float), atol=1e-6)
        assert list(load_pickle(source)) == list(load_pickle(tmp_path/'t.pkl'))


def test_marks_of_deeplesion_from_their_diameters(real_data):
    released = load_pickle(real_data/'deeplesion'/'RECIST-Box-Valid.pkl')
    info = from_dl_info(real_data/'deeplesion'/'DL_info_part.csv', pad=0.)
    ends = torch.tensor(recist_axes(info.Measurement_coordinates)).reshape(-1, 4, 2)
    xyxy = torch.cat([ends.amin(1) - 5, ends.amax(1) + 5], 1)
    mine = from_deeplesion(xyxy, torch.tensor(info.z1.to_numpy(float)), pad=0.).numpy()
    assert np.abs(mine - info[BOX].to_numpy()).max() < .02
    theirs, known = from_authors(released, pad=0.), info.split == 'validation'
    for row, box in zip(info[known].itertuples(), mine[known]):
        same = theirs[(theirs.volume == row.volume) & (theirs.z1 == row.z1)][BOX].to_numpy()
        assert len(same) and np.abs(same - box).max(1).min() < .02


def test_the_abdomen_as_dicom_is_the_abdomen(real_data, tmp_path, weights):
    "A real scan written as DICOM and as NRRD gives the boxes that its NIfTI file gives."
    source = real_data/'ct'/'imagesTs'/'crlm_1004.nii.gz'
    ct = read_image(source)
    write_dicom(ct, tmp_path/'in'/'series')
    write_image(ct, tmp_path/'in'/'file.nrrd')
    table = predict_scans([tmp_path/'in', source], weights, tmp_path/'out', report=False)
    assert table.status.tolist() == ['done'] * 3
    boxes = [pd.read_csv(tmp_path/'out'/n/'lesions.csv') for n in ('file', 'series', 'crlm_1004')]
    for other in boxes[1:]: np.testing.assert_allclose(other.to_numpy(), boxes[0].to_numpy(), atol=1e-2)
    assert (read_dicom(tmp_path/'in'/'series').array == ct.array).all()


def test_padding_of_marks_is_a_choice(real_data, tmp_path):
    """Marks without padding as detections of the same marks, by the rule p3d.

    All are hits where the padding is removed, and most are misses where it is kept, as the authors keep it."""
    source, bare = real_data/'deeplesion'/'Revised-Train744.pkl', tmp_path/'full.json'
    write_annotations(read_annotations(source), bare, 'coco')
    found = {}
    for how in ('off', 'keep', 'auto'):
        matched = match_files(source, bare, 'p3d', padding=how)[0]
        found[how] = matched.detections.found.sum()
    assert found['off'] == 3033 and found['keep'] == found['auto'] < 1500
