"The pseudo-3D evaluator against a slow and plain one, written from its rules; and properties of any FROC."
import json
import numpy as np, pytest
from hypothesis import given, settings, strategies as st

from lesionlab.core import DataError
from lesionlab.annotations.deeplesion import load_pickle
from lesionlab.evaluation.p3d import P3D_FPS, p3d_evaluate


def place(tracklet):
    "Its lowest corner z y x, then its highest."
    def along(k): return [float(box[k]) for _, box in tracklet]
    zs = [z for z, _ in tracklet]
    return [min(zs), min(along(1)), min(along(0)), max(zs), max(along(3)), max(along(2))]


def overlap(box, mark):
    "The authors' IoU: both ends are pixels of the box."
    (a, b, c, d), (e, f, g, h) = [float(v) for v in box[:4]], [float(v) for v in mark[:4]]
    inter = max(min(c, g) - max(a, e) + 1, 0) * max(min(d, h) - max(b, f) + 1, 0)
    return inter / ((c-a+1) * (d-b+1) + (g-e+1) * (h-f+1) - inter)


def plain(annotation, detections, fps=P3D_FPS, iou=.5, ours=False):
    "Loop by loop, as the rules of `09a_p3d` say."
    tracklets = [(name, t, max(float(b[4]) for _, b in t)) for name, ts in detections.items() for t in ts]
    order = sorted(range(len(tracklets)), key=lambda i: (-tracklets[i][2], *(place(tracklets[i][1]) if ours else [-i])))
    n = sum(len(b) for s in annotation.values() for b in s.values())
    found, tps, froc, ap, scores = set(), [], [], [], []
    tp = fp = again = 0
    for i in order:
        name, tracklet, score = tracklets[i]
        hits, seen = [], set()
        for z, box in tracklet:
            if z in seen: continue
            seen.add(z)
            marks = annotation[name + '.annot'].get(z, [])
            hits += [(name, z, k) for k, mark in enumerate(marks) if overlap(box, mark) >= iou]
        new = [h for h in hits if h not in found]
        found |= set(new)
        tp += len(new)
        fp += not hits
        again += (bool(hits) and not new) if ours else len(hits) - len(new)
        for running, value in ((tps, tp), (froc, fp), (ap, fp + again), (scores, score)): running.append(value)
    keep = [i for i in range(len(scores)) if not ours or i + 1 == len(scores) or scores[i + 1] != scores[i]]
    recall, precision = [tps[i] / n for i in keep], [tps[i] / max(tps[i] + ap[i], 1e-300) for i in keep]
    x = [froc[i] / len(annotation) for i in keep]
    area = sum((r - p) * max(precision[i:]) for i, (r, p) in enumerate(zip(recall, [0, *recall])))
    return dict(ap=area, tps=tps, fps_froc=froc, fps_ap=ap, recall=recall, x=x)


@st.composite
def cases(draw):
    "A few volumes with few places, so that ties, repeated hits and shared slices are common."
    box = st.builds(lambda x, y, w, h: [x, y, x + w, y + h], *[st.integers(0, 6)] * 2, *[st.integers(1, 8)] * 2)
    names = [f'v{i}' for i in range(draw(st.integers(1, 4)))]
    def marks(z): return [[*b, z, z] for b in draw(st.lists(box, min_size=1, max_size=2))]
    def slices(): return {z: marks(z) for z in draw(st.sets(st.integers(0, 3), max_size=3))}
    annotation = {n + '.annot': slices() for n in names}
    score = st.sampled_from([.1, .2, .25, .5, .75, .9])
    kind = draw(st.sampled_from([list, lambda b: np.array(b, np.float32)]))
    scored = st.builds(lambda b, s: kind([*b, s]), box, score)
    tracklet = st.lists(st.tuples(st.integers(0, 3), scored), min_size=1, max_size=3)
    return annotation, {n: draw(st.lists(tracklet, max_size=4)) for n in draw(st.permutations(names))}


many = settings(max_examples=200, deadline=None)
def lesions(case): return sum(len(b) for s in case[0].values() for b in s.values())
def tracklets(case): return sum(map(len, case[1].values()))


