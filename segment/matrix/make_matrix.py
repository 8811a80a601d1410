"""Makes the matrix: small results folders of nnU-Net 2.8.1, one per interesting
combination of what its plans, checkpoints and inputs may say, small images, and what
nnU-Net itself makes of them. matrix_test.go compares; CI does not run this script.

Run in a scratch environment with nnunetv2==2.8.1 and onnx; a minute on one core:

    python make_matrix.py [ROW ...]     # all rows, or these and those that share their models

Networks are random. So that label maps are not noise, images are smooth; so that every
class appears, the last layer is scaled and its biases shifted until each class takes its
share (calibrate). A seed that misses a class, or whose labels hang on rounding, is
replaced by the next (judge).

Goldens are nnU-Net's own, from its preprocessor to its export, with one thing changed:
logits, counts and Gaussian of the sliding window are float32 where nnU-Net keeps them in
half precision (accumulators). The unchanged labels are kept as labels_shipped.

What lies where (testdata/):
    images/     CASE_0000.nii.gz ... and CASE_4d.nii.gz
    models/     results folders; in onnx/ networks as others export them
    golden/     per row labels.nii.gz, labels_shipped.nii.gz, and samples of the image on
                the network's grid (image.npy), of the logits there (logits.npy) and of the
                probabilities (probabilities.npy): of the flattened array, every step-th
                value from 0 on; shape, step, minimum and maximum stand in rows.json
cases.py lists the combinations. rows.json is plain data; its keys are explained at Row in
matrix_test.go.
"""
import collections
import contextlib
import functools
import io
import json
import math
import multiprocessing
import os
import shutil
import sys
import tempfile
import types
import warnings
import zlib
from multiprocessing.pool import ThreadPool
from pathlib import Path
from unittest import mock

for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(name, tempfile.gettempdir())
import numpy as np
import SimpleITK as sitk
import torch
from scipy.ndimage import gaussian_filter

import nnunetv2.inference.predict_from_raw_data as prediction
from nnunetv2.ensembling.ensemble import ensemble_folders
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.postprocessing.remove_connected_components import apply_postprocessing, apply_postprocessing_to_folder, determine_postprocessing, \
    remove_all_but_largest_component_from_segmentation as largest
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from cases import MODELS, ROWS

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
HERE = Path(__file__).parent
DATA = HERE / "testdata"
SAMPLES = 2500

# ------------------------------------------------------------------ the way of nnU-Net


@contextlib.contextmanager
def accumulators(dtype):
    """nnU-Net says torch.half where it allocates logits and counts, and float16 is the
    default type of its Gaussian; nothing else is changed."""
    half, torch.half = torch.half, dtype
    gaussian = functools.partial(compute_gaussian, dtype=dtype)
    gaussian.cache_clear = compute_gaussian.cache_clear
    with mock.patch.object(prediction, "compute_gaussian", gaussian):
        try:
            yield
        finally:
            torch.half = half


class Recorder(prediction.nnUNetPredictor):
    """nnU-Net's predictor, which keeps what it passes from stage to stage."""

    def predict_logits_from_preprocessed_data(self, data):
        self.image = np.array(data, dtype=np.float32)
        if self.dtype == torch.float64:
            self.network, data = self.network.double(), data.double()
        logits = super().predict_logits_from_preprocessed_data(data)
        self.logits = np.array(logits.float())
        return logits

    def _internal_get_sliding_window_slicers(self, image_size):
        slicers = super()._internal_get_sliding_window_slicers(image_size)
        starts = lambda s: s.start if isinstance(s, slice) else s
        self.tiles = [sorted({starts(s[1 + i]) for s in slicers}) for i in range(3)]
        assert len(slicers) == math.prod(map(len, self.tiles))
        return slicers


