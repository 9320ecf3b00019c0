"Scans and annotations in, predictions out: what users bring, what can be wrong with it, and what other tools will read."
import gzip, json, pickle, subprocess, sys
from dataclasses import replace
from pathlib import Path
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


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp('weights')/'w.safetensors'
    torch.manual_seed(0)
    return save_detector(make_detector('vld_acs_spr', 'tiny'), path, Preprocessing((4., 4., 4.)))


def command(name, *args):
    "A command of the package as a user calls it."
    return subprocess.run([Path(sys.executable).parent/'lesionlab', name, *map(str, args)], capture_output=True, text=True)


CT = phantom(0, 3).volume


def nifti_bytes(array, affine=np.diag([1.6, 1.6, 2.5, 1.])): return nib.Nifti1Image(array, affine).to_bytes()


def spoil(name, folder):
    "A file or folder that can't be used, and a word of why."
    good = write_image(CT, folder.parent/'good.nii.gz').read_bytes()
    path = folder/f'{name}.nii.gz'
    if name == 'truncated': path.write_bytes(good[:len(good) // 2]); return 'damaged'
    if name == 'zero': path.write_bytes(b''); return 'damaged'
    if name == 'magic': path.write_bytes(b'MZ' + bytes(4000)); return 'damaged'
    if name == 'nan':
        a = CT.array.T.astype(np.float32); a[3, 4, 5] = np.nan
        path.write_bytes(gzip.compress(nifti_bytes(a))); return '1 voxels are NaN'
    if name == 'complex': path.write_bytes(gzip.compress(nifti_bytes(CT.array.T.astype(np.complex64)))); return 'complex'
    if name == 'four': path.write_bytes(gzip.compress(nifti_bytes(np.stack([CT.array.T] * 2, -1)))); return '4 dimensions'
    if name == 'flat':
        raw = bytearray(nifti_bytes(CT.array.T)); raw[88:92] = bytes(4)
        path.write_bytes(gzip.compress(bytes(raw))); return 'mm (z y x), which can'
    if name == 'sheared':
        affine = np.diag([1.6, 1.6, 2.5, 1.]); affine[0, 2] = 1.5
        path.write_bytes(gzip.compress(nifti_bytes(CT.array.T, affine))); return 'right angles'
    if name == 'eight_bit': path.write_bytes(gzip.compress(nifti_bytes((np.random.default_rng(0).random(CT.shape).T * 255).astype(np.uint8)))); return 'no HU'
    if name == 'link': (folder/'link.nii.gz').symlink_to(folder.parent/'good.nii.gz'); return 'leads out of'
    if name == 'no_slope':
        write_dicom(CT, folder/name)
        for p in (folder/name).iterdir(): ds = pydicom.dcmread(p); del ds.RescaleIntercept; ds.save_as(p)
        return 'no RescaleIntercept'
    if name == 'missing_slice': write_dicom(CT, folder/name); (folder/name/'0004.dcm').unlink(); return '1 slice(s) missing'
    if name == 'double_slice': write_dicom(CT, folder/name); (folder/name/'x.dcm').write_bytes((folder/name/'0004.dcm').read_bytes()); return 'same place'
    if name == 'torn_slice': write_dicom(CT, folder/name); p = folder/name/'0004.dcm'; p.write_bytes(p.read_bytes()[:-900]); return '0004.dcm'
    if name == 'pngs': write_png_series(CT, folder/name); return 'spacing only a DL_info.csv would tell'
    raise KeyError(name)


FAULTS = ['truncated', 'zero', 'magic', 'nan', 'complex', 'four', 'flat', 'sheared', 'eight_bit', 'link', 'no_slope', 'missing_slice', 'double_slice', 'torn_slice', 'pngs']


def test_bad_volumes_do_not_stop_the_others(tmp_path, weights):
    "Fifty volumes, fifteen of them bad in fifteen ways: each has its sentence, and the others are predicted."
    folder = tmp_path/'scans mit Umlaut ü'; folder.mkdir()
    small = replace(CT, array=CT.array[4:12, 16:64, 16:64])
    for i in range(50 - len(FAULTS)): write_image(small, folder/f'volume {i:02d}.nii.gz')
    says = {name: spoil(name, folder) for name in FAULTS}
    table = predict_scans([folder], weights, tmp_path/'out', report=False).set_index('volume')
    assert (table.status == 'done').sum() == 50 - len(FAULTS) and (table.status == 'failed').sum() == len(FAULTS)
    for name, word in says.items():
        row = table[[name in Path(str(v)).name for v in table.index]].iloc[0]
        assert row.status == 'failed' and word in row.reason and name in row.reason and '\n' not in row.reason, (name, row.reason)
    failed = pd.read_csv(tmp_path/'out'/'failed.csv')
    assert len(failed) == len(FAULTS) and not any((tmp_path/'out').glob('.*'))
    assert set(pd.read_csv(tmp_path/'out'/'lesions.csv').volume) <= set(table.index[table.status == 'done'])


def test_exit_codes_and_messages(tmp_path, weights):
    write_image(CT, tmp_path/'in'/'a.nii.gz')
    done = command('predict', tmp_path/'in', '--weights', weights, '--out', tmp_path/'out', '--no-report')
    assert done.returncode == 0 and '1 volumes predicted' in done.stdout and not (tmp_path/'out'/'a'/'report.html').exists()
    (tmp_path/'in'/'b.nrrd').write_text('x')
    bad = command('predict', tmp_path/'in', '--weights', weights, '--out', tmp_path/'out', '--no-report')
    assert bad.returncode == 1 and 'b.nrrd' in bad.stderr and '1 as before, 1 failed' in bad.stdout
    for args in ((tmp_path/'none', '--weights', weights, '--out', tmp_path/'o'), (tmp_path/'in', '--weights', tmp_path/'none', '--out', tmp_path/'o'), (tmp_path/'in', '--weights', weights, '--oot', 'x')):
        wrong = command('predict', *args)
        assert wrong.returncode == 2 and 'Traceback' not in wrong.stderr and not (tmp_path/'o').exists(), wrong.stderr
    assert command('evaluate', tmp_path/'none.csv', tmp_path/'x.json').returncode == 2


def test_no_name_of_a_patient_leaves_the_header(tmp_path, weights):
    write_dicom(CT, tmp_path/'in'/'series')
    for p in (tmp_path/'in'/'series').iterdir():
        ds = pydicom.dcmread(p)
        ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.InstitutionName, ds.SeriesDescription = 'Mustermann^Erika', 'ID4711', '19640812', 'Charite', 'Secret protocol'
        ds.save_as(p)
    uids = {str(getattr(pydicom.dcmread(p), t)) for p in (tmp_path/'in'/'series').iterdir() for t in ('SeriesInstanceUID', 'StudyInstanceUID', 'SOPInstanceUID')}
    predict_scans([tmp_path/'in'], weights, tmp_path/'out')
    for p in (tmp_path/'out').rglob('*'):
        if not p.is_file(): continue
        raw = p.read_bytes()
        text = (gzip.decompress(raw) if p.name.endswith('.gz') else raw).decode('latin1')
        assert not any(w in text for w in ('Mustermann', 'ID4711', '19640812', 'Charite', 'Secret protocol', *uids)), p


ORIENTATIONS = ['LPS', 'RAS', 'LAS', 'PSR', 'ASL', 'SAL']


def oriented(axes, angle=0.):
    "A volume with a bright block, its axes as named, perhaps oblique; and the block's box in voxels."
    c, s = np.cos(angle), np.sin(angle)
    array = np.full((12, 30, 40), -1000, np.int16); array[3:6, 8:15, 20:32] = 500
    image = to_sitk(Volume(array, (5., .8, .7), (-100., 20., 300.), (c, -s, 0, s, c, 0, 0, 0, 1)))
    image = sitk.DICOMOrient(image, axes)
    v = Volume(sitk.GetArrayFromImage(image), image.GetSpacing()[::-1], image.GetOrigin(), image.GetDirection(), 'block')
    at = np.argwhere(v.array == 500)
    return v, image, torch.tensor([[*at.min(0), *(at.max(0) + 1)]], dtype=torch.float32)


@pytest.mark.parametrize('axes', ORIENTATIONS)
@pytest.mark.parametrize('angle', [0., .3])
def test_boxes_are_where_simpleitk_says(tmp_path, axes, angle):
    "The eight corners of a block in the world, by SimpleITK's own transform, against every format that says where it is."
    v, image, box = oriented(axes, angle)
    lo, hi = box[0, :3].tolist(), box[0, 3:].tolist()
    corners = np.array([image.TransformContinuousIndexToPhysicalPoint([(hi if k >> a & 1 else lo)[2 - a] - .5 for a in range(3)]) for k in range(8)])
    world = np.concatenate([corners.min(0), corners.max(0)])
    lesions = Lesions(box, torch.tensor([.7]))
    np.testing.assert_allclose(lesion_table(lesions, v)[MM].to_numpy()[0], world, atol=1e-3)
    entry = to_monai(annotation_table(to_rows(lesions, 'block')), {'block': v})['training'][0]['box'][0]
    np.testing.assert_allclose(entry, [*(world[:3] + world[3:]) / 2, *(world[3:] - world[:3])], atol=1e-3)
    roi = to_markups(lesions, v)['markups'][0]
    turn, half = np.array(roi['orientation']).reshape(3, 3), np.array(roi['size']) / 2
    drawn = np.array([np.array(roi['center']) + turn @ (half * [1 if k >> a & 1 else -1 for a in range(3)]) for k in range(8)])
    assert np.linalg.norm(drawn[:, None] - corners[None], axis=-1).min(1).max() < 1e-3 and np.linalg.norm(drawn[:, None] - corners[None], axis=-1).min(0).max() < 1e-3
    label = sitk.ReadImage(str(write_image(to_label_map(lesions, v), tmp_path/'boxes.nii.gz')))
    assert (sitk.GetArrayFromImage(label) == (v.array == 500)).all()
    np.testing.assert_allclose(label.GetOrigin(), image.GetOrigin(), atol=1e-3); np.testing.assert_allclose(label.GetDirection(), image.GetDirection(), atol=1e-5)


@pytest.mark.parametrize('axes', ORIENTATIONS)
def test_a_net_sees_every_orientation_alike(weights, axes):
    model = load_detector(weights)
    v, _, _ = oriented('LPS'); w, _, _ = oriented(axes)
    a, b = (predict(model, x, score_thresh=0.) for x in (v, w))
    np.testing.assert_allclose(boxes_to_mm(a.boxes, v), boxes_to_mm(b.boxes, w), atol=1e-2)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)


def check_markups(data):
    "The rules of Slicer's markups schema 1.0.3, as far as ROIs and fiducials go."
    assert set(data) >= {'@schema', 'markups'} and data['@schema'].endswith('markups-schema-v1.0.3.json#')
    for m in data['markups']:
        assert m['type'] in ('Fiducial', 'Line', 'Angle', 'Curve', 'ClosedCurve', 'Plane', 'ROI') and m['coordinateSystem'] in ('LPS', 'RAS') and m['coordinateUnits'] in ('mm', 'um')
        assert isinstance(m['locked'], bool) and isinstance(m['fixedNumberOfControlPoints'], bool) and isinstance(m['labelFormat'], str) and isinstance(m['name'], str)
        if m['type'] == 'ROI':
            assert m['roiType'] == 'Box' and isinstance(m['insideOut'], bool)
            for key, n in (('center', 3), ('size', 3), ('orientation', 9)): assert len(m[key]) == n and all(isinstance(v, float) for v in m[key])
            turn = np.array(m['orientation']).reshape(3, 3)
            np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-6); assert np.linalg.det(turn) > 0
        for p in m['controlPoints']:
            assert isinstance(p['id'], str) and isinstance(p['label'], str) and len(p['position']) == 3 and len(p['orientation']) == 9
            assert p['positionStatus'] in ('undefined', 'preview', 'defined') and all(isinstance(p[k], bool) for k in ('selected', 'locked', 'visibility'))


