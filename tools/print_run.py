"Print the FROC table of a run folder, and the paths of its pictures."
import json
import sys
from pathlib import Path

out = Path(sys.argv[1])
m = json.loads((out/'metrics.json').read_text())
print(f"\n{m['n_lesions']} lesions in {m['n_volumes']} test volumes, {m['seconds']:.0f} s, "
      'synthetic unless you gave other data\n')
print(f"{'FP per volume':>14} {'IoU > 0.3':>10} {'IoU > 0.5':>10} {'untrained':>10}")
for row in zip(m['fps'], m['sensitivity'], m['sensitivity_iou50'], m['sensitivity_untrained']):
    print('{:>14g} {:>10.3f} {:>10.3f} {:>10.3f}'.format(*row))
print(f'\nPictures in {out}:')
for p in sorted([*out.glob('*.html'), *out.glob('*.png')]): print('  ', p)
print('   executed notebook:', *out.glob('*.ipynb'))
