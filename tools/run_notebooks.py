"Re-execute the library notebooks so that their pictures are true, and clean them."
import subprocess, sys
from pathlib import Path

root = Path(__file__).parents[1]
names = sys.argv[1:] or sorted(str(p) for p in (root/'nbs').glob('[0-9]*.ipynb'))
for name in names:
    print(name, flush=True)
    subprocess.run(['jupyter', 'nbconvert', '--to', 'notebook', '--execute', '--inplace', '--log-level=WARN', name], check=True)
subprocess.run(['nbdev_clean'], cwd=root, check=True)
subprocess.run(['nbdev_export'], cwd=root, check=True)