def test_every_file_of_a_prediction(tmp_path):
    "Read by the tool it is for, as far as that can be had: pandas, json, nibabel, and Slicer's published rules."
    v, _, box = oriented('RAS', .2)
    lesions = Lesions(torch.cat([box, box + 1]), torch.tensor([.7, .2]), torch.rand(2, 8, 3) * 5 + 8)
    out = write_prediction(lesions, v, tmp_path/'block')
    check_markups(json.loads((out/'lesions.mrk.json').read_text()))
    table = pd.read_csv(out/'lesions.csv')
    assert list(table) == ['score', *BOX, *MM] and table.score.tolist() == [.7, .2]
    coco = json.loads((out/'lesions.json').read_text())
    assert {'info', 'images', 'annotations', 'categories'} <= set(coco) and coco['images'][0]['file_name'] == 'block' and len(coco['annotations'][0]['bbox']) == 6
    label = nib.load(out/'boxes.nii.gz')
    assert label.shape == v.shape[::-1] and set(np.unique(label.dataobj)) == {0, 1, 2}
    assert len(pd.read_csv(out/'surface_points.csv')) == 16
    empty = write_prediction(lesions[:0], v, tmp_path/'none')
    assert list(pd.read_csv(empty/'lesions.csv')) == ['score', *BOX, *MM] and len(pd.read_csv(empty/'lesions.csv')) == 0
    assert json.loads((empty/'lesions.mrk.json').read_text())['markups'] == [] and json.loads((empty/'lesions.json').read_text())['annotations'] == []
    write_prediction(lesions[:1], v, tmp_path/'block')                                                # again, in its place
    assert len(pd.read_csv(out/'lesions.csv')) == 1


