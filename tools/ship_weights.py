"Put a run's weights into the package, with what they were trained on, what they know and what was measured."
import sys
from pathlib import Path

from lesionlab.core import load_json
from lesionlab.detectors.registry import load_detector, save_detector, shipped_weights

FOLDER = Path(__file__).parents[1]/'lesionlab'/'weights'
ABOUT = dict(
    demo=dict(
        trained_on='Trained on 140 synthetic CTs of `lesionlab phantom`, 900 steps on two cores.',
        knows="Knows lesions of the phantom's eight types; nothing about patients.",
        data='Synthetic, Apache-2.0.'),
    sarcoma=dict(
        trained_on='Trained on CTs of 15 patients with a soft-tissue sarcoma, 900 steps on two cores.',
        knows='Knows large soft-tissue tumours (median 77 mm); not for small lesions, not for clinical use.',
        data='TCIA Soft-tissue-Sarcoma, CC BY 3.0, doi 10.7937/K9/TCIA.2015.7GO2GSKS, '
             'as distributed by the IBSI.'),
)
KEPT = ('n_volumes', 'n_lesions', 'fps', 'sensitivity', 'sensitivity_iou50', 'seed', 'steps', 'versions', 'machine',
        'commit')


def ship(run, name, command):
    "Write one file of weights."
    m = load_json(Path(run)/'metrics.json')
    about = ABOUT[name] | dict(command=command, measured={k: m[k] for k in KEPT})
    file = save_detector(load_detector(Path(run)/'weights.safetensors'), FOLDER/f'{name}.safetensors', about=about)
    file.chmod(0o644) # safetensors lets nobody else read it
    return file


HEADER = """# Weights that ship

Written by `tools/ship_weights.py`; the same stands in the metadata of each file.

| name | trained on | knows | test set | sensitivity at 1 FP/volume, IoU > 0.3 | IoU > 0.5 | made by |
|---|---|---|---|---|---|---|
"""


def row(name):
    "A line of the table."
    about = load_detector(name).about
    m = about['measured']
    at = m['fps'].index(1.)
    columns = (f'`{name}`', f'{about["trained_on"]} {about["data"]}', about['knows'],
               f'{m["n_lesions"]} lesions in {m["n_volumes"]} volumes of patients that were left out',
               f'{m["sensitivity"][at]:.2f}', f'{m["sensitivity_iou50"][at]:.2f}', f'`{about["command"]}`')
    return '| ' + ' | '.join(columns) + ' |\n'


def table():
    "The README of the folder."
    return HEADER + ''.join(map(row, shipped_weights()))


if __name__ == '__main__':
    if len(sys.argv) != 4: sys.exit('usage: python tools/ship_weights.py RUN_FOLDER NAME COMMAND')
    print(ship(*sys.argv[1:]))
    (FOLDER/'README.md').write_text(table())
