"Rounds run by papermill, are resumed, and agree with the tables and the release made from them."
import json, shutil
import numpy as np, pytest

from conftest import papermill
from lesionlab.annotations.table import load_table
from lesionlab.annotations.io import read_annotations
from lesionlab.phantom.dataset import write_phantom
from lesionlab.evaluation.metrics import recall_at_precision
from lesionlab.harvesting.partly_labelled import LabelSettings, read_partly_labelled
from lesionlab.harvesting.sets import load_harvest, load_round
from lesionlab.harvesting.mining import complete
from lesionlab.harvesting.completeness import held_against
from lesionlab.harvesting.release import write_release

SMALL = dict(preset='tiny', lpg_steps=90, finetune_steps=20, lpc_steps=12, precision=.3)
WRITTEN = ('proposals.parquet', 'slices.parquet', 'completed.parquet', 'harvest.json', 'lpg.safetensors',
           'harvest_round.ipynb', 'precision.html')


def execute(notebook, out, **parameters):
    "Run a notebook that must not fail."
    done = papermill(notebook, out, **parameters)
    assert done.returncode == 0, done.stderr[-3000:]


def load(path): return json.loads(path.read_text())


@pytest.fixture(scope='module')
def data(tmp_path_factory): return write_phantom(tmp_path_factory.mktemp('data')/'dl', volumes=22)


@pytest.fixture(scope='module')
def run(data, tmp_path_factory):
    "Two rounds with tiny nets, and their control."
    out = tmp_path_factory.mktemp('harvest')/'run'
    execute('harvest.ipynb', out.parent/'o.ipynb', data_root=data, out_dir=out, rounds=2, **SMALL)
    return out


def test_rounds_and_their_control(run):
    m = load(run/'metrics.json')
    rounds, control = m['rounds'], m['control']
    assert [r['round'] for r in rounds] == [0, 1, 2] and [r['round'] for r in control] == [2] and m['synthetic']
    for r in [*rounds, *control]:
        for percent in (80, 85, 90, 95): assert 0 <= r[f'recall_at_{percent}p'] <= 1
    assert rounds[0]['recall_at_90p'] <= .45
    assert rounds[1]['recall_at_90p_low'] <= rounds[1]['recall_at_90p'] <= rounds[1]['recall_at_90p_high']
    for folder in (run/'round_1', run/'round_2', run/'control'/'round_2'):
        for name in WRITTEN: assert (folder/name).exists(), (folder, name)


def test_metrics_can_be_computed_again(run, data):
    "From the tables beside them."
    m = load(run/'round_2'/'metrics.json')
    truth = read_partly_labelled(data, LabelSettings(.4)).truth
    again = recall_at_precision(held_against(*load_round(run/'round_2'), truth))
    assert np.allclose(np.nan_to_num(again), [m[f'recall_at_{percent}p'] for percent in (80, 85, 90, 95)])


def test_release_is_whole(run):
    table, coco = (read_annotations(run/'release'/f'lesions.{suffix}') for suffix in ('parquet', 'json'))
    lesions = table[table.z1.notna()]
    assert len(coco) == len(table) and lesions.source.isin(['mark', 'recovered', 'harvested']).all()
    card = (run/'release'/'card.md').read_text()
    assert 'The scans are synthetic' in card and 'recall' in card.lower() and f'{len(lesions)} lesions' in card


def test_what_is_done_is_not_done_again(run, data):
    stamp = {p: p.stat().st_mtime_ns for p in run.rglob('metrics.json') if p.parent != run}
    execute('harvest.ipynb', run.parent/'again.ipynb', data_root=data, out_dir=run, rounds=2, **SMALL)
    assert {p: p.stat().st_mtime_ns for p in stamp} == stamp


def test_interrupted_and_mistaken_rounds(run, data, tmp_path):
    "A stopped round goes on after its last step; a folder of other parameters or without the round before is an error."
    here = tmp_path/'part'/'round_1'
    shutil.copytree(run/'round_1', here)
    for name in ('metrics.json', 'harvest.json'): (here/name).unlink()
    times = lambda: [(here/name).stat().st_mtime_ns for name in ('lpg.safetensors', 'scores.parquet')]
    kept = times()
    small = dict(data_root=data, out_dir=here.parent, **SMALL)
    execute('harvest_round.ipynb', tmp_path/'o.ipynb', **small)
    assert times() == kept
    assert load(here/'harvest.json') == load(run/'round_1'/'harvest.json')
    other = papermill('harvest_round.ipynb', tmp_path/'o.ipynb', **small | dict(seed=5))
    assert other.returncode and 'holds a round of other parameters or other input' in other.stderr
    early = papermill('harvest_round.ipynb', tmp_path/'o.ipynb', **small | dict(round=3))
    assert early.returncode and 'holds no finished round' in early.stderr


