"""Goldens for segment/resample: what nnU-Net 2.8.1 itself resamples.

Run in a scratch environment with nnunetv2==2.8.1:  python make_goldens.py
Writes cases.json and, per case, the input and what
nnunetv2.preprocessing.resampling.default_resampling makes of it: as an image
(order 3, order_z 0) and as logits (order 1, order_z 0).

Then every function with its arguments, on smaller grids: methods.json lists grids
and methods; images.npy and labels.npy hold the grids' inputs one after the other;
methods_images.npy and methods_labels.npy what each method makes of each grid, method
by method, in the list's order.
"""

import json
from pathlib import Path

import numpy as np
from nnunetv2.preprocessing.resampling.default_resampling import (
    compute_new_shape, determine_do_sep_z_and_axis, resample_data_or_seg_to_shape)
from nnunetv2.preprocessing.resampling.no_resampling import no_resampling_hack
from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet, resample_torch_simple

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

GRIDS = {  # name: shape, spacing, new spacing
    "down": ((9, 10, 11), (2.0, 0.7, 0.7), (2.7, 1.3, 1.2)),
    "up": ((4, 5, 6), (2.0, 1.5, 1.5), (1.3, 0.9, 0.8)),
    "double": ((3, 4, 5), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5)),  # ties
    "halve": ((8, 6, 8), (1.0, 1.0, 1.0), (2.0, 2.0, 2.0)),  # ties
    "separate_z": ((5, 9, 8), (5.0, 0.8, 0.8), (3.0, 1.2, 0.6)),
    "separate_to": ((9, 8, 7), (1.0, 1.0, 1.0), (4.0, 1.2, 0.9)),
    "separate_y": ((8, 5, 9), (0.9, 4.0, 1.0), (1.3, 2.0, 0.7)),
    "separate_x": ((7, 9, 5), (0.9, 0.8, 4.0), (0.7, 1.2, 3.0)),
    "separate_ties": ((4, 6, 8), (4.0, 1.0, 1.0), (2.0, 2.0, 2.0)),
    "only_z": ((5, 4, 5), (5.0, 1.0, 1.0), (2.0, 1.0, 1.0)),
    "only_plane": ((4, 6, 7), (5.0, 1.0, 1.0), (5.0, 1.4, 0.8)),
    "one_voxel": ((1, 1, 1), (2.0, 2.0, 2.0), (0.7, 1.0, 1.0)),
    "one_slice": ((1, 7, 6), (5.0, 1.0, 1.0), (5.0, 0.7, 1.4)),
    "same": ((3, 4, 5), (4.0, 1.0, 1.0), (4.0, 1.0, 1.0)),
}
FUNCTIONS = {f.__name__: f for f in (resample_data_or_seg_to_shape, resample_torch_fornnunet, no_resampling_hack)}
# No spacings among its arguments: nnU-Net's plans cannot call it as it is.
FUNCTIONS["resample_torch_simple"] = lambda data, shape, old, new, **kwargs: resample_torch_simple(data, shape, **kwargs)
spline = lambda order, order_z, force: ("resample_data_or_seg_to_shape", {
    "order": order, "order_z": order_z, "force_separate_z": force, "separate_z_anisotropy_threshold": 3})
torch_ = lambda force, mode="linear", z="nearest-exact", **more: ("resample_torch_fornnunet", {
    "force_separate_z": force, "separate_z_anisotropy_threshold": 3, "mode": mode, "aniso_axis_mode": z, **more})
simple = lambda mode, **more: ("resample_torch_simple", {"mode": mode, **more})
METHODS = (
    [spline(order, 0, False) for order in range(6)]
    + [spline(*orders, None) for orders in ((0, 0), (1, 0), (2, 0), (4, 0), (5, 0), (1, 1), (3, 1), (0, 3), (1, 2), (3, 3), (2, 4), (4, 5))]
    + [spline(1, 0, True), spline(3, 0, True)]
    + [torch_(None), torch_(False), torch_(True), torch_(None, "nearest"), torch_(False, "nearest"), torch_(None, "nearest-exact", "nearest"),
       torch_(None, "linear", "linear"), simple("linear"), simple("nearest"), simple("nearest-exact")]
)
# Only for label maps: images do not know the argument.
EFFICIENT = [torch_(None, memefficient_seg_resampling=True), torch_(False, memefficient_seg_resampling=True),
             torch_(None, "linear", "linear", memefficient_seg_resampling=True), simple("nearest", memefficient_seg_resampling=True)]

rng = np.random.default_rng(4)
images, labels = {}, {}
for name, (shape, _, _) in GRIDS.items():
    images[name] = rng.normal(size=(1, *shape)).astype(np.float32) + 4 * (rng.random((1, *shape)) > 0.7).astype(np.float32)
    # Blocks of two voxels and single ones, with nnU-Net's -1 outside the nonzero mask.
    blocks = rng.integers(-1, 4, size=[(n + 1) // 2 for n in shape]).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    blocks = blocks[tuple(slice(n) for n in shape)]
    single = rng.random(shape) > 0.85
    labels[name] = np.where(single, rng.integers(-1, 200, size=shape), blocks)[None].astype(np.float32)

out_images, out_labels = [], []
for is_seg, inputs, outputs, methods in ((False, images, out_images, METHODS), (True, labels, out_labels, METHODS + EFFICIENT)):
    for function, kwargs in methods:
        for name, (shape, old, new) in GRIDS.items():
            new_shape = [int(n) for n in compute_new_shape(shape, old, new)]
            result = FUNCTIONS[function](inputs[name].copy(), new_shape, list(old), list(new), is_seg=is_seg, **kwargs)
            assert list(result.shape[1:]) == new_shape
            outputs.append(result.ravel())
assert no_resampling_hack(images["down"], (1, 1, 1), (1, 1, 1), (2, 2, 2)) is images["down"]
np.save(here / "images.npy", np.concatenate([i.ravel() for i in images.values()]))
np.save(here / "labels.npy", np.concatenate([i.ravel() for i in labels.values()]).astype(np.int16))
np.save(here / "methods_images.npy", np.concatenate(out_images).astype(np.float32))
np.save(here / "methods_labels.npy", np.concatenate(out_labels).astype(np.int16))
names = ("function", "arguments")
(here / "methods.json").write_text("{\n" + ",\n".join([
    '"grids": [\n ' + ",\n ".join(json.dumps({"name": n, "in": s, "from": o, "to": t, "out": [int(i) for i in compute_new_shape(s, o, t)]})
                                  for n, (s, o, t) in GRIDS.items()) + "]",
    '"methods": [\n ' + ",\n ".join(json.dumps(dict(zip(names, m))) for m in METHODS + EFFICIENT) + "]",
    f'"forImages": {len(METHODS)}']) + "\n}\n")
