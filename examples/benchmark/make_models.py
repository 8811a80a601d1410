"""Makes nnU-Net v2 results folders with random weights, as nnU-Net 2.8.1 writes them
(plans.json, dataset.json, fold_*/checkpoint_final.pth), so that speed and memory can be
measured without anybody's trained network. Plain Python, no PyTorch.

    python3 make_models.py OUT [NAME ...] [--folds N]      # OUT/NAME; all networks by default

The weights are made so that labels look like labels: regions rather than noise, and
background where there is air (randomize tells how). The same call gives the same bytes.
"""
import argparse
import collections
import io
import json
import pickle
import random
import shutil
import struct
import sys
import types
import zipfile
from pathlib import Path

ORGANS = ["liver", "right kidney", "spleen", "pancreas", "aorta", "inferior vena cava", "right adrenal gland",
          "left adrenal gland", "gallbladder", "esophagus", "stomach", "duodenum", "left kidney"]

# spacing in mm and patch in voxels along z, y, x; kernels and strides follow from them.
NETWORKS = {
    "student": dict(spacing=[4.0, 1.2, 1.2], patch=[32, 128, 192], base=16, most=256, labels=ORGANS),
    "standard": dict(spacing=[2.5, 1.5, 1.5], patch=[96, 128, 128], base=32, most=320, labels=ORGANS),
    "many": dict(spacing=[1.5, 1.5, 1.5], patch=[128, 128, 128], base=32, most=320, labels=[f"class_{i}" for i in range(1, 118)]),
}

# Of 2,200 abdominal CTs: the foreground of nnU-Net's plans for the 13 FLARE organs.
CT = {"max": 3866.0, "mean": 83.778564453125, "median": 102.0, "min": -2048.0, "percentile_00_5": -971.0,
      "percentile_99_5": 291.0, "std": 144.83892822265625}


# ------------------------------------------------------------------------------ plans


