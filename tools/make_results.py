"Write docs/results.md, its ledger and the README's measured parts from docs/measured, so that no measured figure is typed."
import os
import re
from pathlib import Path

import jinja2

from lesionlab.core import load_json
from lesionlab.experiments.ledger import Measured, save_ledger

root = Path(__file__).parents[1]
NAMES = {'retinanet': "MONAI's RetinaNet (`retinanet`)", 'centernet_3d': 'CenterNet-3D, 3D U-Net (`centernet_3d`)', 'centernet_2d': 'CenterNet, 2D (`centernet_2d`)', 'mulan': 'MULAN, 2.5D (`mulan`)',
         'faster_rcnn': 'Faster R-CNN, 2.5D (`faster_rcnn`)', 'mscn_hnsl': 'MSCN of Lesion Harvester, 2.5D (`mscn_hnsl`)', 'vld_i3d_none': 'P3DC, I3D (`vld_i3d_none`)', 'vld_st3d_none': 'P3DC, ST-3D (`vld_st3d_none`)',
         'vld_acs_none': 'P3DC, ACS (`vld_acs_none`)', 'vld_acs_drp': 'P3DC, ACS + DRP (`vld_acs_drp`)', 'vld_acs_spr': 'P3DC, ACS + SPR (`vld_acs_spr`)'}
BETWEEN = re.compile(r'(<!-- written by tools/make_results.py: (\w+) -->\n).*?(<!-- end -->)', re.S)


def render(measured, template):
    "The results, and the parts of them that the README has by their names, of some measured figures."
    parts = {}
    env = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    env.filters['readme'] = lambda text, name: parts.update({name: text.strip().replace('](../nbs/', '](nbs/').replace('](measured', '](docs/measured')}) or text
    folder, files = measured.folder, {p.stem for p in measured.folder.glob('*.json')}
    budget = [dict(i=i, **r) for i, r in enumerate(load_json(folder/'labour_budget.json')['rows'])]
    demo = load_json(folder/'demo.json')
    text = env.from_string(template).render(m=measured, names=NAMES, demo=demo, fps=demo['fps'], budget=budget, ct='vld_tables_ct' in files, liver='vld_tables_liver' in files, seeds='vld_tables_seeds' in files, choices='vld_choices' in files, harvester_seeds='harvester_tables_seeds' in files, silhouette='vld_tables_ct_silhouette' in files)
    return text, parts


def written():
    "Every file that is made: path and text."
    measured = Measured(root/'docs'/'measured')
    text, parts = render(measured, (root/'docs'/'results.template.md').read_text())
    readme = (root/'README.md').read_text()
    if lacking := parts.keys() ^ {found[2] for found in BETWEEN.finditer(readme)}: raise SystemExit(f'README.md and docs/results.template.md differ in their parts: {", ".join(sorted(lacking))}')
    readme = BETWEEN.sub(lambda found: f'{found[1]}\n{parts[found[2]]}\n\n{found[3]}', readme)
    return measured, {root/'docs'/'results.md': text, root/'README.md': readme}


if __name__ == '__main__':
    os.chdir(root) # paths in the ledger count from here
    measured, files = written()
    for path, text in files.items(): path.write_text(text)
    (root/'docs'/'ledger.jsonl').unlink(missing_ok=True)
    print(f'{len(measured.lines)} figures in {save_ledger(measured, root/"docs"/"ledger.jsonl").relative_to(root)}')