def test_tables_are_made_from_a_run(run, tmp_path):
    out = tmp_path/'tables'
    few = dict(steps=12, kinds='axial', families='mscn')
    execute('harvester_tables.ipynb', tmp_path/'o.ipynb', run=run, out_dir=out, **few)
    m = load(out/'metrics.json')
    assert set(m['table_2']['ours 1']) == set('abcdef') and m['table_2']['paper 1']['f'] == .536
    assert m['table_1']['paper R@90P']['round 3'] == .613
    table_3 = m['table_3']
    rows = {'MSCN on R', 'MSCN w/ HNSL on R, P+_H and P-', 'MSCN on all true lesions'}
    assert rows <= set(table_3['ours AP']) and (out/'figure_5b.html').exists()
    assert table_3['paper AP']['MSCN on R'] == .43 and table_3['paper AP']['MSCN on all true lesions'] is None


def test_choices_of_vld_learn_from_a_harvest_and_start_from_its_weights(run, data, tmp_path):
    out = tmp_path/'choices'
    execute('vld_choices.ipynb', tmp_path/'o.ipynb', harvest=run, data_root=data, out_dir=out, points=[], splits=[],
            block_4=False, labels='marks harvest', starts='lpg imagenet', preset='tiny', steps=4)
    m = load(out/'metrics.json')
    assert m['failed'] == [] and list(m['choices']['table']['ours Avg.']) == ['16 points, 8:1:1, no block 4']
    assert list(m['labels']['table']['ours Avg.']) == ['marks, from lpg', 'harvest, from lpg']
    learnt = [json.dumps(load(p)['cells']) for p in (out/'labels').glob('*/train_detector.ipynb')]
    assert len(learnt) == 2
    for cells in learnt: assert 'lpg.safetensors' in cells and 'tensors loaded' in cells
    folder = next(out.glob('marks_*'))/'round_1'
    marks = load_table(folder/'completed.parquet')
    assert set(marks.source[marks.z1.notna()]) == {'mark'} and not len(load_harvest(folder).proposals)


def test_labels_by_an_expert_go_into_the_next_run(run, data, tmp_path):
    "The labelling page opens on a run; its verdicts change the labels of the data set."
    path = tmp_path/'verdicts.parquet'
    execute('label_proposals.ipynb', tmp_path/'o.ipynb', data_root=data, run=run/'round_1', path=path, most=4)
    from lesionlab.apps.review import Verdicts
    p = load_harvest(run/'round_1').proposals
    p = p[~p.volume.isin(read_partly_labelled(data).fully)].reset_index(drop=True)
    v = Verdicts(p, path)
    v.say(0, 'accepted')
    v.say(1, 'rejected')
    v.finish(p.volume[0])
    before, after = (read_partly_labelled(data, LabelSettings(.4, verdicts=file)) for file in ('', path))
    assert after.fully == before.fully | {p.volume[0]} and len(after.rejected) == 1
    assert after.marks.z1.notna().sum() == before.marks.z1.notna().sum() + 1
    assert not set(after.truth.volume) & after.fully


def test_accepted_boxes_keep_their_source_in_the_release(run, data, tmp_path):
    "An expert's box is named as such, and is as the expert left it, whatever proposal hits it."
    h = load_harvest(run/'round_1')
    p = h.of('P_H^+')
    verdicts = p[:1].assign(verdict='accepted', z2=lambda t: t.z2 + 1)
    verdicts.to_parquet(tmp_path/'verdicts.parquet')
    marks = read_partly_labelled(data, LabelSettings(.4, verdicts=tmp_path/'verdicts.parquet')).marks
    row = int(np.flatnonzero(marks[marks.z1.notna()].source == 'expert')[0])
    h.proposals.loc[p.index[0], ['set', 'parent']] = ['P_H^R', row]
    table = complete(marks, [h])
    accepted = table[table.source == 'expert']
    assert accepted.z2.tolist() == verdicts.z2.tolist() and accepted.s_g.tolist() == p.score[:1].tolist()
    folder = write_release(table, tmp_path/'release', load(run/'round_1'/'metrics.json'), {})
    assert (load_table(folder/'lesions.parquet').source == 'expert').sum() == 1
    assert '- `expert`: 1, ' in (folder/'card.md').read_text()


@pytest.mark.slow
def test_labour_budget(data, tmp_path):
    out = tmp_path/'out'
    execute('labour_budget.ipynb', tmp_path/'o.ipynb', data_root=data, out_dir=out, shares='10 20', judges=8,
            preset='tiny', lpg_steps=60, lpc_steps=8)
    rows = load(out/'metrics.json')['rows']
    assert [r['way'] for r in rows] == ['chance', 'chance', 'suggested'] and rows[1]['labelled'] == rows[2]['labelled']
    patients = lambda names: {n[:6] for n in names}
    judged = patients(load(out/'volumes.json')['judges'])
    for file in out.glob('*_*/fully.txt'): assert not judged & patients(file.read_text().split())