@many
@given(case=cases(), ours=st.booleans())
def test_agrees_with_a_plain_evaluator(case, ours):
    if not lesions(case) or not tracklets(case): return
    got, want = p3d_evaluate(*case, convention='lesionlab' if ours else 'authors'), plain(*case, ours=ours)
    for key in ('tps', 'fps_froc', 'fps_ap'): assert got[key].tolist() == want[key]
    assert got['ap'] == pytest.approx(want['ap'], abs=1e-12)
    if ours:
        def highest(x): return max(r for r, y in zip(want['recall'], want['x']) if y <= x) # recall at x at most
        best = {0.: 0.} | {x: highest(x) for x in want['x']}
        sensitivity = np.interp(P3D_FPS, sorted(best), [best[x] for x in sorted(best)])
        np.testing.assert_allclose(got['sensitivity'], sensitivity, atol=1e-12)


def _curve(annotation, detections, **options):
    done = p3d_evaluate(annotation, detections, fps=[0, .25, .5, 1, 2, 4], convention='lesionlab', **options)
    return np.array(done['sensitivity'])


def with_boxes(detections, change):
    "Detections with a change of each box."
    def changed(tracklet): return [(z, change(box)) for z, box in tracklet]
    return {volume: [changed(t) for t in found] for volume, found in detections.items()}


@many
@given(case=cases(), data=st.data())
def test_properties(case, data):
    annotation, detections = case
    if not lesions(case): return
    curve = _curve(*case)
    volume = data.draw(st.sampled_from(sorted(detections)))
    wrong = [(0, [900, 900, 950, 950, data.draw(st.floats(0, 1))])]
    more = detections | {volume: [*detections[volume], wrong]}
    assert (_curve(annotation, more) <= curve).all() # a false positive never raises it
    shuffled = data.draw(st.permutations(list(annotation)))
    found = {k[:-6]: detections[k[:-6]] for k in shuffled if k[:-6] in detections}
    assert (_curve({k: annotation[k] for k in shuffled}, found) == curve).all()
    squared = with_boxes(detections, lambda box: [*box[:4], float(box[4]) ** 2])
    assert (_curve(annotation, squared) == curve).all() # only the order of the scores counts
    assert (np.diff(curve) >= 0).all() and (curve <= 1).all()
    turned = {v: ts[::-1] for v, ts in detections.items()} # an order that means nothing
    a, b = (p3d_evaluate(annotation, d, convention='lesionlab') for d in (detections, turned))
    for key in ('ap', 'sensitivity'): assert a[key] == b[key]
    assert _curve(*case, iou_thresh=.8)[-1] <= curve[-1]


@given(case=cases())
@settings(max_examples=60, deadline=None)
def test_parts_add_up(case):
    "Splitting volumes and adding the counts gives the same."
    annotation, detections = case
    if not tracklets(case): return
    whole = p3d_evaluate(annotation, detections)
    found = [k for k in annotation if detections.get(k[:-6])]
    parts = [p3d_evaluate({k: annotation[k]}, {k[:-6]: detections[k[:-6]]}) for k in found]
    for key in ('tps', 'fps_froc', 'fps_ap'): assert sum(p[key][-1] for p in parts) == whole[key][-1]
    assert sum(sum(len(b) for b in s.values()) for s in annotation.values()) == whole['n_lesions']


def test_errors_name_the_volume():
    known, box = {'a.annot': {1: [[0, 0, 9, 9, 1, 1]]}}, [0, 0, 9, 9, .5]
    wrong = [({'b': [[(1, box)]]}, '^b: has detections'), ({'a.annot': [[(1, box)]]}, '^a.annot: has detections'),
             ({'a': [[]]}, '^a: a tracklet has no boxes')]
    for detections, says in wrong:
        for convention in ('authors', 'lesionlab'):
            with pytest.raises(DataError, match=says): p3d_evaluate(known, detections, convention=convention)
    with pytest.raises(DataError, match='no detections'): p3d_evaluate(known, {'a': []})
    unscored = {'a': [[(1, [0, 0, 9, 9, float('nan')])]]}
    with pytest.raises(DataError, match='^a: a detection has no score'):
        p3d_evaluate(known, unscored, convention='lesionlab')
    with pytest.raises(DataError, match='name no volume'): p3d_evaluate({}, {})
    with pytest.raises(ValueError, match='the choices are: authors, lesionlab'):
        p3d_evaluate(known, {'a': []}, convention='ours')
    assert p3d_evaluate(known, {'a': []}, convention='lesionlab')['sensitivity'] == [0] * 8


def test_precision_of_the_boxes():
    "An overlap at the threshold is decided in the precision of the boxes, as numpy does for the authors."
    mark = [68.391, 67.582, 140.522, 125.62599999999999]
    box = [68.8875732421875, 67.74554443359375, 140.52200317382812, 96.46937561035156, .9]
    for dtype, hits in ((np.float32, 0), (np.float64, 1)):
        found = {'a': [[(1, np.array(box, dtype))]]}
        assert p3d_evaluate({'a': {1: [[*mark, 1, 1]]}}, found)['tps'].tolist() == [hits]