def test_resumes_and_notices_changes(tmp_path, weights):
    for n in 'ab': write_image(replace(CT, array=CT.array[:8]), tmp_path/'in'/f'{n}.nii.gz')
    run = lambda **o: dict(predict_scans([tmp_path/'in'], weights, tmp_path/'out', report=False, **o).set_index('volume').status)
    assert run() == dict(a='done', b='done') and run() == dict(a='as before', b='as before')
    write_image(replace(CT, array=CT.array[2:10]), tmp_path/'in'/'a.nii.gz')
    assert run() == dict(a='done', b='as before')
    (tmp_path/'out'/'b'/'boxes.nii.gz').unlink()                                                     # half of an interrupted copy
    assert run() == dict(a='as before', b='done')
    assert run(top_k=5) == dict(a='done', b='done') and len(pd.read_csv(tmp_path/'out'/'a'/'lesions.csv')) <= 5


def test_what_is_the_users_stays(tmp_path, weights):
    "An output folder that is, or lies in, an input is refused; a folder that is no prediction is never replaced; labels never take a scan's place."
    write_dicom(CT, tmp_path/'in'/'pat')
    before = {p: p.read_bytes() for p in (tmp_path/'in').rglob('*.dcm')}
    for out in (tmp_path/'in', tmp_path/'in'/'pat', tmp_path/'in'/'out'):
        with pytest.raises(ValueError, match='nothing is written there'): predict_scans([tmp_path/'in'], weights, out, report=False)
    assert command('predict', tmp_path/'in'/'pat', '--weights', weights, '--out', tmp_path/'in').returncode in (1, 2)
    write_image(CT, tmp_path/'images'/'a.nii.gz'); pd.DataFrame([dict(volume='a', **dict(zip(BOX, range(6))))]).to_csv(tmp_path/'t.csv', index=False)
    scan = (tmp_path/'images'/'a.nii.gz').read_bytes()
    assert command('convert', tmp_path/'t.csv', tmp_path/'images', '--format', 'nndetection', '--images', tmp_path/'images').returncode == 2
    assert {p: p.read_bytes() for p in (tmp_path/'in').rglob('*.dcm')} == before and (tmp_path/'images'/'a.nii.gz').read_bytes() == scan


