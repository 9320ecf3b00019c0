"Matching and its figures against slow and plain ones, on random tables."
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st

from lesionlab.core import DataError
from lesionlab.annotations.table import BOX, SPACING
from lesionlab.annotations.deeplesion import from_authors, from_dl_info, tracklet_slices
from lesionlab.annotations.io import read_annotations
from lesionlab.evaluation.matching import RULES, match
from lesionlab.evaluation.metrics import (
    METRICS, SIZES, ap_of, by_stratum, evaluate, froc_of, metric_names, precision_recall, recall_at_precision,
    size_strata,
)
from lesionlab.evaluation.p3d import p3d_evaluate
from lesionlab.evaluation.intervals import bootstrap, paired_test

few = settings(max_examples=80, deadline=None)


def lesion(volume, box, **more): return dict(volume=volume, **dict(zip(BOX, box)), **more)


@st.composite
def tables(draw):
    "Truth and detections with few places and scores, so that overlaps and ties are common."
    names = [f'{i:06d}_01' for i in range(draw(st.integers(1, 4)))]
    place = st.tuples(*[st.integers(0, 5)] * 3, *[st.integers(1, 6)] * 3)
    score = st.sampled_from([.2, .4, .6, .8])
    def row(volume, drawn, **more):
        corner, size = np.array(drawn[:3]), np.array(drawn[3:])
        return lesion(volume, [*corner.tolist(), *(corner + size).tolist()], **more)
    truth, seen = [], []
    for v in names:
        lesions = draw(st.lists(place, max_size=3))
        truth += [row(v, p) for p in lesions] or [dict(volume=v, **dict.fromkeys(BOX, np.nan))]
        seen += [row(v, p, score=s) for p, s in draw(st.lists(st.tuples(place, score), max_size=5))]
    detections = pd.DataFrame(seen, columns=['volume', *BOX, 'score'])
    return detections.astype(dict.fromkeys([*BOX, 'score'], float)), pd.DataFrame(truth)


def overlap(a, b, axes):
    inter = np.prod([max(min(a[i + 3], b[i + 3]) - max(a[i], b[i]), 0) for i in axes])
    return inter / (np.prod([a[i + 3] - a[i] for i in axes]) + np.prod([b[i + 3] - b[i] for i in axes]) - inter)


def plain(detections, truth, rule, iou):
    "Loop by loop: (found, again, false positive) of each detection by falling score."
    lesions, seen, out = [r for r in truth.to_dict('records') if r['z1'] == r['z1']], set(), []
    for d in sorted(detections.to_dict('records'), key=lambda r: (-r['score'], *(r[c] for c in BOX))):
        box, hits = [d[c] for c in BOX], set()
        for i, l in enumerate(lesions):
            other = [l[c] for c in BOX]
            if l['volume'] != d['volume']: continue
            if rule == '3d': hit = overlap(box, other, (0, 1, 2)) > iou
            else: hit = box[0] <= (other[0] + other[3]) / 2 <= box[3] and overlap(box, other, (1, 2)) >= iou
            if hit: hits.add(i)
        out.append((len(hits - seen), len(hits & seen), not hits))
        seen |= hits
    return out


@few
@given(case=tables(), rule=st.sampled_from(['3d', 'p3d extent']), iou=st.sampled_from([.2, .3, .5]))
def test_matching_agrees_with_a_plain_one(case, rule, iou):
    m = match(*case, iou, rule)
    detections, lesions, volumes = m.detections, m.lesions, m.volumes
    assert list(zip(detections.found, detections.again, detections.false_positive)) == plain(*case, rule, iou)
    assert volumes.lesions.sum() == len(lesions)
    assert volumes.found.sum() == (lesions.by >= 0).sum() == detections.found.sum()
    assert volumes.false_positives.sum() == detections.false_positive.sum()
    assert len(volumes) == case[1].volume.nunique()
    for _, l in lesions[lesions.by >= 0].iterrows():
        assert detections.score[l.by] == l.score and detections.found[l.by] > 0


