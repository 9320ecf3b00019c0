"""Write docs/results.md, its ledger and the measured parts of other pages from docs/measured, so that no measured
number is typed."""
import os
import re
from pathlib import Path

import jinja2

from lesionlab.core import load_json
from lesionlab.experiments.ledger import Measured, save_ledger
from lesionlab.experiments.papers import paper_table

root = Path(__file__).parents[1]
docs = root/'docs'
NAMES = dict(
    retinanet="MONAI's RetinaNet (`retinanet`)",
    centernet_3d='CenterNet-3D, 3D U-Net (`centernet_3d`)',
    centernet_2d='CenterNet, 2D (`centernet_2d`)',
    mulan='MULAN, 2.5D (`mulan`)',
    faster_rcnn='Faster R-CNN, 2.5D (`faster_rcnn`)',
    mscn_hnsl='MSCN of Lesion Harvester, 2.5D (`mscn_hnsl`)',
    vld_i3d_none='P3DC, I3D (`vld_i3d_none`)',
    vld_st3d_none='P3DC, ST-3D (`vld_st3d_none`)',
    vld_acs_none='P3DC, ACS (`vld_acs_none`)',
    vld_acs_drp='P3DC, ACS + DRP (`vld_acs_drp`)',
    vld_acs_spr='P3DC, ACS + SPR (`vld_acs_spr`)')
OPTIONAL = dict(ct='vld_tables_ct', liver='vld_tables_liver', seeds='vld_tables_seeds', choices='vld_choices',
    harvester_seeds='harvester_tables_seeds', silhouette='vld_tables_ct_silhouette')
BETWEEN = re.compile(r'(<!-- written by tools/make_results.py: (\w+) -->\n).*?(<!-- end -->)', re.S)
LINK = re.compile(r'\]\((?!https?:|#)([^)]+)\)')


def pages():
    "Pages with parts that are written here: the README and the guide."
    return [root/'README.md', *(p for p in sorted(docs.glob('*.md')) if not p.name.startswith('results.'))]


def gpus(folder):
    "Names of the GPUs that any of the measured runs used."
    text = ''.join(p.read_text() for p in sorted(folder.glob('*.json')))
    return sorted(set(re.findall(r'"gpu": "([^"]+)"', text)))


def render(measured, template):
    "The results, and the parts of them that other pages have, by name."
    parts = {}

    def part(text, name):
        parts[name] = text.strip()
        return text

    env = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    env.filters['part'] = part
    env.globals['printed'] = lambda paper, table, row, column: paper_table(paper, table).loc[row, column]
    folder, files = measured.folder, {p.stem for p in measured.folder.glob('*.json')}
    budget = [dict(i=i, **r) for i, r in enumerate(load_json(folder/'labour_budget.json')['rows'])]
    demo = load_json(folder/'demo.json')
    there = {name: file in files for name, file in OPTIONAL.items()}
    text = env.from_string(template).render(
        m=measured, names=NAMES, demo=demo, fps=demo['fps'], budget=budget, gpus=gpus(folder), **there)
    return text, parts


def relink(text, folder):
    "A text of docs/ with its relative links as seen from another folder."
    return LINK.sub(lambda link: f']({os.path.relpath(docs/link[1], folder)})', text)


def fill(page, parts, folder):
    "A page of a folder with its parts written anew."
    return BETWEEN.sub(lambda m: f'{m[1]}\n{relink(parts[m[2]], folder)}\n\n{m[3]}', page)


def written():
    "Every file that is made: path and text."
    measured = Measured(docs/'measured')
    text, parts = render(measured, (docs/'results.template.md').read_text())
    files = {p: p.read_text() for p in pages()}
    found = {m[2] for page in files.values() for m in BETWEEN.finditer(page)}
    if lacking := sorted(parts.keys() ^ found):
        raise SystemExit(f'docs/results.template.md and the pages differ in their parts: {", ".join(lacking)}')
    return measured, {docs/'results.md': text, **{path: fill(page, parts, path.parent) for path, page in files.items()}}


if __name__ == '__main__':
    os.chdir(root) # paths in the ledger count from here
    measured, files = written()
    for path, text in files.items(): path.write_text(text)
    (docs/'ledger.jsonl').unlink(missing_ok=True)
    print(f'{len(measured.lines)} figures in {save_ledger(measured, docs/"ledger.jsonl").relative_to(root)}')