def test_leftovers_and_damage_are_done_again(tmp_path, weights):
    write_image(CT, tmp_path/'in'/'a.nii.gz')
    run = lambda: predict_scans([tmp_path/'in'], weights, tmp_path/'out', report=False).status.tolist()
    assert run() == ['done']
    (tmp_path/'out'/'.a.new').mkdir(); (tmp_path/'out'/'.a.new'/'x').write_text('half'); (tmp_path/'out'/'a'/'lesions.csv').write_text('')
    assert run() == ['done'] and run() == ['as before'] and sorted(p.name for p in (tmp_path/'out').iterdir()) == ['a', 'failed.csv', 'lesions.csv', 'summary.csv']
    (tmp_path/'in'/'a.nii.gz').write_bytes(b'junk')
    assert run() == ['failed'] and not (tmp_path/'out'/'a').exists() and (tmp_path/'out'/'a.stale'/'lesions.csv').exists() # what is there is true
    for name in ('summary.csv', 'lesions.csv'): write_image(CT, tmp_path/'in'/f'{name}.nii.gz')
    assert run() == ['failed', 'done', 'done'] and (tmp_path/'out'/'lesions.csv').is_file()
    earlier = predict_scans([tmp_path/'out'/'summary.csv_scan'/'boxes.nii.gz', tmp_path/'in'], weights, tmp_path/'other', report=False)
    assert earlier.status.tolist().count('done') == 2 and len(find_scans([tmp_path/'out']).cases) == 0                        # predictions are no scans