@few
@given(case=tables(), rule=st.sampled_from(['3d', 'p3d extent', 'p3d', 'recist 2d']))
def test_properties(case, rule):
    detections, truth = case
    if not truth.z1.notna().any(): return
    if rule == 'recist 2d':
        truth = truth[truth.z1.notna()]
        detections = detections[detections.volume.isin(truth.volume)]
    fps = [0, .25, .5, 1, 2, 4]
    curve = froc_of(match(detections, truth, rule=rule)).at(fps)
    assert (np.diff(curve) >= 0).all() and ((0 <= curve) & (curve <= 1)).all()
    wrong = pd.DataFrame([lesion(truth.volume.iloc[0], [0, 900, 900, 12, 910, 910], score=.5)])
    assert (froc_of(match(pd.concat([detections, wrong]), truth, rule=rule)).at(fps) <= curve + 1e-12).all()
    order = np.random.default_rng(0).permutation(truth.volume.unique())
    parts = [pd.concat([t[t.volume == v] for v in order]) for t in (detections, truth)]
    np.testing.assert_allclose(froc_of(match(*parts, rule=rule)).at(fps), curve)
    cubed = detections.assign(score=detections.score ** 3)
    np.testing.assert_allclose(froc_of(match(cubed, truth, rule=rule)).at(fps), curve)


@few
@given(case=tables())
def test_precision_and_ap(case):
    m = match(*case)
    if not len(m.lesions) or not len(m.detections): return
    steps, area = [], 0.
    for score in sorted(set(m.detections.score), reverse=True):
        above = m.detections[m.detections.score >= score]
        tp = above.found.sum()
        steps.append((tp / max(tp + (above.found == 0).sum(), 1), tp / len(m.lesions)))
    np.testing.assert_allclose(precision_recall(m)[['precision', 'recall']], steps)
    for i, (_, recall) in enumerate(steps):
        before = steps[i - 1][1] if i else 0
        area += (recall - before) * max(p for p, _ in steps[i:])
    assert ap_of(m) == pytest.approx(area, abs=1e-12)
    for level, value in zip((.5, .8), recall_at_precision(m, (.5, .8))):
        reached = [r for p, r in steps if p >= level]
        assert value == max(reached) if reached else np.isnan(value)


def random_marks(rng):
    "Marks of a volume as the authors store them: slice, and its boxes."
    marks = {}
    for _ in range(rng.integers(0, 4)):
        z, corner = int(rng.integers(0, 50)), rng.uniform(50, 300, 2)
        marks.setdefault(z, []).append([*corner, *(corner + rng.uniform(15, 60, 2)), z, z])
    return marks


def random_tracklets(rng, marks):
    "Tracklets of a volume: one near each of its marks, and three anywhere."
    def near(z, box): return z, [*(np.array(box[:4]) + rng.normal(0, 5, 4)), round(rng.random(), 2)]
    found = [[near(z + i, box) for i in range(-1, 2)] for z, boxes in marks.items() for box in boxes]
    places = zip(rng.integers(0, 50, 3), rng.uniform(50, 300, (3, 2)))
    return found + [[(int(z), [*corner, *(corner + 30), round(rng.random(), 2)])] for z, corner in places]


def test_tables_and_the_authors_structures_give_one_answer():
    "The pseudo-3D rule on tables with slices is the evaluator's, in our convention."
    rng = np.random.default_rng(0)
    annotation, detections = {}, {}
    for v in range(30):
        name, marks = f'{v:06d}_01_01_001-060', random_marks(rng)
        annotation[name + '.annot'] = marks
        detections[name] = random_tracklets(rng, marks)
    theirs = p3d_evaluate(annotation, detections, convention='lesionlab')
    m = match(from_authors(detections), from_authors(annotation, pad=0), rule='p3d', slices=tracklet_slices(detections))
    assert (len(m.lesions), len(m.volumes)) == (theirs['n_lesions'], theirs['n_volumes'])
    np.testing.assert_allclose(froc_of(m).at((.125, .25, .5, 1, 2, 4, 8, 16)), theirs['sensitivity'])
    assert ap_of(m) == pytest.approx(theirs['ap'])


