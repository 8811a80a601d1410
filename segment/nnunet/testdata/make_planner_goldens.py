"""Makes planner.json.gz: synthetic fingerprints, and what nnU-Net's planners plan from them.

Run in an environment with nnunetv2 2.8.1:

    python make_planner_goldens.py [FLARE23]

The file is a list of {"name", "fingerprint", "dataset", "plans"}; "plans" holds for each of
libflare's planners the text that nnU-Net writes, or null where it fails. Networks are built
on PyTorch's meta device, because the estimate of their memory needs only shapes.

FLARE23 is plans_golden/FLARE23_blackbean/model of the shared data; flare23_plans.json.gz is
what ExperimentPlanner plans from its fingerprint.
"""
import contextlib
import gzip
import io
import json
import os
import pathlib
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).parent
work = tempfile.TemporaryDirectory()
for name in ("raw", "preprocessed", "results"):
    os.environ["nnUNet_" + name] = os.path.join(work.name, "nnUNet_" + name)
    os.mkdir(os.environ["nnUNet_" + name])

import SimpleITK as sitk
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    nnUNetPlannerResEncL, nnUNetPlannerResEncM)

PLANNERS = {
    "ExperimentPlanner": (ExperimentPlanner, {}),
    "ResEncM": (nnUNetPlannerResEncM, {}),
    "ResEncL": (nnUNetPlannerResEncL, {}),
    "Isotropic25": (ExperimentPlanner, {"overwrite_target_spacing": [2.5, 2.5, 2.5], "plans_name": "flareIsotropic25Plans"}),
}


def dataset(channels=("CT",), labels=2, key="channel_names", number=None, ending=".nii.gz", **more):
    names = {"background": 0, **{f"label {i}": i for i in range(1, labels)}}
    return {key: {str(i): c for i, c in enumerate(channels)}, "labels": names,
            "numTraining": number, "file_ending": ending, **more}


def cases(seed, n, spacing, shape, spread=0.1, fixed=()):
    """n spacings and shapes about the given ones; axes in fixed don't vary."""
    rng = np.random.default_rng(seed)
    spacings, shapes = [], []
    for _ in range(n):
        scale = rng.uniform(1 - spread, 1 + spread, 6)
        scale[list(fixed)] = scale[[3 + i for i in fixed]] = 1
        spacings.append([float(s * f) for s, f in zip(spacing, scale)])
        shapes.append([max(1, round(s * f)) for s, f in zip(shape, scale[3:])])
    return spacings, shapes


# name: cases, dataset.json, median_relative_size_after_cropping
SETS = {
    "abdomen": (cases(1, 21, (5, .8, .8), (100, 512, 512), .2), dataset(labels=14), 1.0),
    "prostate, two channels, three cases": (cases(2, 3, (3.6, .6, .6), (20, 320, 320)), dataset(("T2", "ADC"), 3), 1.0),
    "heart, very anisotropic": (cases(3, 40, (9, 1.5, 1.5), (10, 256, 216), .4), dataset(("cineMRI",), 4), 1.0),
    "tiny": (cases(4, 10, (1, 1, 1), (12, 9, 10), 0), dataset(("MRI",)), 1.0),
    "huge": (cases(5, 6, (.3, .3, .3), (800, 1000, 900)), dataset(("noNorm",)), 1.0),
    "2-D colour": (cases(6, 50, (999, 1, 1), (1, 1024, 1024), .1, (0,)), dataset(["rgb_to_0_1"] * 3, 2), 1.0),
    "2-D, small": (cases(7, 5, (999, .4, .4), (1, 37, 53), 0), dataset(("X-ray",), 2), 1.0),
    "2-D, anisotropic": (cases(8, 8, (1998, .5, 2), (1, 900, 200), .1, (0,)), dataset(("X-ray",), 5), .9),
    "coarse along x": (cases(9, 16, (.5, .5, 4), (300, 400, 25)), dataset(("MRI",), 3), 1.0),
    "coarse along y": (cases(10, 16, (.9, 3, 1), (170, 60, 180)), dataset(("MRI",), 3), 1.0),
    "brain, four channels, cropped": (cases(11, 30, (1, 1, 1), (140, 170, 138), .05),
                                      dataset(("T1", "T2", "nonorm", "rescale_to_0_1"), 4, key="modality"), .4),
    "cropped CT and MR": (cases(12, 30, (2, 1, 1), (80, 230, 210)), dataset(("ct", "MRI"), 3), .7),
    "regions and ignore": (cases(13, 12, (1.2, 1, 1), (150, 160, 170)),
                           {**dataset(("T1",)), "labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3},
                            "regions_class_order": [1, 2]}, 1.0),
    "microscopy": (cases(14, 4, (.002, .001, .001), (200, 2000, 2000)), dataset(("EM",)), 1.0),
    "extreme spacing": (cases(15, 9, (50, .1, .2), (5, 1500, 900)), dataset(("MRI",)), 1.0),
    "one case": (cases(16, 1, (3, .7, .7), (111, 512, 512)), dataset(labels=3), 1.0),
    "halves": (([[1., 1., 1.], [1.5, 1., 1.]], [[35, 50, 35], [36, 51, 40]]), dataset(("MRI",)), 1.0),
    "117 classes": (cases(17, 30, (1.5, 1.5, 1.5), (250, 300, 300)), dataset(labels=118), 1.0),
    "nibabel": (cases(18, 7, (2.5, 1, 1), (60, 200, 200)), dataset(ending=".nii"), 1.0),
    "reoriented": (cases(19, 7, (1, 1, 2.5), (200, 200, 60)),
                   dataset(overwrite_image_reader_writer="NibabelIOWithReorient"), 1.0),
    "two slices": (cases(20, 9, (8, .5, .5), (2, 400, 400), 0), dataset(("MRI",)), 1.0),
    "long": (cases(21, 15, (1, 1, 1), (1500, 120, 120)), dataset(), 1.0),
}