def predict(folder, files, out, folds=None, checkpoint="checkpoint_final.pth", mirror=False, previous=None, probabilities=False,
            dtype=torch.float32):
    """Runs nnU-Net on one case; its labels are out / CASE.nii.gz. dtype is that of the
    accumulators, and, where it is float64, of the network."""
    out.mkdir(parents=True, exist_ok=True)
    r = Recorder(use_mirroring=mirror, device=torch.device("cpu"), allow_tqdm=False)
    r.dtype = dtype
    if folds is None and (folder / "fold_all").is_dir():
        folds = ("all",)
    r.initialize_from_trained_model_folder(str(folder), folds, checkpoint)
    case = Path(files[0]).name[:-len("_0000.nii.gz")]
    with accumulators(dtype) if dtype != torch.half else contextlib.nullcontext():
        r.predict_from_files_sequential([[str(f) for f in files]], str(out), probabilities, True, previous and str(previous))
    r.labels = out / f"{case}.nii.gz"
    return r


# ------------------------------------------------------------------------------ images


def smooth(rng, shape, spacing, mm):
    x = gaussian_filter(rng.normal(size=shape), [mm / s for s in spacing], mode="reflect")
    return (x - x.mean()) / x.std()


def soft_tissue(rng, shape, spacing):
    """Smooth intensities around 55 with some blobs, like a CT without edges."""
    x = 55 + 110 * smooth(rng, shape, spacing, 3.5) + 60 * smooth(rng, shape, spacing, 7)
    grid = np.meshgrid(*[np.arange(n) * s for n, s in zip(shape, spacing)], indexing="ij")
    for _ in range(5):
        centre = [rng.uniform(0.15, 0.85) * n * s for n, s in zip(shape, spacing)]
        d2 = sum((g - c) ** 2 for g, c in zip(grid, centre)) / rng.uniform(3, 6) ** 2
        x += rng.choice([-180, 180]) / (1 + d2 ** 2)
    return x


def save(path, array, spacing, direction=None):
    """array z,y,x or channels,z,y,x; int16 is rounded to even numbers, which packs better."""
    image = sitk.GetImageFromArray(array, isVector=False)
    extra = [1.0] * (image.GetDimension() - len(spacing))
    image.SetSpacing([*spacing[::-1], *extra])
    image.SetOrigin([-31.5, 12.25, 104.0, 0.0][:image.GetDimension()] if len(spacing) == 3 else [3.0, -4.0])
    if direction is not None and image.GetDimension() == 3:
        image.SetDirection(direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), True)