@few
@given(case=tables(), rule=st.sampled_from(['3d', 'p3d']))
def test_parts_of_the_table_and_its_order(case, rule):
    "Splitting volumes and adding the counts gives the same; turning the table round moves nothing."
    detections, truth = case
    m = match(*case, rule=rule)
    def counts(matched): return matched.volumes[['lesions', 'found', 'false_positives']].sum()
    parts = [match(detections[detections.volume == v], t, rule=rule) for v, t in truth.groupby('volume')]
    assert sum(map(counts, parts)).tolist() == counts(m).tolist()
    if not len(m.lesions): return
    a, b = (evaluate(x, (.5, 1)) for x in (m, match(detections[::-1], truth[::-1], rule=rule)))
    for key in ('ap', 'sensitivity', 'recall_at_precision'): assert a[key] == pytest.approx(b[key], nan_ok=True)


@few
@given(case=tables(), seed=st.integers(0, 99))
def test_slices_follow_the_rule(case, seed):
    "With slices of their own, in any order and with a second box on some, detections hit as the loops say."
    detections, truth = case
    rng, rows = np.random.default_rng(seed), []
    def box(z):
        y, x = rng.integers(0, 5, 2)
        return dict(z1=z, z2=z + 1, y1=y, x1=x, y2=y + rng.integers(1, 7), x2=x + rng.integers(1, 7))
    for i, d in enumerate(detections.to_dict('records')):
        for z in rng.permutation(np.arange(int(d['z1']), int(d['z2']))):
            rows += [dict(detection=i, **box(z)) for _ in range(rng.integers(1, 3))]
    slices = pd.DataFrame(rows, columns=['detection', *BOX]).astype({'detection': int})
    m = match(detections, truth, rule='p3d', slices=slices)
    lesions, seen = truth[truth.z1.notna()].to_dict('records'), set()
    for d in m.detections.to_dict('records'):
        hits = set()
        for k, l in enumerate(lesions):
            z = int(np.floor((l['z1'] + l['z2']) / 2))
            here = [r for r in rows if r['detection'] == d['row'] and r['z1'] == z]
            if l['volume'] != d['volume'] or not here: continue
            if overlap([here[0][c] for c in BOX], [l[c] for c in BOX], (1, 2)) >= .5: hits.add(k)
        assert (d['found'], d['again'], d['false_positive']) == (len(hits - seen), len(hits & seen), not hits)
        seen |= hits


def _cube(at, **more): return lesion('a', [at, at, at, at + 10, at + 10, at + 10], **more)


def test_scores_must_be_numbers():
    truth = pd.DataFrame([_cube(0)])
    for score in (np.nan, np.inf):
        found = pd.DataFrame([_cube(0, score=score)])
        with pytest.raises(DataError, match='volume a has no score'): match(found, truth)
    for iou in (7, float('nan'), -1):
        with pytest.raises(ValueError, match='between 0 and 1'): match(truth, truth, iou)
    numbered = truth.assign(volume=3) # names may be numbers
    assert match(numbered, numbered).detections.volume.tolist() == ['3']


def test_slices_at_the_ends_of_continuous_boxes():
    mark = lambda z: pd.DataFrame([dict(volume='a', z1=z, y1=0, x1=0, z2=z + 1, y2=10, x2=10)])
    found = pd.DataFrame([dict(volume='a', z1=5.5, y1=0, x1=0, z2=9.5, y2=10, x2=10, score=.5)])
    for z in range(3, 12):
        hits = [int(match(found, mark(z), rule=r).detections.found.sum()) for r in ('p3d', 'p3d extent')]
        assert hits == [int(5 <= z <= 9)] * 2


def test_rows_of_pictures_are_those_of_the_table():
    free = dict(volume='b', **dict.fromkeys(BOX, np.nan), score=np.nan)
    found = pd.DataFrame([free, _cube(50, score=.9), _cube(0, score=.8)])
    m = match(found, pd.DataFrame([_cube(0)]), rule='recist 2d')
    assert m.detections.row.tolist() == [2] and m.lesions.name.tolist() == ['a'] and m.lesions.slice.tolist() == [5]
    slices = pd.DataFrame([dict(detection=0, **dict(zip(BOX, [5, 0, 0, 6, 10, 10])))])
    with pytest.raises(DataError, match='slices name detection 0'):
        match(found, pd.DataFrame([_cube(0)]), rule='p3d', slices=slices)


