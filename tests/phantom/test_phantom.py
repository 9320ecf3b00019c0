"The phantom imitates what it says it imitates, and the same seed gives the same bytes."
import json, subprocess
import numpy as np, pandas as pd, pytest, SimpleITK as sitk
from scipy import ndimage

from lesionlab.ct.io import read_image
from lesionlab.annotations.table import load_table
from lesionlab.phantom.canvas import LABEL
from lesionlab.phantom.lesions import SITES
from lesionlab.phantom.scanner import Scanner
from lesionlab.phantom.study import plan_study
from lesionlab.phantom.dataset import make_ct, phantom, study_table, write_phantom
from lesionlab.phantom.liver import multiphase, write_multiphase
from lesionlab.phantom.insertion import insert_lesions
from lesionlab.data.layouts import find_cases
from lesionlab.data.splits import split_cases


@pytest.fixture(scope='module')
def planned():
    "Lesions of 100 volumes, 70 patients, in DeepLesion's geometry."
    return pd.concat([study_table(3, i) for i in range(100)], ignore_index=True)


def test_sizes_follow_deeplesion(planned):
    "Medians within a quarter: 100 volumes are few; the data card measures 700."
    lesions = planned[planned.side.notna()]
    marked = lesions[lesions.marked]
    unmarked = lesions[~lesions.marked].side.median()
    for seen, wanted in ((marked.long.median(), 19), ((marked.short / marked.long).median(), .75), (unmarked, 10),
                         ((lesions.depth / lesions.side).median(), .72), (lesions.marked.mean(), .447),
                         (planned.drop_duplicates('volume').lesions.median(), 2)):
        assert seen == pytest.approx(wanted, rel=.25)
    assert unmarked < .8 * marked.side.median()


@pytest.mark.slow
def test_geometry_follows_deeplesion():
    studies = [plan_study(5, i, 'deeplesion') for i in range(40)]
    gaps = pd.Series([s.spacing[0] for s in studies]).value_counts(normalize=True)
    assert set(gaps.index) <= {1., 2., 5.} and abs(gaps[5.] - .49) < .1 and abs(gaps[1.] - .48) < .1
    assert all(.6 <= s.spacing[1] <= .98 and s.shape[1:] == (512, 512) for s in studies)
    for s in studies: # 30 mm beyond the marks
        keys = [l.center[0] for l in s.lesions if l.marked] or [s.axes[0].mean()]
        z, gap = s.axes[0], s.spacing[0]
        assert abs(min(keys) - z[0] - 30) <= gap and abs(z[-1] - max(keys) - 30) <= gap


@pytest.mark.slow
def test_lesions_lie_in_their_organs():
    "The organ under a lesion's middle is one that its site may replace."
    homes = []
    for i in range(12):
        p = phantom(4, i, preset='half', lesions=3)
        for number, s in enumerate(p.study.lesions, 1):
            z, y, x = (int(round(v)) for v in np.argwhere(p.mask == number).mean(0))
            homes.append(p.organs[z, y, x] in [LABEL[o] for o in SITES[s.site].organs])
    assert np.mean(homes) > .75, np.mean(homes)


@pytest.mark.slow
def test_multiphase_set_in_two_processes(tmp_path):
    root = write_multiphase(tmp_path/'hcc', 3, seed=1, workers=2)
    info = json.loads((root/'dataset.json').read_text())
    assert [len(info[s]) for s in ('training', 'validation', 'test')] == [2, 0, 1] and len(info['modality']) == 4
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(root/info['test'][0])))
    assert (image[1] == multiphase(1, 2).volumes['arterial'].array).all()


def test_follow_ups_share_anatomy():
    first, second = (make_ct(plan_study(0, i)) for i in (2, 3))
    assert first.study.patient.scale.tolist() == second.study.patient.scale.tolist()
    bone = [p.organs == LABEL['bone'] for p in (first, second)]
    assert (bone[0] == bone[1]).mean() > .995 and (first.volume.array != second.volume.array).mean() > .5


@pytest.mark.slow
def test_a_volume_of_a_set_can_be_made_by_itself_and_in_any_number_of_processes(tmp_path):
    one, two = write_phantom(tmp_path/'one', 6, seed=2), write_phantom(tmp_path/'two', 6, seed=2, workers=2)
    def mask(path): return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    for p in sorted(one.rglob('*.*')):
        assert p.read_bytes() == (two/p.relative_to(one)).read_bytes() or p.suffix == '.gz', p # gzip notes the time
    for p in sorted((one/'masks').iterdir()): assert (mask(p) == mask(two/'masks'/p.name)).all()
    case = find_cases(one)[4]
    assert (case.read().array == phantom(2, 4).volume.array).all()