def test_values_without_their_offset_are_no_hu(tmp_path, weights):
    for name, off in (('u16', 1024), ('u32768', 32768)): sitk.WriteImage(sitk.GetImageFromArray((CT.array.astype(np.int32) + off + 24).astype(np.uint16)), str(tmp_path/f'{name}.nrrd'))
    table = predict_scans([tmp_path/'u16.nrrd', tmp_path/'u32768.nrrd'], weights, tmp_path.parent/'o', report=False)
    assert table.status.tolist() == ['failed'] * 2 and table.reason.str.contains('none below 0, so they are no HU').all()


def test_a_bad_index_does_not_stop_its_neighbours(tmp_path, weights):
    write_phantom(tmp_path/'in'/'dl', volumes=1); (tmp_path/'in'/'dl'/'DL_info.csv').write_text('a,b\n1,2\n')
    write_image(CT, tmp_path/'in'/'good.nii.gz'); write_image(CT, tmp_path/'in'/'dec'/'other.nii.gz'); (tmp_path/'in'/'dec'/'dataset.json').write_text('{')
    write_phantom(tmp_path/'in'/'whole', volumes=1); write_image(CT, tmp_path/'in'/'whole'/'extra.nii.gz')
    table = predict_scans([tmp_path/'in'], weights, tmp_path/'out', report=False)
    assert (table.status == 'done').sum() == 4 and table[table.status == 'failed'].reason.str.contains('is no DL_info.csv').tolist() == [True]


def test_scores_survive_volumes_without_lesions(tmp_path):
    table = annotation_table([dict(volume='a', **dict(zip(BOX, [0, 1, 2, 3, 4, 5]))), dict(volume='b', **dict.fromkeys(BOX, np.nan))])
    for name, kind in (('x.pkl', 'boxes'), ('y.pkl', 'recist'), ('z.json', 'coco')):
        assert read_annotations(write_annotations(table, tmp_path/name, kind)).score[0] == 1


@pytest.mark.parametrize('content, says', [
    (lambda f: pickle.dumps({'v': __import__('os').system}), 'it wants posix.system'), (lambda f: pickle.dumps([1])[:-2], "can't be read"), (lambda f: b'', "can't be read"), (lambda f: pickle.dumps([1, 2]), 'is no dictionary of volumes'),
    (lambda f: pickle.dumps({'v': [[5, 5, 7, 9, 3, 2]]}), 'second corner below its first')])
def test_bad_pickles(tmp_path, content, says):
    (tmp_path/'a.pkl').write_bytes(content(tmp_path))
    with pytest.raises(DataError, match=says) as e: read_annotations(tmp_path/'a.pkl')
    assert 'a.pkl' in str(e.value)


@pytest.mark.parametrize('encode', [lambda t: t.encode(), lambda t: b'\xef\xbb\xbf' + t.replace('\n', '\r\n').encode()])
def test_tables_as_spreadsheets_save_them(tmp_path, encode):
    table = annotation_table([dict(volume='a', **dict(zip(BOX, [0, 1, 2, 3, 4, 5.5])), remark='kept, with a comma')])
    (tmp_path/'mit Leerzeichen ä.csv').write_bytes(encode(table.to_csv(index=False)))
    back = read_annotations(tmp_path/'mit Leerzeichen ä.csv')
    assert back[BOX].to_numpy().tolist() == [[0, 1, 2, 3, 4, 5.5]] and back.remark[0] == 'kept, with a comma'


@pytest.mark.parametrize('kind', ['eight_bit', 'colour', 'sizes'])
def test_png_slices_that_are_not_deeplesions(tmp_path, kind):
    write_phantom(tmp_path/'dl', volumes=2)
    png = sorted((tmp_path/'dl'/'Images_png').rglob('*.png'))[3]
    wrong = dict(eight_bit=np.zeros((96, 96), np.uint8), colour=np.zeros((96, 96, 3), np.uint8), sizes=np.zeros((90, 96), np.uint16))[kind]
    sitk.WriteImage(sitk.GetImageFromArray(wrong, isVector=kind == 'colour'), str(png))
    with pytest.raises(DataError, match=png.name): [c.read() for c in find_scans([tmp_path/'dl']).cases]