def test_every_lesion_has_a_stratum():
    boxes = pd.DataFrame([dict(zip(BOX, [0, 0, 0, 1, s, s])) for s in (5., 15, 25, 50)])
    assert size_strata(boxes, np.ones((4, 3)), (10, 20, 30)).tolist() == ['0-10 mm', '10-20 mm', '20-30 mm', '> 30 mm']


def test_strata_add_up():
    rng = np.random.default_rng(1)
    def row(i, side):
        x = 100 * (i % 2)
        return lesion(f'{i // 2:06d}_01', [0, 0, x, 10, side, x + side], **dict.fromkeys(SPACING, 1.))
    truth = pd.DataFrame([row(*numbered) for numbered in enumerate(rng.uniform(5, 80, 60))])
    m = match(truth.assign(score=rng.random(60)).sample(40, random_state=0), truth)
    table = by_stratum(m, size_strata(m.lesions))
    assert table.lesions.sum() == 60 and table.share.sum() == pytest.approx(1)
    assert (table.lesions * table['at 1 FP of all']).sum() / 60 == pytest.approx(froc_of(m).at([1])[0])


def _of_patient(v, x, z=0):
    "A cube of 10 voxels in the scan of patient `v`."
    return lesion(f'{v:06d}_01', [z, 0, x, z + 10, 10, x + 10])


def test_bootstrap_covers():
    "Of many made-up data sets the 95% interval holds the true sensitivity in most."
    rng, inside = np.random.default_rng(0), 0
    for trial in range(60):
        truth = pd.DataFrame([_of_patient(v, 20 * k) for v in range(40) for k in range(2)])
        m = match(truth[rng.random(80) < .7].assign(score=1.), truth)
        table = bootstrap(m, fps=(1.,), rounds=200, seed=trial)
        inside += table.low.iloc[0] <= .7 <= table.high.iloc[0]
    assert inside >= 52 # 57 expected


def test_permutation_test_is_fair():
    "Two detectors alike differ at p < 0.1 about one time in ten."
    rng, small = np.random.default_rng(0), 0
    truth = pd.DataFrame([_of_patient(v, 0) for v in range(30)])
    for trial in range(60):
        a, b = (match(truth[rng.random(30) < .6].assign(score=1.), truth) for _ in range(2))
        small += paired_test(a, b, fps=(1.,), rounds=99, seed=trial).p.iloc[0] < .1
    assert small <= 13


def _random_detectors(rng, patients=30):
    "A truth and two detectors of one quality."
    truth = pd.DataFrame([_of_patient(v, 20 * k) for v in range(patients) for k in range(2)])
    def one():
        hits = truth[rng.random(len(truth)) < .7]
        rows = [_of_patient(v, 20 * k, z=50) for v in range(patients) for k in range(rng.poisson(1))]
        wrong = pd.DataFrame(rows, columns=['volume', *BOX])
        return pd.concat([hits.assign(score=rng.random(len(hits)) ** .5), wrong.assign(score=rng.random(len(wrong)))])
    return truth, one(), one()


def test_the_paired_test_reads_each_detectors_scores_by_their_order():
    "Scores of another scale change nothing, and two detectors alike seldom differ, whatever their scales."
    rng, small = np.random.default_rng(0), []
    for trial in range(25):
        truth, a, b = _random_detectors(rng)
        scaled = b.assign(score=b.score ** 3 / 100)
        pairs = [(match(a, truth), match(other, truth)) for other in (b, scaled)]
        tests = [paired_test(*pair, fps=(.25, 1.), rounds=49, seed=trial) for pair in pairs]
        pd.testing.assert_frame_equal(*tests)
        small.append(tests[0].p < .1)
    assert (np.mean(small, axis=0) <= .28).all() # 0.1 expected; 0.28 is three standard errors above
    with pytest.raises(DataError, match='one detector was matched by 3d'):
        paired_test(match(a, truth), match(a, truth, rule='p3d'))