def pooling(spacing, patch, least=4):
    """Strides and kernels of each stage as nnU-Net's planner chooses them: an axis is halved
    while at least 2 x least voxels remain and its voxels are not twice as long as the
    shortest; its kernel is 3 from there on (experiment_planners/network_topology.py,
    get_pool_and_conv_props)."""
    spacing, size, kernel = list(spacing), list(patch), [1, 1, 1]
    strides, kernels = [[1, 1, 1]], []
    while True:
        axes = [i for i in range(3) if size[i] >= 2 * least]
        shortest = min((spacing[i] for i in axes), default=0)
        axes = [i for i in axes if spacing[i] / shortest < 2]
        if not axes or len(axes) == 1 and size[axes[0]] < 3 * least:
            return strides, kernels + [[3, 3, 3]]
        kernels.append(kernel := [3 if k == 3 or s / min(spacing) < 2 else 1 for k, s in zip(kernel, spacing)])
        strides.append([2 if i in axes else 1 for i in range(3)])
        for i in axes:
            spacing[i], size[i] = 2 * spacing[i], -(-size[i] // 2)


def plans(name, n):
    strides, kernels = pooling(n["spacing"], n["patch"])
    stages = len(strides)
    spline = lambda is_seg, order: {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}
    kwargs = {
        "n_stages": stages, "features_per_stage": [min(n["base"] << s, n["most"]) for s in range(stages)],
        "conv_op": "torch.nn.modules.conv.Conv3d", "kernel_sizes": kernels, "strides": strides,
        "n_conv_per_stage": [2] * stages, "n_conv_per_stage_decoder": [2] * (stages - 1), "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None, "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True}}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
        "patch_size": n["patch"], "median_image_size_in_voxels": [round(300 / s) for s in n["spacing"]], "spacing": n["spacing"],
        "normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape", "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": spline(False, 3), "resampling_fn_seg_kwargs": spline(True, 1),
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape", "resampling_fn_probabilities_kwargs": spline(False, 1),
        "architecture": {"network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet", "arch_kwargs": kwargs,
                         "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"]},
        "batch_dice": False}
    return {
        "dataset_name": f"Dataset990_Benchmark_{name}", "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [2.5, 0.8, 0.8], "original_median_shape_after_transp": [115, 512, 512],
        "image_reader_writer": "SimpleITKIO", "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration}, "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager", "foreground_intensity_properties_per_channel": {"0": CT}}


def dataset(n):
    return {"channel_names": {"0": "CT"}, "labels": {name: i for i, name in enumerate(["background", *n["labels"]])},
            "numTraining": 2200, "file_ending": ".nii.gz"}


# ---------------------------------------------------------------------------- weights


def parameters(kwargs, heads):
    """Yields (names, shape) of every parameter of a PlainConvUNet in the order of its state
    dict; names are all that the state dict has for it (dynamic_network_architectures:
    building_blocks/{simple_conv_blocks,unet_decoder}.py)."""
    features, strides, kernels = kwargs["features_per_stage"], kwargs["strides"], kwargs["kernel_sizes"]

    def block(name, into, out, kernel, shared):
        for module, index, what, shape in (("conv", 0, "weight", (out, into, *kernel)), ("conv", 0, "bias", (out,)),
                                           ("norm", 1, "weight", (out,)), ("norm", 1, "bias", (out,))):
            names = [f"{name}.{module}.{what}", f"{name}.all_modules.{index}.{what}"]
            yield names + ["decoder." + n for n in names if shared], shape

    into = 1
    for s, out in enumerate(features):
        for i in range(kwargs["n_conv_per_stage"][s]):
            yield from block(f"encoder.stages.{s}.0.convs.{i}", into, out, kernels[s], True)
            into = out
    for s, level in enumerate(reversed(range(len(features) - 1))):
        out = features[level]
        for i in range(kwargs["n_conv_per_stage_decoder"][s]):
            yield from block(f"decoder.stages.{s}.convs.{i}", out if i else 2 * out, out, kernels[level], False)
    for s, level in enumerate(reversed(range(len(features) - 1))):
        yield [f"decoder.transpconvs.{s}.weight"], (features[level + 1], features[level], *strides[level + 1])
        yield [f"decoder.transpconvs.{s}.bias"], (features[level],)
    for s, level in enumerate(reversed(range(len(features) - 1))):
        yield [f"decoder.seg_layers.{s}.weight"], (heads, features[level], 1, 1, 1)
        yield [f"decoder.seg_layers.{s}.bias"], (heads,)


def volume(shape):
    n = 1
    for s in shape:
        n *= s
    return n


def random_floats(rng, shape, size):
    """Float32 bytes, magnitudes uniform in [size, 2 size), size a power of two; all taps of a
    kernel have one sign, so that it smooths. Made by whole-buffer integer arithmetic: the
    exponent is set, the mantissa random, the sign bit that of the kernel."""
    n, taps = volume(shape), volume(shape[2:])
    word = struct.unpack("<I", struct.pack("<f", size))[0]
    repeated = lambda w: int.from_bytes(struct.pack("<I", w) * n, "little")
    signs = (bytes(4 * taps), b"\0\0\0\x80" * taps)
    bits = int.from_bytes(rng.randbytes(4 * n), "little") & repeated(0x007FFFFF)
    bits |= int.from_bytes(b"".join(map(signs.__getitem__, rng.choices((0, 1), k=n // taps))), "little")
    return bytearray((bits | repeated(word)).to_bytes(4 * n, "little"))


def power_of_two(x):
    size = 1.0
    while size > x:
        size /= 2
    return size


def randomize(rng, name, shape, last):
    """Weights of He's size, except that feature 0 of the full resolution hands the image's
    intensity from the first convolution through the skip connection to the last layer
    (number last), where a high intensity speaks against background."""
    if len(shape) == 1:
        value = 1.0 if name.endswith("norm.weight") else 0.0
        numbers = [value] * shape[0]
        if name == f"decoder.seg_layers.{last}.bias":
            numbers[0] = 3.0
        return struct.pack(f"<{shape[0]}f", *numbers)
    heads, into = shape[:2]
    data = random_floats(rng, shape, power_of_two((2 / (into * volume(shape[2:]))) ** 0.5))
    row = volume(shape[1:]) * 4
    if name == f"decoder.seg_layers.{last}.weight":
        data[:row] = struct.pack(f"<{into}f", -8.0, *[0.0] * (into - 1))
    elif "convs." in name and name.startswith(("encoder.stages.0.", f"decoder.stages.{last}.")):
        taps = [0.0] * volume(shape[1:])
        source = into // 2 if name == f"decoder.stages.{last}.convs.0.conv.weight" else 0  # upsampled features come first
        taps[source * volume(shape[2:]) + volume(shape[2:]) // 2] = 1.0
        data[:row] = struct.pack(f"<{len(taps)}f", *taps)
    return bytes(data)


# ------------------------------------------------------------------------- checkpoint


class Storage:
    """What torch.save keeps beside its pickle: the numbers of one parameter."""

    def __init__(self, key, data):
        self.key, self.data = key, data


class Tensor:
    """Pickles as torch.Tensor does (torch/_tensor.py, __reduce_ex__)."""

    def __init__(self, storage, shape):
        self.storage, self.shape = storage, shape

    def __reduce__(self):
        strides = tuple(volume(self.shape[i + 1:]) for i in range(len(self.shape)))
        return TORCH["torch._utils"]._rebuild_tensor_v2, (self.storage, 0, self.shape, strides, False, collections.OrderedDict())


def stand_ins():
    """The two modules of torch that a pickled tensor names; pickle looks names up."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    def _rebuild_tensor_v2():
        raise NotImplementedError
    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    return {"torch": torch, "torch._utils": utils}


TORCH = stand_ins()


class TorchPickler(pickle.Pickler):
    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            return "storage", TORCH["torch"].FloatStorage, obj.key, "cpu", len(obj.data) // 4
        return None


def save(path, content, storages):
    """torch.save's zip: a pickle, and every storage as a stored entry
    (caffe2/serialize/inline_container.cc)."""
    sys.modules.update(TORCH)
    try:
        pickled = io.BytesIO()
        TorchPickler(pickled, 2).dump(content)
    finally:
        for name in TORCH:
            del sys.modules[name]
    with zipfile.ZipFile(path, "w") as z:
        def add(name, data):
            z.writestr(zipfile.ZipInfo("archive/" + name), data)
        add("data.pkl", pickled.getvalue())
        add("byteorder", "little")
        for s in storages:
            add(f"data/{s.key}", s.data)
        add("version", "3\n")


def checkpoint(path, name, fold, plans, dataset):
    configuration = plans["configurations"]["3d_fullres"]
    kwargs = configuration["architecture"]["arch_kwargs"]
    rng = random.Random(f"{name} {fold}")
    weights, storages = collections.OrderedDict(), []
    for names, shape in parameters(kwargs, len(dataset["labels"])):
        storage = Storage(str(len(storages)), randomize(rng, names[0], shape, kwargs["n_stages"] - 2))
        storages.append(storage)
        for n in names:
            weights[n] = Tensor(storage, shape)
    init = {"plans": plans, "configuration": "3d_fullres", "fold": fold, "dataset_json": dataset}
    save(path, {"network_weights": weights, "init_args": init, "trainer_name": "nnUNetTrainer", "current_epoch": 1000,
                "inference_allowed_mirroring_axes": (0, 1, 2)}, storages)
    return sum(len(s.data) // 4 for s in storages)


def make(out, name, folds=1):
    """Writes the results folder out; returns the number of parameters."""
    n = NETWORKS[name]
    p, d = plans(name, n), dataset(n)
    part = Path(f"{out}.part") # a folder with its final name is complete
    shutil.rmtree(part, ignore_errors=True)
    for fold in range(folds):
        (part / f"fold_{fold}").mkdir(parents=True)
        count = checkpoint(part / f"fold_{fold}/checkpoint_final.pth", name, fold, p, d)
    (part / "plans.json").write_text(json.dumps(p, indent=4) + "\n")
    (part / "dataset.json").write_text(json.dumps(d, indent=4) + "\n")
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NETWORKS))
    parser.add_argument("--folds", type=int, default=1, help="folds with different weights (1)")
    a = parser.parse_args()
    for name in a.names or NETWORKS:
        if name not in NETWORKS:
            parser.error(f"no network is called {name}; there are {', '.join(NETWORKS)}")
        print(f"{a.out / name}: {make(a.out / name, name, a.folds) / 1e6:.1f} million parameters x {a.folds}")


if __name__ == "__main__":
    main()