def test_predictions_of_deeplesion_are_evaluated_as_they_come(tmp_path, weights):
    "From the download's layout to figures, by three commands' functions."
    write_phantom(tmp_path/'dl', volumes=6)
    table = predict_scans([tmp_path/'dl'], weights, tmp_path/'out', report=False)
    assert set(table.status) == {'done', 'passed over'} and (table.status == 'done').sum() == from_dl_info(tmp_path/'dl'/'DL_info.csv').volume.nunique() # its masks are passed over
    result = command('evaluate', tmp_path/'dl'/'truth.csv', tmp_path/'out'/'lesions.csv', '--rounds', 20, '--by', 'size', '--out', tmp_path/'figures')
    assert result.returncode == 0 and 'sensitivity at 1 FP' in result.stdout and '0-20 mm' in result.stdout, result.stderr


def test_tracklets_of_the_release_come_back(tmp_path):
    "A file of detections through the table and its slices, box by box."
    rng = np.random.default_rng(0)
    data = {f'{i:06d}_01_01_001-040': [[(int(z + k), rng.uniform(0, 400, 5).astype(np.float32)) for k in range(rng.integers(1, 5))] for z in rng.integers(0, 30, rng.integers(0, 4))] for i in range(8)}
    for tracklets in data.values():
        for t in tracklets:
            for _, b in t: b[2:4] = b[:2] + rng.uniform(5, 30, 2); b[4] = t[0][1][4]                  # one score a tracklet
    save_pickle(data, tmp_path/'a.pkl')
    assert command('convert', tmp_path/'a.pkl', tmp_path/'b.pkl', '--format', 'tracklets').returncode == 0
    back = load_pickle(tmp_path/'b.pkl')
    assert list(back) == list(data)
    for name in data:
        for a, b in zip(data[name], back[name], strict=True):
            assert [z for z, _ in a] == [z for z, _ in b]
            np.testing.assert_allclose([v for _, v in a], [v for _, v in b], rtol=1e-6, atol=1e-4)


def test_real_releases_through_every_format(real_data, tmp_path):
    "744 volumes with 3,033 boxes, 3,001 with 4,885: out and in again."
    for name, kind, volumes, boxes in (('Revised-Train744', 'recist.annot', 744, 3033), ('RECIST-Box-Valid', 'recist', 3001, 4885), ('3D-Box', 'boxes', 272, 874)):
        table = read_annotations(real_data/'deeplesion'/f'{name}.pkl')
        assert (table.volume.nunique(), int(table.z1.notna().sum())) == (volumes, boxes)
        for target, how in (('t.csv', 'table'), ('t.parquet', 'table'), ('t.json', 'coco'), ('t.pkl', kind)):
            back = read_annotations(write_annotations(table, tmp_path/target, how))
            key = lambda t: t.sort_values(['volume', *BOX])[['volume', *BOX]]
            assert key(back).volume.tolist() == key(table).volume.tolist()
            np.testing.assert_allclose(key(back)[BOX].to_numpy(float), key(table)[BOX].to_numpy(float), atol=1e-6)
        original, again = load_pickle(real_data/'deeplesion'/f'{name}.pkl'), load_pickle(tmp_path/'t.pkl')
        assert list(original) == list(again)


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
    ct = read_image(real_data/'ct'/'imagesTs'/'crlm_1004.nii.gz')
    write_dicom(ct, tmp_path/'in'/'series'); write_image(ct, tmp_path/'in'/'file.nrrd')
    table = predict_scans([tmp_path/'in', real_data/'ct'/'imagesTs'/'crlm_1004.nii.gz'], weights, tmp_path/'out', report=False)
    assert table.status.tolist() == ['done'] * 3
    boxes = [pd.read_csv(tmp_path/'out'/n/'lesions.csv') for n in ('file', 'series', 'crlm_1004')]
    for other in boxes[1:]: np.testing.assert_allclose(other.to_numpy(), boxes[0].to_numpy(), atol=1e-2)
    assert (read_dicom(tmp_path/'in'/'series').array == ct.array).all()


def test_padding_of_marks_is_a_choice(real_data, tmp_path):
    "Marks against themselves without padding: found by the rule of slices where the padding is taken off, mostly missed where it is kept, as the authors do."
    source = real_data/'deeplesion'/'Revised-Train744.pkl'
    write_annotations(read_annotations(source), tmp_path/'full.json', 'coco')
    found = {p: match_files(source, tmp_path/'full.json', 'p3d', padding=p)[0].detections.found.sum() for p in ('off', 'keep', 'auto')}
    assert found['off'] == 3033 and found['keep'] == found['auto'] < 1500
