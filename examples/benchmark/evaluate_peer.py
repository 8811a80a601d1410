"""Runs a FLARE evaluation script as it is, but for the paths at its top, on two folders of label files.

    evaluate_peer.py SCRIPT PREDICTIONS REFERENCES RESULTS

SCRIPT is FLARE22_DSC_NSD_Eval.py of github.com/JunMa11/FLARE, with its SurfaceDice.py beside it. What
newer versions of NumPy and SciPy no longer have under the old names is put back.
"""
import sys
from pathlib import Path

import numpy as np
import scipy.ndimage

np.Inf, np.NaN = np.inf, np.nan
scipy.ndimage.filters = scipy.ndimage.morphology = scipy.ndimage

script = Path(sys.argv[1])
sys.path.insert(0, str(script.parent))
paths = dict(zip(("seg_path", "gt_path", "save_path"), sys.argv[2:]))
lines = script.read_text().split("\n")
for i, line in enumerate(lines):
    name = line.partition(" = ")[0]
    if name in paths:
        lines[i] = f"{name} = {paths[name]!r}"
exec(compile("\n".join(lines), str(script), "exec"))
