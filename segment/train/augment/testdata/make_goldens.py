"""Goldens for segment/train/augment: what batchgeneratorsv2 0.3.6 makes of fixed parameters,
and what nnU-Net 2.8.1's trainers put together.

Run in a scratch environment with nnunetv2==2.8.1 and batchgeneratorsv2==0.3.6:
    python make_goldens.py
Writes inputs.npy and labels_in.npy (the inputs one after the other, see INPUTS), cases.json
(name, input, parameters in the order of the Go transform), images.npy and labels.npy (the
cases' results one after the other), boxes.json (patch, rotation, planar, box) and
pipelines.json.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from batchgeneratorsv2.transforms.intensity.brightness import (
    BrightnessAdditiveTransform, MultiplicativeBrightnessTransform)
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.local.brightness_gradient import BrightnessGradientAdditiveTransform
from batchgeneratorsv2.transforms.local.local_gamma import LocalGammaTransform
from batchgeneratorsv2.transforms.nnunet import random_binary_operator as rbo
from batchgeneratorsv2.transforms.nnunet.remove_connected_components import (
    RemoveRandomConnectedComponentFromOneHotEncodingTransform)
from batchgeneratorsv2.transforms.nnunet.seg_to_onehot import MoveSegAsOneHotToDataTransform
from batchgeneratorsv2.transforms.noise.blank_rectangle import BlankRectangleTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.noise.median_filter import MedianFilterTransform
from batchgeneratorsv2.transforms.noise.sharpen import SharpeningTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.rot90 import Rot90Transform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.spatial.transpose import TransposeAxesTransform
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from batchgeneratorsv2.transforms.utils.random import OneOfTransform, RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerDA5 import nnUNetTrainerDA5
from scipy.ndimage import gaussian_filter

torch.set_num_threads(1)
here = Path(__file__).parent
rng = np.random.RandomState(0)
INPUTS = {  # name: channels, shape (2-D in nnU-Net: without the leading 1)
    "3d": (2, (7, 9, 8)), "2d": (2, (1, 11, 10)), "cube": (1, (6, 6, 6)), "square": (1, (1, 8, 8)),
    "case": (2, (9, 13, 11)), "slice": (1, (1, 13, 12)),
}
inputs, labels = {}, {}
for name, (channels, shape) in INPUTS.items():
    x = gaussian_filter(rng.randn(channels, *shape), (0, 0.5, 0.5, 0.5)) + 0.3 * rng.randn(channels, *shape)
    inputs[name] = x.astype(np.float32)
    fields = np.stack([gaussian_filter(rng.randn(*shape), 1.2) for _ in range(4)])
    labels[name] = (fields.argmax(0)[None] - 1).astype(np.int16)  # -1 to 2

cases, images, maps = [], [], []


def tensors(name, squeeze=True):
    x, y = torch.from_numpy(inputs[name].copy()), torch.from_numpy(labels[name].copy())
    if squeeze and x.shape[1] == 1:
        x, y = x[:, 0], y[:, 0]
    return x, y


def record(name, source, parameters, image=None, label=None):
    cases.append({"name": name, "input": source, "parameters": [float(p) for p in parameters],
                  "image": 0 if image is None else image.numel(), "labels": 0 if label is None else label.numel()})
    if image is not None:
        images.append(image.numpy().astype(np.float32).ravel())
    if label is not None:
        maps.append(label.numpy().astype(np.int16).ravel())


def image_only(name, source, parameters, transform, **params):
    x, _ = tensors(source)
    record(name, source, parameters, transform._apply_to_image(x, **params))


every = torch.arange(2)
for source, sigmas in (("3d", ([0.5, 0.75, 0.99], [0.62, 0.5, 0.8])), ("2d", ([0, 0.55, 0.95], [0, 0.7, 0.83])),
                       ("3d", ([0.3, 0.3, 0.3], [1.49, 1.49, 1.49])), ("3d", ([1.2, 1.2, 1.2], [0, 0, 0]))):
    apply = torch.tensor([s[-1] > 0 for s in sigmas])
    image_only("Blur", source, sum(sigmas, []), GaussianBlurTransform(1, False, False), apply_to_channel=apply,
               sigmas=[s[-2:] if source == "2d" else s for s in sigmas if s[-1] > 0])
for source in ("3d", "2d"):
    image_only("Multiply", source, [0.8, 1.2], MultiplicativeBrightnessTransform((1, 1), False), apply_to_channel=every,
               multipliers=torch.tensor([0.8, 1.2]))
    image_only("Shift", source, [0, -0.7], BrightnessAdditiveTransform(0, 1), apply_to_channel=torch.tensor([1]),
               shift=torch.tensor([0.3, -0.7]))
    for clip in (True, False):
        image_only("ContrastClip" if clip else "Contrast", source, [0.6, 1.9], ContrastTransform((1, 1), clip, False),
                   apply_to_channel=every, multipliers=torch.tensor([0.6, 1.9]))
    for scales in ([0.5, 0.5, 0.5], [0.83, 0.83, 0.83]), ([1, 0.61, 0.61], [0.25, 0.25, 0.25]):
        p = [[0 if source == "2d" else s[0], *s[1:]] for s in scales]
        p = [[1, *s[1:]] if source == "2d" else s for s in p]
        image_only("LowResolution", source, sum(p, []), SimulateLowResolutionTransform(1, False, True, None),
                   apply_to_channel=every, scales=torch.tensor([s[-2:] if source == "2d" else s for s in p]))
    for invert in (False, True):
        image_only("GammaInvert" if invert else "Gamma", source, [0.71, 1.48], GammaTransform((1, 1), 0, False, 1, 1),
                   apply_to_channel=every, retain_stats=torch.tensor([True, True]),
                   invert_image=torch.tensor([invert, invert]), gamma=torch.tensor([0.71, 1.48]))
    for size in range(2, 8):
        image_only("Median", source, [size, 0], MedianFilterTransform(size), filter_sizes=[size, size],
                   apply_channel=[True, False])
    image_only("Sharpen", source, [0.9, 0.2], SharpeningTransform(), strengths=[0.9, 0.2], apply_channel=[True, True],
               clamp_intensities=[False, False])
    shape = inputs[source].shape[1:]
    boxes = [[(1, 2, 3, 2, 3, 4), (0, 1, 2, 3, 3, 3)], [(4, 0, 1, 1, 2, 2)]]
    if source == "2d":
        boxes = [[(0, *b[1:3], 1, *b[4:]) for b in channel] for channel in boxes]
    image_only("Blank", source, sum([[len(c), *sum(map(list, c), [])] for c in boxes], []),
               BlankRectangleTransform(1, torch.mean, 1), apply_channel=[True, True],
               rectangles=[[tuple([list(b[-6:-3][-d:]), [i + j for i, j in zip(b[:3], b[3:])][-d:]]
                                  for d in [3 if source == "3d" else 2])[0] for b in c] for c in boxes])
    for center, sigma in ((0.4, 0.5), (-0.49, 0.17), (1.3, 1.0)):
        spots = [(center + 0.05 * d, max(0.2, sigma * n)) for d, n in enumerate(shape)]
        if source == "2d":
            spots[0] = (0, 1)
        numbers = sum(map(list, spots), [])
        used = spots[-2:] if source == "2d" else spots
        for kind, strengths in (("Gradient", (-2.5, 4.2)), ("LocalGamma", (0.05, 3.3))):
            cls = BrightnessGradientAdditiveTransform if kind == "Gradient" else LocalGammaTransform
            t = cls(lambda x, d: used[d][1], lambda x, d: used[d][0])
            kernels = [t._generate_kernel([n for n in shape if n > 1]) for _ in range(2)]
            extra = {"gammas": strengths}
            if kind == "Gradient":
                kernels, extra = [k * np.float32(s) for k, s in zip(kernels, strengths)], {}
            image_only(kind, source, sum([[s, *numbers] for s in strengths], []), t, kernels=kernels, **extra)

for source, axes in (("3d", (0,)), ("3d", (1, 2)), ("3d", (0, 1, 2)), ("2d", (1,)), ("2d", (1, 2))):
    x, y = tensors(source, squeeze=False)
    t = MirrorTransform((0, 1, 2))
    record("Mirror", source, axes, t._apply_to_image(x, axes=axes), t._apply_to_segmentation(y, axes=axes))
for source, times, axes in (("cube", 1, (0, 1)), ("cube", 2, (0, 2)), ("cube", 3, (1, 2)), ("cube", 1, (0, 2)),
                            ("square", 1, (1, 2)), ("square", 3, (1, 2))):
    x, y = tensors(source, squeeze=False)
    p = {"num_rot_per_combination": [times], "axis_combinations": [[a + 1 for a in axes]]}
    t = Rot90Transform(1)
    record("Rot90", source, [times, *axes], t._apply_to_image(x, **p), t._apply_to_segmentation(y, **p))
for source, order in (("cube", (1, 2, 0)), ("cube", (2, 0, 1)), ("cube", (0, 2, 1)), ("square", (0, 2, 1))):
    x, y = tensors(source, squeeze=False)
    p = {"axis_order": [0] + [o + 1 for o in order]}
    t = TransposeAxesTransform({0})
    record("Permute", source, order, t._apply_to_image(x, **p), t._apply_to_segmentation(y, **p))

# The case is cut with its border, the box then transformed: corner and box come first.
SPATIAL = [  # source, planar, corner, box, patch, angles, factors
    ("case", False, (1, 2, 1), (7, 9, 9), (5, 7, 6), (0.4, -0.3, 0.2), (1, 1, 1)),
    ("case", False, (-3, 2, 4), (9, 12, 10), (8, 9, 9), (-0.5, 0.52, 0.1), (1.3, 1.3, 1.3)),
    ("case", False, (-1, -1, -1), (11, 15, 13), (8, 12, 9), (0, 0, 0), (0.72, 1.1, 1.43)),
    ("case", False, (0, 0, 0), (9, 13, 11), (9, 13, 11), (0, 0, 0), (1, 1, 1)),
    ("case", True, (-1, 1, -2), (8, 13, 12), (8, 9, 7), (2.5, 0, 0), (1, 0.8, 0.8)),
    ("case", True, (2, -3, 0), (6, 15, 11), (6, 11, 8), (-1.1, 0, 0), (1, 1.4, 0.9)),
    ("slice", True, (0, -1, -2), (1, 15, 15), (1, 10, 9), (0.26, 0, 0), (1, 1.2, 1.2)),
    # Exactly between voxels, where labels tie: powers of two, so that float32 knows it too.
    ("case", False, (0, -2, 1), (8, 16, 8), (7, 13, 7), (0, 0, 0), (1, 1, 1)),
    ("case", False, (1, -1, 2), (8, 16, 8), (7, 15, 7), (0, 0, 0), (0.5, 0.5, 0.5)),
    ("case", True, (0, -1, 2), (8, 16, 8), (8, 15, 7), (0, 0, 0), (1, 0.5, 1)),
    ("case", False, (0, -2, 1), (8, 16, 8), (7, 13, 7), (0, 0, 0), (1.00003, 1.00003, 1.00003)),  # all but a tie
    ("case", False, (1, 2, 1), (7, 9, 9), (5, 6, 6), None, None),
    ("case", False, (-3, 2, 4), (9, 12, 10), (8, 9, 9), None, None),
    ("slice", True, (0, -4, 3), (1, 15, 16), (1, 10, 9), None, None),
]
for source, planar, corner, box, patch, angles, factors in SPATIAL:
    bbox = [[c, c + b] for c, b in zip(corner, box)]
    d = {"image": torch.from_numpy(crop_and_pad_nd(inputs[source], bbox, 0)),
         "segmentation": torch.from_numpy(crop_and_pad_nd(labels[source], bbox, -1))}
    if angles is not None and planar:
        a, f = [0, angles[0]], factors[1:]
    else:
        a, f = angles, factors
    t = SpatialTransform(patch[1:] if planar else patch, 0, False, p_rotation=float(angles is not None),
                         rotation=lambda image, dim: a[dim], p_scaling=float(angles is not None),
                         scaling=lambda image, dim: f[dim], bg_style_seg_sampling=False,
                         border_mode_seg="constant", padding_value_seg=-1)
    steps = [Convert3DTo2DTransform(), t, Convert2DTo3DTransform()] if planar else [t]
    for step in steps:
        d = step(**d)
    record("SpatialPlanar" if planar else "Spatial", source,
           [*corner, *box, *patch, *(() if angles is None else (*angles, *factors))], d["image"], d["segmentation"])

x, y = tensors("3d", False)
record("Mask", "3d", [1], MaskImageTransform([1])(image=x, segmentation=y)["image"])
x, y = tensors("3d", False)
record("Outside", "3d", [1], None, RemoveLabelTansform(-1, 0)(segmentation=y)["segmentation"])

# Cascades: the labels are also the previous stage's; the three foreground labels are -1, 1, 2 here.
def cascade():
    x, y = tensors("case", False)
    t = MoveSegAsOneHotToDataTransform(1, (-1, 1, 2), True)
    return t(image=x, segmentation=torch.cat((y, y)))["image"]


record("OneHot", "case", [1], None, cascade()[2:])
OPERATORS = (rbo.binary_dilation_torch, rbo.binary_erosion_torch, rbo.binary_closing_torch, rbo.binary_opening_torch)
for steps in ([(0, 0, 1.0)], [(1, 1, 1.3)], [(2, 2, 1.6)], [(0, 3, 1.0)], [(2, 0, 2.2), (0, 2, 1.1), (1, 1, 1.0)],
              [(1, 0, 7.9)]):
    t = rbo.ApplyRandomBinaryOperatorTransform([-3, -2, -1])
    x = t._apply_to_image(cascade(), apply_to_channels=[c - 3 for c, _, _ in steps],
                          operators=[OPERATORS[o] for _, o, _ in steps], strel_size=[r for _, _, r in steps])
    record("Operator", "case", sum(map(list, steps), []), None, x[2:])
choose = np.random.choice
for steps in ([(0, 0.0)], [(1, 0.5)], [(2, 0.99), (0, 0.3)]):
    t = RemoveRandomConnectedComponentFromOneHotEncodingTransform([-3, -2, -1], 0, 0.15)
    x = cascade()
    for channel, place in steps:
        np.random.choice = lambda v: v[int(place * len(v))]
        x = t._apply_to_image(x, apply_to_channels=[channel - 3])
    np.random.choice = choose
    record("Component", "case", sum(map(list, steps), []), None, x[2:])

np.save(here / "inputs.npy", np.concatenate([inputs[n].ravel() for n in INPUTS]))
np.save(here / "labels_in.npy", np.concatenate([labels[n].ravel() for n in INPUTS]))
np.save(here / "images.npy", np.concatenate(images))
np.save(here / "labels.npy", np.concatenate(maps))
(here / "cases.json").write_text(json.dumps(
    {"inputs": [{"name": n, "channels": c, "shape": s} for n, (c, s) in INPUTS.items()], "cases": cases}, indent=None)
    .replace('}, {', '},\n{') + "\n")

# What the trainers choose for patches, and what they put together.
PATCHES = [(40, 56, 40), (128, 128, 128), (32, 128, 192), (16, 320, 320), (48, 192, 192), (96, 160, 160), (64, 64, 192),
           (64, 48, 128), (20, 320, 256), (5, 160, 160), (512, 512), (256, 384), (512, 320), (64, 32), (80, 192, 160), (112, 160, 128)]
METHOD = "configure_rotation_dummyDA_mirroring_and_inital_patch_size"
rows, pipelines = [], []


def describe(t):
    if isinstance(t, RandomTransform):
        return {"p": t.apply_probability, **describe(t.transform)}
    if isinstance(t, OneOfTransform):
        return {"kind": "OneOf", "of": [describe(i) for i in t.list_of_transforms]}
    out = {"kind": type(t).__name__}
    for key, value in vars(t).items():
        if key.startswith(("elastic", "seg_", "center_")) or key in ("upmodes", "benchmark", "benchmark_use_fft", "benchmark_num_runs", "color_fn", "any_of_these") or key.startswith("_"):
            continue
        if isinstance(value, BGContrast):
            value = ["around", *value.contrast_range]
        if isinstance(value, (set, np.ndarray)):
            value = sorted(int(i) for i in value)
        if callable(value):
            value = value.__name__
        if value is not None:
            out[key] = value
    return out


for patch in PATCHES:
    for trainer in (nnUNetTrainer, nnUNetTrainerDA5):
        stub = SimpleNamespace(configuration_manager=SimpleNamespace(patch_size=list(patch)),
                               print_to_log_file=lambda *a: None)
        rotation, planar, box, axes = getattr(trainer, METHOD)(stub)
        rows.append({"strong": trainer is nnUNetTrainerDA5, "patch": [1] * (3 - len(patch)) + list(patch),
                     "angle": float(rotation[1]), "planar": bool(planar), "box": [1] * (3 - len(patch)) + [int(b) for b in box]})
        if patch in ((40, 56, 40), (128, 128, 128), (32, 128, 192), (512, 512), (512, 320)):
            for cascade, masked in ((False, False), (True, False), (False, True)):
                t = trainer.get_training_transforms(
                    patch, rotation, None, axes, planar, use_mask_for_norm=[False, masked], is_cascaded=cascade,
                    foreground_labels=[1, 2, 3])
                pipelines.append({"strong": trainer is nnUNetTrainerDA5, "patch": rows[-1]["patch"], "cascade": cascade,
                                  "masked": masked, "transforms": [describe(i) for i in t.transforms]})
(here / "boxes.json").write_text(json.dumps(rows).replace('}, {', '},\n{') + "\n")
(here / "pipelines.json").write_text(json.dumps(pipelines).replace('}, {', '},\n{') + "\n")