def test_intervals_at_their_edges():
    one = pd.DataFrame([_cube(0)])
    table = bootstrap(match(one, one), rounds=20)
    assert table.value.iloc[0] == 1 and table[['low', 'high']].isna().all(axis=None) # one patient
    free = pd.DataFrame([dict(volume=v, **dict.fromkeys(BOX, np.nan)) for v in 'ab'])
    table = bootstrap(match(free[:0], free), rounds=20)
    assert table[['value', 'low', 'high']].isna().all(axis=None) # no lesion
    for bad in (dict(rounds=0), dict(level=95), dict(seed=-1)):
        with pytest.raises(ValueError, match='but must be'): bootstrap(match(one, one), **bad)
    with pytest.raises(DataError, match='names no volume'): match(one, one[:0])


def test_a_figure_that_is_missing_is_not_significant():
    "No threshold of either is precise enough: there is no difference to test."
    truth = pd.DataFrame([_of_patient(v, 0) for v in range(10)])
    wrong = match(truth.assign(x1=500., x2=510., score=1.), truth)
    table = paired_test(wrong, wrong, rounds=50)
    assert table.p[[n for n in table.index if 'precision' in n]].isna().all()
    assert (table.p[['AP', 'mean sensitivity']] == 1).all()


def test_all_released_kinds(real_data):
    folder = real_data/'deeplesion'
    full = read_annotations(folder/'Revised-Train744.pkl')
    m = match(full.assign(score=1.), full, rule='p3d extent')
    assert evaluate(m)['sensitivity'][0] == 1 and len(m.volumes) == 744 and len(m.lesions) == 3033
    info = from_dl_info(folder/'DL_info_part.csv')
    boxes = read_annotations(folder/'3D-Box.pkl')
    spacing = boxes[['volume']].merge(info.drop_duplicates('volume')[['volume', *SPACING]])[SPACING]
    assert len(boxes) == len(spacing) == 874
    shares = pd.Series(size_strata(boxes, spacing.to_numpy())).value_counts(normalize=True)
    assert [round(shares[k], 2) for k in ('0-20 mm', '20-50 mm', '> 50 mm')] == [.62, .29, .09] # VLD, Table 2
    assert len(info) == 5050 and (info.split == 'test').sum() == 4927


@pytest.mark.parametrize('text, says', [
    ('a,b\n1,2\n', 'lacks the column volume'),
    ('Key_slice_index,Bounding_boxes\n1,x\n', 'is no DL_info.csv, it has no column File_name'),
    ('hello\n', 'lacks the column volume')])
def test_bad_files_are_named(tmp_path, text, says):
    (tmp_path/'file.csv').write_text(text)
    with pytest.raises(DataError, match=f'file.csv.*{says}'): read_annotations(tmp_path/'file.csv')


def test_names_of_metrics():
    assert len(metric_names((1., 2.))) == 8 and SIZES[1:3] == (20, 50)
    assert set(RULES) == {'3d', 'p3d', 'p3d extent', 'recist 2d'}


def test_a_metric_is_one_function(monkeypatch):
    "Once registered, it is in the dictionary, the intervals and the paired test."
    truth, a, b = _random_detectors(np.random.default_rng(0))
    a, b = match(a, truth), match(b, truth)
    before = bootstrap(a, rounds=50)
    monkeypatch.setitem(METRICS, 'highest recall', lambda counts: counts.recall.max(initial=0))
    table = bootstrap(a, rounds=50)
    pd.testing.assert_frame_equal(table.iloc[:-1], before)
    assert table.value['highest recall'] == evaluate(a)['highest_recall'] == precision_recall(a).recall.max()
    assert table.low['highest recall'] <= table.value['highest recall'] <= table.high['highest recall']
    assert paired_test(a, b, rounds=50).index[-1] == 'highest recall'


def test_dictionary_and_intervals_are_of_one_metric():
    "Exactly, as one function computes both."
    for seed in range(10):
        truth, a, _ = _random_detectors(np.random.default_rng(seed))
        m = match(a, truth)
        value, whole = bootstrap(m, rounds=1).value, evaluate(m)
        recalls = whole['recall_at_precision']
        np.testing.assert_array_equal(value, [*whole['sensitivity'], whole['mean_sensitivity'], whole['ap'], *recalls])
        assert whole['sensitivity'] == froc_of(m).at().tolist() and whole['ap'] == ap_of(m)