@pytest.mark.parametrize('annotation, detections, tps, fps', [
    # a NaN overlap: neither
    ({'a': {1: [[0, 0, 9, 9, 1, 1]]}}, {'a': [[(1, [np.nan, 0, 9, 9, .9])]]}, [0], [0]),
    # a union of next to nothing
    ({'a': {1: [[0, 0, -.9999, -.9999, 1, 1]]}}, {'a': [[(1, [0, 0, -.9999, -.9999, .9])]]}, [0], [1]),
    # a slice by another name
    ({'a': {'1': [[0, 0, 9, 9, 1, 1]]}}, {'a': [[(1, [0, 0, 9, 9, .9])]]}, [0], [1]),
    # one volume under two names
    ({'a': {1: [[0, 0, 9, 9, 1, 1]]}, 'a.annot': {}}, {'a': [[(1, [0, 0, 9, 9, .9])]]}, [1], [0]),
    # a sixth column
    ({'a': {1: [[0, 0, 9, 9, 1, 1]]}}, {'a': [[(1, [0, 0, 9, 9, .1, .9])]] * 3}, [1, 1, 1], [0, 0, 0])])
def test_odd_structures_as_the_authors_take_them(annotation, detections, tps, fps):
    got = p3d_evaluate(annotation, detections)
    assert (got['tps'].tolist(), got['fps_froc'].tolist(), got['n_volumes']) == (tps, fps, 1)


@pytest.mark.parametrize('detections', [
    {'a': [[(1, [0, 0, 9, 9])]]}, {'a': [[(1, ['x'] * 5)]]}, {'a': [[1]]}, {'a': 3},
    {1: [[(1, [0, 0, 9, 9, .5])]]}, None])
def test_other_structures_are_typed_errors(detections):
    for convention in ('authors', 'lesionlab'):
        with pytest.raises(DataError):
            p3d_evaluate({'a': {1: [[0, 0, 9, 9, 1, 1]]}}, detections, convention=convention)


def test_the_authors_cases(real_data):
    cases = json.loads((real_data/'deeplesion'/'p3d_edge_cases.json').read_text())['cases']
    assert len(cases) == 32
    for case in cases:
        annotation = {v: {int(z): b for z, b in s.items()} for v, s in case['annotation'].items()}
        detections = with_boxes(case['detections'], lambda box: [float(n) for n in box])
        want = case['expected']
        if 'raises' in want:
            with pytest.raises(DataError): p3d_evaluate(annotation, detections)
            continue
        for kind in (list, np.array):
            got = p3d_evaluate(annotation, with_boxes(detections, kind))
            sensitivity = [float(v) for v in want['sensitivity']]
            np.testing.assert_array_equal(got['sensitivity'], sensitivity, err_msg=case['name'])
            np.testing.assert_allclose(got['ap'], float(want['AP']), rtol=0, atol=1e-12, err_msg=case['name'])
            for key in ('tps', 'fps_froc', 'fps_ap'): assert got[key].tolist() == want[key], case['name']
            assert (got['n_lesions'], got['n_volumes']) == (want['n_recist'], want['n_volumes'])


def test_at_real_scale(real_data):
    "All 744 fully annotated volumes with made-up detections."
    annotation, rng = load_pickle(real_data/'deeplesion'/'Revised-Train744.pkl'), np.random.default_rng(0)
    detections = {}
    for name, slices in annotation.items():
        marks = [(z, b) for z, boxes in slices.items() for b in boxes]
        def near(box): return [*(np.array(box[:4], float) + rng.normal(0, 4, 4)), rng.random() ** .5]
        hits = [[(z, near(b))] for z, b in marks if rng.random() < .8]
        far = [[(int(rng.integers(0, 30)), [*xy, *(xy + 30), rng.random()])] for xy in rng.uniform(50, 400, (8, 2))]
        detections[name.removesuffix('.annot')] = hits + far
    got, want = p3d_evaluate(annotation, detections), plain(annotation, detections)
    assert got['n_lesions'] == 3033 and got['n_volumes'] == 744
    for key in ('tps', 'fps_froc', 'fps_ap'): assert got[key].tolist() == want[key]
    assert got['ap'] == pytest.approx(want['ap'], abs=1e-12)
