"The rounds run by papermill, are resumed, and what is made of them holds together."
import json, shutil
import numpy as np, pandas as pd, pytest

from conftest import papermill
from lesionlab.annotations.table import load_table
from lesionlab.annotations.io import read_annotations
from lesionlab.phantom.dataset import write_phantom
from lesionlab.evaluation.metrics import recall_at_precision
from lesionlab.harvesting.partly_labelled import read_partly_labelled
from lesionlab.harvesting.sets import load_harvest
from lesionlab.harvesting.completeness import held_against

SMALL = dict(preset='tiny', lpg_steps=90, finetune_steps=20, lpc_steps=12, precision=.3)


@pytest.fixture(scope='module')
def data(tmp_path_factory): return write_phantom(tmp_path_factory.mktemp('data')/'dl', volumes=22)


@pytest.fixture(scope='module')
def run(data, tmp_path_factory):
    "Two rounds with tiny nets, and their control."
    out = tmp_path_factory.mktemp('harvest')/'run'
    done = papermill('harvest.ipynb', out.parent/'o.ipynb', data_root=data, out_dir=out, rounds=2, **SMALL)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def test_rounds_and_their_control(run):
    m = json.loads((run/'metrics.json').read_text())
    assert [r['round'] for r in m['rounds']] == [0, 1, 2] and [r['round'] for r in m['control']] == [2] and m['synthetic']
    for r in [*m['rounds'], *m['control']]: assert all(0 <= r[f'recall_at_{p}p'] <= 1 for p in (80, 85, 90, 95))
    assert m['rounds'][0]['recall_at_90p'] <= .45 and m['rounds'][1]['recall_at_90p_low'] <= m['rounds'][1]['recall_at_90p'] <= m['rounds'][1]['recall_at_90p_high']
    for folder in (run/'round_1', run/'round_2', run/'control'/'round_2'):
        for name in ('proposals.parquet', 'slices.parquet', 'completed.parquet', 'harvest.json', 'lpg.safetensors', 'harvest_round.ipynb', 'precision.html'): assert (folder/name).exists(), (folder, name)


def test_figures_can_be_computed_again(run, data):
    "From the tables that lie beside them."
    m = json.loads((run/'round_2'/'metrics.json').read_text())
    truth = read_partly_labelled(data, .4, 0).truth
    again = recall_at_precision(held_against(load_harvest(run/'round_2'), pd.read_parquet(run/'round_2'/'slices.parquet'), truth))
    assert np.allclose(np.nan_to_num(again), [m[f'recall_at_{p}p'] for p in (80, 85, 90, 95)])


def test_release_is_whole(run):
    table, coco = load_table(run/'release'/'lesions.parquet'), read_annotations(run/'release'/'lesions.json')
    assert len(coco) == len(table) and table.source[table.z1.notna()].isin(['mark', 'recovered', 'harvested']).all()
    card = (run/'release'/'card.md').read_text()
    assert 'The scans are synthetic' in card and 'recall' in card.lower() and f'{table.z1.notna().sum()} lesions' in card


def test_what_is_done_is_not_done_again(run, data):
    stamp = {p: p.stat().st_mtime_ns for p in run.rglob('metrics.json') if p.parent != run}
    again = papermill('harvest.ipynb', run.parent/'again.ipynb', data_root=data, out_dir=run, rounds=2, **SMALL)
    assert again.returncode == 0, again.stderr[-2000:]
    assert {p: p.stat().st_mtime_ns for p in stamp} == stamp


def test_interrupted_and_mistaken_rounds(run, data, tmp_path):
    "A stopped round goes on after its last step; other parameters never reuse a folder; a round without its forerunner says so."
    part = tmp_path/'part'
    shutil.copytree(run/'round_1', part/'round_1')
    (part/'round_1'/'metrics.json').unlink(); (part/'round_1'/'harvest.json').unlink()
    kept = (part/'round_1'/'lpg.safetensors').stat().st_mtime_ns, (part/'round_1'/'scores.parquet').stat().st_mtime_ns
    small = dict(data_root=data, out_dir=part, **SMALL)
    done = papermill('harvest_round.ipynb', tmp_path/'o.ipynb', **small)
    assert done.returncode == 0, done.stderr[-2000:]
    assert kept == ((part/'round_1'/'lpg.safetensors').stat().st_mtime_ns, (part/'round_1'/'scores.parquet').stat().st_mtime_ns)
    assert json.loads((part/'round_1'/'harvest.json').read_text()) == json.loads((run/'round_1'/'harvest.json').read_text())
    other = papermill('harvest_round.ipynb', tmp_path/'o.ipynb', **small | dict(seed=5))
    assert other.returncode and 'holds a round of other parameters or other input' in other.stderr
    early = papermill('harvest_round.ipynb', tmp_path/'o.ipynb', **small | dict(round=3))
    assert early.returncode and 'holds no finished round' in early.stderr