def make_images():
    folder = DATA / "images"
    shutil.rmtree(folder, ignore_errors=True)
    even = lambda x: (2 * np.round(x / 2)).astype(np.int16)

    def one(name, shape, spacing, dtype=np.int16, **kw):
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        x = soft_tissue(rng, shape, spacing)
        save(folder / f"{name}_0000.nii.gz", even(x) if dtype == np.int16 else np.round(x, 1).astype(dtype), spacing, **kw)

    one("iso", (28, 30, 26), (1.5, 1.2, 1.2))
    one("thick", (12, 34, 32), (5.0, 1.0, 1.1), direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    one("sagittal", (13, 30, 28), (4.5, 1.1, 1.0), direction=(0, 0, -1, 1, 0, 0, 0, -1, 0))
    one("small", (14, 40, 22), (1.5, 1.0, 1.1))
    one("flat", (120, 96), (0.8, 0.9), np.float32)

    def inside(shape, rng, margin):
        """A ragged ellipsoid with holes: zero around it, zero within it, zero on the border."""
        grid = np.meshgrid(*[np.linspace(-1.12, 1.12, n) for n in shape], indexing="ij")
        mask = sum(g ** 2 for g in grid) < 1 + 0.15 * smooth(rng, shape, (1, 1, 1), 2)
        for m, axis in zip(margin, range(3)):
            index = np.moveaxis(mask, axis, 0)
            index[:m[0]], index[len(index) - m[1]:] = False, False
        z, y, x = (n // 2 for n in shape)
        mask[z - 2:z + 2, y - 3:y + 2, x - 1:x + 3] = False  # a hole that nnU-Net fills
        mask[z + 4, :, x] = False                            # and a slit open to the outside, which it does not
        return mask

    rng = np.random.default_rng(17)
    shape, spacing = (30, 28, 30), (1.0, 1.0, 1.2)
    x = even(soft_tissue(rng, shape, spacing) + 400)
    x[~inside(shape, rng, ((3, 2), (1, 4), (2, 0)))] = 0
    save(folder / "border_0000.nii.gz", x.astype(np.float32), spacing, direction=(1, 0, 0, 0, -1, 0, 0, 0, -1))

    def several(name, shape, spacing, channels):
        for i, c in enumerate(channels):
            save(folder / f"{name}_{i:04d}.nii.gz", c, spacing)
        save(folder / f"{name}_4d.nii.gz", np.stack(channels), spacing)

    shape, spacing = (26, 28, 26), (1.3, 1.2, 1.2)
    a, b = (even(soft_tissue(rng, shape, spacing) + s) for s in (0, 500))
    a[~inside(shape, rng, ((3, 2), (1, 4), (2, 1)))] = 0
    b[~inside(shape, rng, ((1, 4), (2, 2), (3, 3)))] = 0
    several("duo", shape, spacing, [a, b])
    shape = (24, 24, 24)
    several("trio", shape, spacing, [np.clip(np.round(128 + 45 * smooth(rng, shape, spacing, 3.5)), 0, 255).astype(np.uint8) for _ in range(3)])


def files_of(case, channels):
    return [DATA / "images" / f"{case}_{i:04d}.nii.gz" for i in range(channels)]


# ------------------------------------------------------------------------------ models


def network_of(m):
    plans = PlansManager(json.loads(json.dumps(m.plans)))
    c = plans.get_configuration(m.configuration)
    heads = plans.get_label_manager(m.dataset).num_segmentation_heads
    build = recursive_find_trainer_class_by_name(m.trainer).build_network_architecture
    return build(plans, c, determine_num_input_channels(plans, c, m.dataset), heads, enable_deep_supervision=False).eval()


def randomize(network):
    """Norms, biases and statistics too, so that a swapped or ignored one shows. A kernel is
    a mean and some noise: features, and so labels, are smooth where the image is."""
    with torch.no_grad():
        for name, p in [*network.named_parameters(), *network.named_buffers()]:
            if p.ndim > 2:
                axes = tuple(range(2, p.ndim))
                p.mul_(0.35).add_(torch.randn_like(p.mean(axes, keepdim=True)) * p.std() / 0.35)
            if p.ndim > 1 or not p.is_floating_point():
                continue
            p.copy_(0.2 * torch.randn_like(p) if name.endswith(("bias", "mean")) else 0.6 + 0.8 * torch.rand_like(p))
        last = network.decoder.seg_layers[-1].weight  # what all classes share decides nothing
        torch.nn.init.orthogonal_(last)
        last.sub_(last.mean(0))


def checkpoint_of(m, network, fold):
    weights = collections.OrderedDict((k, v.to(m.dtype) if m.dtype and v.is_floating_point() else v) for k, v in network.state_dict().items())
    c = {"network_weights": weights, "trainer_name": m.trainer,
         "init_args": {"configuration": m.configuration, "fold": int(fold) if fold != "all" else fold},
         "inference_allowed_mirroring_axes": m.mirror}
    if m.mirror == "absent":
        del c["inference_allowed_mirroring_axes"]
    return c


def write_folder(m, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(m.plans, separators=(",", ":")) + "\n")
    (folder / "dataset.json").write_text(json.dumps(m.dataset, separators=(",", ":")) + "\n")


def calibrate(m, folder, fold, name, network, previous, scratch):
    """Scales the last layer so that each class's logits have a standard deviation of 3, and
    shifts its biases until every class has its share of the voxels."""
    r = predict(folder, files_of(m.case, m.channels), scratch / "calibrate", (fold,), name, previous=previous)
    x = r.logits.reshape(len(r.logits), -1).astype(np.float64)
    mean, std = x.mean(1), np.maximum(x.std(1), 1e-12)
    z = (x - mean[:, None]) * (3 / std)[:, None]
    heads = len(x)
    if r.label_manager.has_regions:
        shift = -np.array([np.quantile(c, 1 - share) for c, share in zip(z, np.linspace(0.5, 0.2, heads))])
    else:
        want = np.full(heads, (1 - m.background) / (heads - 1))
        want[0] = m.background
        shift = np.zeros(heads)
        for step in np.geomspace(1, 0.05, 150):
            have = np.bincount((z + shift[:, None]).argmax(0), minlength=heads) / z.shape[1]
            shift += step * np.clip(np.log(want / np.maximum(have, 1e-4)), -1, 1)
    last = network.decoder.seg_layers[-1]
    with torch.no_grad():
        scale = torch.from_numpy(3 / std).float()
        last.weight *= scale.reshape(-1, *[1] * (last.weight.ndim - 1))
        last.bias.copy_((last.bias - torch.from_numpy(mean).float()) * scale + torch.from_numpy(shift).float())
    torch.save(checkpoint_of(m, network, fold), folder / f"fold_{fold}" / name)


def make_model(name, seed, scratch, previous):
    """The folder as nnU-Net reads it."""
    m, folder = MODELS[name], DATA / "models" / name
    write_folder(m, folder)
    networks = []
    for k, fold in enumerate(m.folds):
        (folder / f"fold_{fold}").mkdir()
        for j, checkpoint in enumerate(m.checkpoints):
            torch.manual_seed(zlib.crc32(f"{name} {seed} {k} {j}".encode()))
            networks.append(network_of(m))
            randomize(networks[-1])
            torch.save(checkpoint_of(m, networks[-1], fold), folder / f"fold_{fold}" / checkpoint)
            calibrate(m, folder, fold, checkpoint, networks[-1], previous, scratch)
    return networks


def change_checkpoints(m, folder):
    """What other tools do to checkpoints; nnU-Net's predictor would refuse these."""
    for path in folder.glob("fold_*/*.pth") if m.after else []:
        c = torch.load(path, weights_only=False)
        w = c["network_weights"]
        if m.after == "no heads":
            last = max(k for k in w if "seg_layers" in k).split(".")[2]
            w = {k: v for k, v in w.items() if "seg_layers" not in k or k.split(".")[2] == last}
        else:
            w = {m.after + k: v for k, v in w.items()}
        torch.save({**c, "network_weights": collections.OrderedDict(w)}, path)


def export_onnx(m, network, folder):
    """The network as others export it; the checkpoint goes."""
    import onnx
    from onnx import version_converter
    shutil.rmtree(folder / "fold_0")
    x = torch.zeros(1, m.channels, *m.plans["configurations"][m.configuration]["patch_size"])

    def export(opset, inputs, outputs, dynamic=None):
        with io.BytesIO() as f:
            torch.onnx.export(network, x, f, input_names=inputs, output_names=outputs, opset_version=opset, dynamic_axes=dynamic, dynamo=False)
            return onnx.load_from_string(f.getvalue())

    onnx.save(export(11, ["input"], ["output"]), folder / "opset11.onnx")
    onnx.save(export(13, ["x.1"], ["y"], {"x.1": {0: "batch"}, "y": {0: "batch"}}), folder / "opset13.onnx")
    onnx.save(version_converter.convert_version(export(17, ["image"], ["logits"]), 21), folder / "opset21.onnx")
    network.decoder.deep_supervision = True
    free = {0: "n", 2: "z", 3: "y", 4: "x"}
    onnx.save(export(17, ["volume"], ["seg_full", "seg_half"], {"volume": free, "seg_full": free, "seg_half": free}), folder / "opset17.onnx")


# ----------------------------------------------------------------------------- goldens


def labels_of(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def store(path, array):
    """Keeps a sample of an array; returns how it was taken and the array's range."""
    step = max(1, array.size // SAMPLES)
    while step > 1 and any(math.gcd(step, n) > 1 for n in array.shape if n > 1):
        step += 1
    np.save(path, array.reshape(-1)[::step].astype(np.float32))
    return {"shape": list(array.shape), "step": step, "min": float(array.min()), "max": float(array.max())}


def write_labels(path, array, like):
    image = sitk.GetImageFromArray(array.astype(np.uint8 if array.max() < 255 else np.uint16))
    image.CopyInformation(sitk.ReadImage(str(like)))
    sitk.WriteImage(image, str(path), True)


@contextlib.contextmanager
def in_this_process():
    """nnU-Net starts process pools for ensembles and post-processing; threads do the same."""
    with mock.patch.object(multiprocessing, "get_context", lambda *_: types.SimpleNamespace(Pool=ThreadPool)):
        yield


def ensemble(r, files, options, out, dtype):
    """nnUNetv2_ensemble on saved probabilities."""
    parts = options["models"]
    for i, part in enumerate(parts):
        predict(DATA / part["path"], files, out / str(i), mirror=options.get("mirror", False), probabilities=True, dtype=dtype)
    with in_this_process():
        ensemble_folders([str(out / str(i)) for i in range(len(parts))], str(out / "mean"), num_processes=1)
    return out / "mean" / r.labels.name


def postprocess(r, name, out, model, dataset):
    """Lets nnU-Net find the post-processing: the reference is the prediction with what the
    row is about already done, so that it improves Dice."""
    seg, regions = labels_of(r.labels), r.label_manager.foreground_regions if r.label_manager.has_regions else r.label_manager.foreground_labels
    wanted = seg
    if name == "post_foreground":
        wanted = largest(seg, regions)
    else:
        for l in regions[1:]:
            wanted = largest(wanted, l)
    folder, reference = out / "pp", out / "reference"
    for f in (folder, reference):
        f.mkdir()
    shutil.copy(r.labels, folder)
    write_labels(reference / r.labels.name, wanted, r.labels)
    with in_this_process():
        fns, kwargs = determine_postprocessing(str(folder), str(reference), r.plans_manager.plans, dataset, 1, True)
        assert fns, "no post-processing was found to help"
        apply_postprocessing_to_folder(str(folder), str(out / "done"), fns, kwargs, r.plans_manager.plans, dataset, 1)
    # nnUNetv2_find_best_configuration keeps it in the model's folder, under the folds it is from.
    place = model if name == "post_foreground" else model / "crossval_results_folds_0"
    place.mkdir(exist_ok=True)
    shutil.copy(folder / "postprocessing.pkl", place)
    return out / "done" / r.labels.name, (fns, kwargs)


def merged(r, files, options, out, dtype):
    """Parts in order; a later part overwrites only where it is foreground. A label that a
    part's map leaves out is background."""
    total = None
    for i, part in enumerate(options["models"]):
        p = predict(DATA / part["path"], files, out / f"part{i}", dtype=dtype)
        seg = labels_of(p.labels)
        mine = np.zeros(seg.shape, np.int64)
        for name, v in part["labels"].items():
            mine[seg == p.dataset_json["labels"][name]] = v
        total = mine if total is None else np.where(mine > 0, mine, total)
    path = out / "merged.nii.gz"
    write_labels(path, total, r.labels)
    return path


def make_golden(spec, out):
    """Runs nnU-Net for a row; returns the row as rows.json has it."""
    o, m = spec["options"], MODELS[spec["model"]]
    folder, golden = DATA / "models" / spec["model"], DATA / "golden" / spec["golden"]
    files = files_of(m.case, m.channels)
    result = {"name": spec["name"], "subject": spec["subject"], "model": f"models/{spec['model']}",
              "inputs": [f"images/{m.case}_4d.nii.gz"] if o.get("four_d") else [f"images/{f.name}" for f in files],
              "golden": f"golden/{spec['golden']}", **{k: v for k, v in o.items() if k != "four_d"}}
    if m.onnx:
        result["configuration"] = m.configuration
    previous = None
    if "previous" in o:
        previous = out / "previous"
        previous.mkdir(parents=True)
        shutil.copy(DATA / o["previous"], previous / f"{m.case}.nii.gz")
    golden.mkdir(parents=True, exist_ok=True)
    arguments = dict(folds=tuple(o["folds"].split(",")) if "folds" in o else None, checkpoint=o.get("checkpoint", "checkpoint_final.pth"),
                     mirror=o.get("mirror", False), previous=previous, probabilities=o.get("probabilities", False))
    maps = {}
    for kind, dtype in (("", torch.float32), ("_shipped", torch.half), ("_double", torch.float64)):
        where = out / f"run{kind}"
        r = predict(folder, files, where, dtype=dtype, **arguments)
        labels = r.labels
        if o.get("combine") == "ensemble":
            labels = ensemble(r, files, o, where, dtype)
        elif o.get("combine") == "parts":
            labels = merged(r, files, o, where, dtype)
        elif o.get("postprocess") and not kind:
            labels, steps = postprocess(r, spec["name"], where, folder, m.dataset)
            result["postprocessed"] = [k["labels_or_regions"] for k in steps[1]]
        elif o.get("postprocess"):
            labels = where / "done.nii.gz"
            write_labels(labels, apply_postprocessing(labels_of(r.labels), *steps), r.labels)
        maps[kind] = labels_of(labels)
        if kind == "_double":
            continue
        shutil.copy(labels, golden / f"labels{kind}.nii.gz")
        if kind:
            continue
        result["image"] = store(golden / "image.npy", r.image)
        result["tiles"] = r.tiles
        result["logits"] = store(golden / "logits.npy", r.logits)
        if o.get("probabilities"):
            result["probabilities_sample"] = store(golden / "probabilities.npy", np.load(str(r.labels)[:-len(".nii.gz")] + ".npz")["probabilities"])
    judge(spec, r.label_manager, maps, result)
    return result


def judge(spec, label_manager, maps, result):
    """Refuses a network whose labels prove little: classes missing, or labels that hang on
    the last bits of the arithmetic."""
    o, name, seg = spec["options"], spec["name"], maps[""]
    result["foreground"] = int((seg > 0).sum())
    values, counts = np.unique(seg, return_counts=True)
    if o.get("combine") == "parts":
        expected = {0, *(v for p in o["models"] for v in p["labels"].values())}
    elif label_manager.has_regions:
        expected = {0, *label_manager.regions_class_order}
    else:
        expected = {int(v) for v in label_manager.all_labels}
    many = len(expected) > 100  # of hundreds a few may be missing
    if len(values) <= 0.97 * len(expected) or values.max() <= 255 if many else set(values.tolist()) != expected or counts.min() <= 40:
        raise Unfit(f"{name}: {len(values)} of {len(expected)} classes, voxels {counts[:10].tolist()}")

    def percent(kind):
        either = (seg > 0) | (maps[kind] > 0)
        return 100 * float((seg == maps[kind])[either].mean())

    if result["foreground"] < 5500:  # one voxel is 0.02 % of 5000
        raise Unfit(f"{name}: {result['foreground']} voxels of foreground")
    if percent("_double") < (99.99 if many else 100):
        raise Unfit(f"{name}: double precision agrees in {percent('_double'):.3f} %")
    if percent("_shipped") < 99.3 and not many and not o.get("postprocess"):
        raise Unfit(f"{name}: half precision agrees in {percent('_shipped'):.3f} %")
    same = [np.diff(seg.astype(int), axis=a) == 0 for a in range(seg.ndim) if seg.shape[a] > 1]
    result["smooth"] = round(float(sum(s.sum() for s in same) / sum(s.size for s in same)), 3)
    result["shipped_percent"] = round(percent("_shipped"), 4)


class Unfit(Exception):
    """A random network that is no good example."""


def models_of(spec):
    names = [spec["model"], *(Path(p["path"]).name for p in spec["options"].get("models", []))]
    return list(dict.fromkeys(names))


def main(chosen):
    index = HERE / "rows.json"
    # A model that is made again takes all its rows with it: they chose its seed together.
    while more := {s["name"] for s in ROWS if {m for t in ROWS if t["name"] in chosen for m in models_of(t)} & set(models_of(s))} - chosen:
        chosen |= more
    if not chosen:
        shutil.rmtree(DATA, ignore_errors=True)
        make_images()
    done = {r["name"]: r for r in json.loads(index.read_text())} if chosen else {}
    made, networks = {}, {}
    # Goldens first that others start from: rows run in the order of what they need.
    order = sorted(ROWS, key=lambda s: "cascade" in s["name"])
    for spec in order:
        if chosen and spec["name"] not in chosen:
            continue
        if spec["golden"] != spec["name"] and spec["golden"] in {s["name"] for s in ROWS} | made.keys() and spec["golden"] in done:
            m, o = MODELS[spec["model"]], spec["options"]
            same = {k: v for k, v in done[spec["golden"]].items() if k not in ("previous", "onnx")}
            done[spec["name"]] = {**same, "name": spec["name"], "subject": spec["subject"], **{k: v for k, v in o.items() if k != "four_d"}}
            if o.get("four_d"):
                done[spec["name"]]["inputs"] = [f"images/{m.case}_4d.nii.gz"]
            continue
        wanted = models_of(spec) if spec["options"].get("combine") != "cascade" else [spec["model"]]
        for attempt in range(60):
            with tempfile.TemporaryDirectory() as tmp, contextlib.redirect_stdout(io.StringIO()):
                tmp = Path(tmp)
                for w in wanted:
                    if w in made and (attempt == 0 or w in fixed):
                        continue
                    m = MODELS[w]
                    previous = None
                    if m.previous:
                        previous = tmp / "previous"
                        previous.mkdir(exist_ok=True)
                        shutil.copy(DATA / "golden" / m.previous / "labels.nii.gz", previous / f"{m.case}.nii.gz")
                    networks[w] = make_model(w, m.seed + attempt, tmp / w, previous)
                    made[w] = attempt
                try:
                    golden = make_golden(spec, tmp / "out")
                    break
                except Unfit as e:
                    print(e, file=sys.stderr)
                    fixed = {Path(d["model"]).name for d in done.values()}  # other rows' goldens rest on these
                    if spec["model"] in fixed:
                        raise SystemExit(f"give model {spec['model']} another seed in MODELS")
        else:
            raise SystemExit(f"{spec['name']}: no seed gives every class")
        name = spec["golden"] if spec["golden"] not in {s["name"] for s in ROWS} else spec["name"]
        if name != spec["name"]:
            done[name] = golden
        done[spec["name"]] = golden
        print(f"{spec['name']:28} seed {made[spec['model']]} foreground {golden['foreground']} smooth {golden['smooth']} "
              f"shipped {golden['shipped_percent']}", flush=True)
    for w in made:
        change_checkpoints(MODELS[w], DATA / "models" / w)
        if MODELS[w].onnx:
            export_onnx(MODELS[w], networks[w][0], DATA / "models" / w)
    rows = [done[s["name"]] for s in ROWS if s["name"] in done]
    index.write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")


if __name__ == "__main__":
    main(set(sys.argv[1:]))