@pytest.mark.slow
def test_splits_are_by_patient_and_complete(tmp_path):
    root = write_phantom(tmp_path/'set', 30)
    splits, truth = json.loads((root/'splits.json').read_text()), load_table(root/'truth.csv')
    found = split_cases(find_cases(root))
    assert {s: sorted(c.name for c in part) for s, part in found.items()} == {s: sorted(splits[s]) for s in found}
    complete, marks = (pd.read_csv(root/f'{n}.csv') for n in ('fully_labelled', 'DL_info'))
    labelled = splits['fully_labelled'] + splits['harvest_test'] + splits['test']
    wanted = truth[truth.volume.isin(labelled) & truth.z1.notna()]
    assert len(complete) == len(wanted) and 0 < len(marks) < truth.z1.notna().sum()
    train = marks.Train_Val_Test == 1
    assert (marks[train].Coarse_lesion_type == -1).all() and (marks[~train].Coarse_lesion_type > 0).all()


def test_look_alikes_can_be_left_out():
    never = [LABEL[o] for o in ('look-alike', 'vessel', 'bowel', 'airway')]
    for i in (1, 5, 7, 12):
        with_them, without = (phantom(0, i, look_alikes=l) for l in (True, False))
        assert (with_them.mask == without.mask).all()
        assert not np.isin(without.organs, never).any() and (with_them.organs != without.organs).any()


@pytest.mark.slow
def test_command_line(tmp_path):
    def run(*args): return subprocess.run(['lesionlab', 'phantom', *map(str, args)], capture_output=True, text=True)
    done = run(tmp_path/'set', '--volumes', 2, '--preset', 'half', '--workers', 2)
    assert done.returncode == 0 and len(list((tmp_path/'set'/'Images_png').iterdir())) == 2, done.stderr[-2000:]
    wrong = run(tmp_path/'other', '--preset', 'huge')
    assert wrong.returncode == 2 and 'regional, half, deeplesion' in wrong.stderr and not (tmp_path/'other').exists()


def test_hu_of_real_body_liver_and_lung(real_data):
    "Histograms of 10 HU have 70% and more in common with two public CTs."
    def common(a, b, low, high):
        h = [np.histogram(v, np.arange(low, high + 10, 10))[0] / len(v) for v in (a, b)]
        return float(np.minimum(*h).sum())
    def in_body(array):
        opened = [ndimage.binary_opening(s > -500, iterations=4) for s in array]
        return array[np.stack([ndimage.binary_fill_holes(s) for s in opened])]
    def in_lung(array): return array[ndimage.gaussian_filter(array.astype(float), 1.5) < -500]
    def scan(height, shape, spacing, scanner, middle=(0, 0)):
        s = plan_study(11, 4, 'deeplesion', lesions=0)
        s.spacing, s.phase, s.whole, s.scanner = spacing, 'portal', False, scanner
        s.axes = [m * f + (np.arange(n) + .5 - n / 2) * g
                  for m, f, n, g in zip((height, *middle), s.patient.scale, shape, spacing)]
        return make_ct(s)
    names = 'crlm_1004', 'lst_PartSolidLesionCropped'
    abdomen, nodule = (read_image(real_data/'ct'/'imagesTs'/f'{n}.nii.gz').array for n in names)
    ours = scan(-95, (41, 256, 256), (5., 1.6, 1.6), Scanner(.8, 13))
    lung = scan(80, (59, 101, 97), (1.25, .7, .7), Scanner(.4, 55, .5), (10, -100))
    array = ours.volume.array
    assert common(in_body(abdomen), in_body(array), -1024, 1500) >= .7
    assert common(abdomen[20:26, 220:280, 120:180].ravel(), array[ours.organs == LABEL['liver']], -100, 300) >= .7
    assert common(in_lung(nodule), in_lung(lung.volume.array), -1024, -200) >= .7


def test_insertion_into_a_real_ct(real_data):
    real = read_image(real_data/'ct'/'imagesTs'/'crlm_1004.nii.gz')
    new, lesions, mask = insert_lesions(real, 3, seed=3, side=(16, 34))
    assert len(lesions) == 3 and new.origin == real.origin and new.spacing == real.spacing
    far = ndimage.binary_dilation(mask > 0, iterations=12)
    assert (new.array[~far] == real.array[~far]).all()