def test_tables_are_made_from_a_run(run, tmp_path):
    out = tmp_path/'tables'
    done = papermill('harvester_tables.ipynb', tmp_path/'o.ipynb', run=run, out_dir=out, steps=12, kinds='axial', families='mscn')
    assert done.returncode == 0, done.stderr[-3000:]
    m = json.loads((out/'metrics.json').read_text())
    assert set(m['table_2']['ours 1']) == set('abcdef') and m['table_2']['paper 1']['f'] == .536 and m['table_1']['paper R@90P']['round 3'] == .613
    assert {'MSCN on R', 'MSCN w/ HNSL on R, P+_H and P-', 'MSCN on all true lesions'} <= set(m['table_3']['ours AP']) and (out/'figure_5b.html').exists()
    assert m['table_3']['paper AP']['MSCN on R'] == .43 and m['table_3']['paper AP']['MSCN on all true lesions'] is None


def test_choices_of_vld_learn_from_a_harvest_and_start_from_its_weights(run, data, tmp_path):
    out = tmp_path/'choices'
    done = papermill('vld_choices.ipynb', tmp_path/'o.ipynb', harvest=run, data_root=data, out_dir=out, points=[], splits=[], block_4=False, labels='marks harvest', starts='lpg imagenet', preset='tiny', steps=4)
    assert done.returncode == 0, done.stderr[-3000:]
    m = json.loads((out/'metrics.json').read_text())
    assert m['failed'] == [] and list(m['choices']['table']['ours Avg.']) == ['16 points, 8:1:1, no block 4'] and list(m['labels']['table']['ours Avg.']) == ['marks, from lpg', 'harvest, from lpg']
    learnt = [json.loads(p.read_text())['cells'] for p in (out/'labels').glob('*/train_detector.ipynb')]
    assert len(learnt) == 2 and all('lpg.safetensors' in json.dumps(cells) and 'tensors loaded' in json.dumps(cells) for cells in learnt)
    folder = next(out.glob('marks_*'))
    marks = load_table(folder/'round_1'/'completed.parquet')
    assert set(marks.source[marks.z1.notna()]) == {'mark'} and not len(load_harvest(folder/'round_1').proposals)


def test_labels_by_an_expert_go_into_the_next_run(run, data, tmp_path):
    "The labelling page opens on a run; its verdicts change what the data set knows."
    done = papermill('label_proposals.ipynb', tmp_path/'o.ipynb', data_root=data, run=run/'round_1', path=tmp_path/'verdicts.parquet', most=4)
    assert done.returncode == 0, done.stderr[-3000:]
    from lesionlab.apps.review import Verdicts
    p = load_harvest(run/'round_1').proposals
    p = p[~p.volume.isin(read_partly_labelled(data).fully)].reset_index(drop=True)
    v = Verdicts(p, tmp_path/'verdicts.parquet')
    v.say(0, 'accepted'); v.say(1, 'rejected'); v.finish(p.volume[0])
    before, after = read_partly_labelled(data, .4, 0), read_partly_labelled(data, .4, 0, verdicts=tmp_path/'verdicts.parquet')
    assert after.fully == before.fully | {p.volume[0]} and len(after.rejected) == 1 and after.marks.z1.notna().sum() == before.marks.z1.notna().sum() + 1
    assert not set(after.truth.volume) & after.fully


def test_labour_budget(data, tmp_path):
    done = papermill('labour_budget.ipynb', tmp_path/'o.ipynb', data_root=data, out_dir=tmp_path/'out', shares='10 20', judges=8, preset='tiny', lpg_steps=60, lpc_steps=8)
    assert done.returncode == 0, done.stderr[-3000:]
    m = json.loads((tmp_path/'out'/'metrics.json').read_text())
    assert [r['way'] for r in m['rows']] == ['chance', 'chance', 'suggested'] and m['rows'][1]['labelled'] == m['rows'][2]['labelled']
    judged = set(json.loads((tmp_path/'out'/'volumes.json').read_text())['judges'])
    for folder in (tmp_path/'out').glob('*_*/fully.txt'): assert not {n[:6] for n in judged} & {n[:6] for n in folder.read_text().split()}