def statistics(channels):
    keys = ("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std")
    values = (3071.0, 99.48007202148438, 101.0, -1024.0, -41.0, 176.125, 37.13840103149414)
    return {str(i): dict(zip(keys, (v + i for v in values))) for i in range(channels)}


def estimate(patch_size, input_channels, output_channels, arch_class_name, arch_kwargs, arch_kwargs_req_import):
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    with torch.device("meta"):
        net = get_network_from_plans(arch_class_name, arch_kwargs, arch_kwargs_req_import, input_channels,
                                     output_channels, allow_init=False)
    return net.compute_conv_feature_map_size(patch_size)


ExperimentPlanner.static_estimate_VRAM_usage = staticmethod(estimate)


def plan(folder, fingerprint, info, planner):
    raw = pathlib.Path(os.environ["nnUNet_raw"], folder)
    prep = pathlib.Path(os.environ["nnUNet_preprocessed"], folder)
    raw.mkdir(exist_ok=True)
    prep.mkdir(exist_ok=True)
    image = "case_0000" + info["file_ending"]
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 4, 4), np.int16)), str(raw / image))
    (raw / "dataset.json").write_text(json.dumps({**info, "dataset": {"case": {"images": [image], "label": image}}}))
    (prep / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    for old in prep.glob("*Plans.json"):
        old.unlink()
    kind, options = PLANNERS[planner]
    with contextlib.redirect_stdout(io.StringIO()):
        p = kind(folder, **options)
        p.plan_experiment()
    return (prep / (p.plans_identifier + ".json")).read_text()


def main():
    out = []
    for i, (name, ((spacings, shapes), info, size)) in enumerate(SETS.items()):
        info["numTraining"] = len(spacings)
        channels = len(info.get("channel_names", info.get("modality")))
        fingerprint = {"foreground_intensity_properties_per_channel": statistics(channels),
                       "median_relative_size_after_cropping": size, "shapes_after_crop": shapes, "spacings": spacings}
        plans = {}
        for planner in PLANNERS:
            if planner == "Isotropic25" and shapes[0][0] == 1:
                continue  # which libflare refuses
            try:
                plans[planner] = plan(f"Dataset{i + 1:03d}_Synthetic", fingerprint, info, planner)
            except OverflowError:  # images of less than a voxel: nnU-Net divides by zero
                plans[planner] = None
                continue
            c = json.loads(plans[planner])["configurations"]
            print(name, planner, {k: (v["patch_size"], v["batch_size"]) for k, v in c.items() if "patch_size" in v}, flush=True)
        out.append({"name": name, "folder": f"Dataset{i + 1:03d}_Synthetic", "fingerprint": fingerprint,
                    "dataset": info, "plans": plans})
    write("planner.json.gz", json.dumps(out))
    if len(sys.argv) > 1:
        fingerprint, info = (json.loads(pathlib.Path(sys.argv[1], name).read_text())
                             for name in ("dataset_fingerprint.json", "dataset.json"))
        write("flare23_plans.json.gz", plan("Dataset140_FLARE23", fingerprint, info, "ExperimentPlanner"))


def write(name, text):
    with gzip.GzipFile(HERE / name, "wb", 9, mtime=0) as f:
        f.write(text.encode())


if __name__ == "__main__":
    main()
