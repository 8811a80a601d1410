"""Goldens for segment/resample: what nnU-Net 2.8.1 itself resamples.

Run in a scratch environment with nnunetv2==2.8.1:  python make_goldens.py
Writes cases.json and, per case, the input and what
nnunetv2.preprocessing.resampling.default_resampling makes of it: as an image
(order 3, order_z 0) and as logits (order 1, order_z 0).
"""

import json
from pathlib import Path

import numpy as np
from nnunetv2.preprocessing.resampling.default_resampling import (
    compute_new_shape, determine_do_sep_z_and_axis, resample_data_or_seg_to_shape)

here = Path(__file__).parent
CASES = {  # name: shape, spacing, new spacing
    "down": ((14, 17, 19), (2.0, 0.7, 0.7), (2.7, 1.5, 1.5)),
    "up": ((7, 9, 8), (2.0, 1.5, 1.5), (1.3, 0.8, 0.9)),
    "mixed": ((9, 40, 12), (1.0, 0.6, 2.0), (1.0, 1.7, 1.1)),
    "separate_from": ((6, 21, 18), (5.0, 0.8, 0.8), (3.0, 1.2, 1.3)),
    "separate_to": ((13, 11, 12), (1.0, 1.0, 1.0), (4.0, 1.2, 0.9)),
    "separate_y": ((11, 5, 12), (0.9, 4.0, 1.0), (1.3, 2.0, 1.0)),
    "separate_x": ((11, 12, 5), (0.9, 1.0, 4.0), (1.3, 2.0, 3.0)),
    "separate_same_z": ((6, 13, 12), (5.0, 0.8, 0.8), (5.0, 1.2, 1.3)),
    "two_coarse": ((6, 7, 30), (1.25, 1.25, 0.24), (1.0, 1.5, 0.4)),
    "one_voxel": ((1, 1, 1), (2.0, 2.0, 2.0), (1.0, 1.0, 0.7)),
    "one_slice": ((1, 12, 9), (1.0, 1.0, 1.0), (1.0, 0.7, 1.4)),
    "in_plane": ((5, 12, 9), (1.0, 1.0, 1.0), (1.0, 0.7, 1.4)),
    "through_plane": ((5, 12, 9), (1.0, 1.0, 1.0), (0.6, 1.0, 1.0)),
    "same": ((4, 5, 6), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    "halves": ((4, 6, 10), (1.0, 1.0, 1.0), (1.6, 2.4, 4.0)),
}

rng = np.random.default_rng(22)
index = []
for name, (shape, old, new) in CASES.items():
    # Steps and noise: overshoot of the spline makes the clipping matter.
    data = rng.normal(size=(1, *shape)).astype(np.float32)
    data += 4 * (rng.random((1, *shape)) > 0.7).astype(np.float32)
    new_shape = compute_new_shape(shape, old, new)
    _, axis = determine_do_sep_z_and_axis(None, old, new)
    image = resample_data_or_seg_to_shape(data, new_shape, old, new, is_seg=False, order=3, order_z=0, force_separate_z=None)
    logits = resample_data_or_seg_to_shape(data, new_shape, old, new, is_seg=False, order=1, order_z=0, force_separate_z=None)
    np.save(here / f"{name}_in.npy", data[0])
    np.save(here / f"{name}_image.npy", image[0].astype(np.float32))
    np.save(here / f"{name}_logits.npy", logits[0].astype(np.float32))
    index.append({"name": name, "from": old, "to": new, "shape": [int(i) for i in new_shape],
                  "axis": -1 if axis is None else int(axis)})
(here / "cases.json").write_text(json.dumps(index, indent=1) + "\n")
