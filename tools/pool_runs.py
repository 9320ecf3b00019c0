"""FROC of several runs' detections under one threshold.

For the folds of a cross-validation, or other runs that share no test volume."""
import sys
from pathlib import Path
import pandas as pd
from lesionlab.annotations.table import load_table
from lesionlab.evaluation.metrics import froc_table

folders = [Path(p) for p in sys.argv[1:]]
if not folders: sys.exit('usage: python tools/pool_runs.py RUN_FOLDER ...')
detections, truths = ([load_table(f/f'{name}.parquet') for f in folders] for name in ('detections', 'truth'))
volumes = pd.concat([pd.Series(t.volume.unique()) for t in truths])
if volumes.duplicated().any(): sys.exit(f'{volumes[volumes.duplicated()].iloc[0]}: is a test volume of two runs')
detections, truth = (pd.concat(tables, ignore_index=True) for tables in (detections, truths))
print(f'{len(folders)} runs, {len(volumes)} volumes, {truth.z1.notna().sum()} lesions')
print(froc_table(detections, truth).round(3).to_string())
