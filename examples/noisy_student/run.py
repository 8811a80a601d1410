"""The noisy student in small, on real data: the Decathlon's hippocampus MRs (195 labelled).

    python examples/noisy_student/run.py [--seeds 0,1,2] [--labelled 10,20] [--name NAME]
        [--epochs N] [--student-epochs N] [--iterations N] [--optimizer adamw] [--rate 0.001]
        [--features 16,32,64] [--mode fast]
        [--student JSON] [--selection JSON] [--more JSON] [--write]

needs ./build.sh before and the data in $FLARE_DATA or ../shared/data. For every seed the cases
are divided at random into 45 test cases, 130 that count as unlabelled, and 20 that may be
labelled, of which the first 10 or all are. Test cases are looked at in the end alone: neither
training nor selection sees them. These are compared, all of one architecture:

    supervised      one network on the labelled cases, with one pass and with 8 mirror flips
    teacher         5 folds on the labelled cases, 8 flips: 40 passes
    plain student   on labelled and pseudo-labelled cases, trained as the teacher: no noise
    noisy student   strong augmentation, dropout, stochastic depth, no mirroring; one pass
    second round    a noisy student that a noisy student taught
    all labels      one network on the 150 cases with their manual labels: the upper bound

Everything lies in build/noisy_student/NAME; whatever interrupts it, the same command goes on.
--student, --selection and --more change parts of the config of flare student (the student's
training, the selection, anything else), so that a variant is a NAME with such changes. --write
puts the variant's part into RESULTS.md, and plot.svg. Plain Python.
"""
import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import summary

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FLARE = ROOT / "build/bin/flare"
TEST, UNLABELLED, POOL = 45, 130, 20
PATCH = [40, 56, 40]  # holds almost every case whole
TOLERANCE = "1"  # mm, of NSD


def plans(features):
    """nnU-Net's plans of a small residual network (blocks can be left out: stochastic depth)."""
    n = len(features)
    spline = "resample_data_or_seg_to_shape"
    resampling = lambda seg, order: {"is_seg": seg, "order": order, "order_z": 0, "force_separate_z": None}
    conv, norm = "torch.nn.modules.conv.Conv3d", "torch.nn.modules.instancenorm.InstanceNorm3d"
    arguments = {"n_stages": n, "features_per_stage": features, "conv_op": conv, "kernel_sizes": [[3, 3, 3]] * n, "strides": [[1, 1, 1]] + [[2, 2, 2]] * (n - 1),
                 "n_blocks_per_stage": [1] + [2] * (n - 1), "n_conv_per_stage_decoder": [1] * (n - 1), "conv_bias": True, "norm_op": norm,
                 "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
                 "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True}}
    return {"dataset_name": "Hippocampus", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
            "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2],
            "configurations": {"3d_fullres": {
                "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "patch_size": PATCH,
                "spacing": [1.0, 1.0, 1.0], "normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [False], "batch_dice": False,
                "resampling_fn_data": spline, "resampling_fn_seg": spline, "resampling_fn_probabilities": spline,
                "resampling_fn_data_kwargs": resampling(False, 3), "resampling_fn_seg_kwargs": resampling(True, 1),
                "resampling_fn_probabilities_kwargs": resampling(False, 1),
                "architecture": {"network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
                                 "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"], "arch_kwargs": arguments}}}}


def flare(*arguments, quiet=False):
    """Runs the command line; quiet: its account only where it fails."""
    p = subprocess.run([str(FLARE), *map(str, arguments)], stderr=subprocess.PIPE if quiet else None, stdout=subprocess.PIPE, text=True)
    if p.returncode:
        raise SystemExit(f"flare {' '.join(map(str, arguments))}: exit code {p.returncode}\n{p.stderr or ''}")


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=2)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return path


def link(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_symlink():
        target.symlink_to(source)


class Split:
    """The cases of a seed, as folders of links."""

    def __init__(self, data, seed, folder):
        self.data, self.folder = data, folder
        names = sorted(p.name.removesuffix(".nii.gz") for p in (data / "imagesTr").glob("*.nii.gz"))
        random.Random(f"hippocampus {seed}").shuffle(names)
        if len(names) < TEST + UNLABELLED + POOL:
            raise SystemExit(f"{data} holds {len(names)} cases, expected {TEST + UNLABELLED + POOL}")
        self.test, self.unlabelled, self.pool = names[:TEST], names[TEST:TEST + UNLABELLED], names[TEST + UNLABELLED:][:POOL]
        self.images(self.test, folder / "test/images")
        self.labels(self.test, folder / "test/labels")
        self.images(self.unlabelled, folder / "unlabelled")
        self.labels(self.unlabelled, folder / "hidden")  # to see in the end how good the pseudo-labels were
        write(folder / "split.json", {"test": self.test, "unlabelled": self.unlabelled, "pool": self.pool})

    def images(self, names, folder, suffix=""):
        for n in names:
            link(self.data / f"imagesTr/{n}.nii.gz", folder / f"{n}{suffix}.nii.gz")

    def labels(self, names, folder):
        for n in names:
            link(self.data / f"labelsTr/{n}.nii.gz", folder / f"{n}.nii.gz")

    def dataset(self, names, name):
        """A raw dataset with the manual labels of some cases."""
        folder = self.folder / name
        self.images(names, folder / "imagesTr", "_0000")
        self.labels(names, folder / "labelsTr")
        write(folder / "dataset.json", {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "anterior": 1, "posterior": 2},
                                        "numTraining": len(names), "file_ending": ".nii.gz"})
        return folder


def train(data, plan, run, settings, train_on, validate_on, mode):
    """flare train with the settings of a config, unless that was done."""
    done, asked = run.parent / f"{run.name}_done.json", {"settings": settings, "train": sorted(train_on), "mode": mode}
    if done.exists() and json.loads(done.read_text()) == asked:
        return run / "model.onnx"
    splits = write(run.parent / f"{run.name}_splits.json", [{"train": sorted(train_on), "val": sorted(validate_on)}])
    flare("train", data, "-o", run, "--resume", "--plans", plan, "--cache", f"{data}_cache", "--splits", splits, "--fold", "0", "--mode", mode,
          "--epochs", settings["epochs"], "--iterations", settings["iterations"], "--validation", settings["validation_iterations"],
          "--seed", settings["seed"], "--optimizer", settings["optimizer"], "--rate", settings["learning_rate"])
    write(done, asked)
    return run / "model.onnx"


def score(model, mirror, images, labels, dataset, out, mode):
    """Segments the test cases in a process of their own and scores them, unless that was done
    with this model."""
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    result = out / "result.json"
    if result.exists() and (r := json.loads(result.read_text()))["model"] == digest:
        return r
    flare("segment", "-m", model, *(["--mirror"] if mirror else []), "--mode", mode, images, out / "labels", "--stats", out / "stats.json", quiet=True)
    cases = evaluate(out / "labels", labels, dataset, out / "scores.json")
    stats = json.loads((out / "stats.json").read_text())["cases"].values()
    seconds = sorted(s["seconds"]["total"] for s in stats)
    r = {"model": digest, "cases": cases, "seconds": seconds[len(seconds) // 2], "memory": max(s["peak_memory_bytes"] for s in stats)}
    write(result, r)
    return r


def evaluate(prediction, reference, dataset, out):
    """DSC and NSD of each case and label."""
    flare("evaluate", prediction, reference, "--labels", dataset / "dataset.json", "--tolerance", TOLERANCE, "--json", out, quiet=True)
    return {c["name"]: [[l["dsc"], l["nsd"]] for l in c["labels"]] for c in json.loads(out.read_text())["cases"]}


def merged(base, change):
    """base with the keys of change, at any depth."""
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    return base | {k: merged(base.get(k), v) for k, v in change.items()}


def experiment(a, data, seed, count):
    """One seed with so many labelled cases: a result for each model, and how good the
    pseudo-labels were."""
    folder = a.out / f"seed_{seed}"
    split = Split(data, seed, folder)
    labelled = split.pool[:count]
    here = folder / f"labelled_{count}"
    raw = split.dataset(labelled, f"labelled_{count}/Dataset001_Hippocampus")
    plan = write(a.out / "plans.json", plans(a.features))
    settings = {"epochs": a.epochs, "iterations": a.iterations, "validation_iterations": 2, "seed": 1000 * seed,
                "optimizer": a.optimizer, "learning_rate": a.rate}
    noisy = settings | {"epochs": a.student_epochs, "strong": True, "no_mirroring": True, "dropout": 0.1, "stochastic_depth": 0.1}
    config = {"labelled": str(raw), "unlabelled": str(folder / "unlabelled"), "run": str(here / "run"), "mode": a.mode, "rounds": 2,
              "teacher": {"plans": str(plan), "training": settings},
              "selection": json.loads(a.selection), "student": {"training": noisy | json.loads(a.student)},
              "supervised": settings | {"epochs": a.student_epochs}}
    flare("student", write(here / "student.json", merged(config, json.loads(a.more))))

    run = here / "run"
    kept = [d["case"] for d in json.loads((run / "round_1/selection.json").read_text()) if d["kept"]]
    as_teacher = settings | {"epochs": a.student_epochs}
    plain = train(run / "round_1/cache", plan, here / "plain_student", as_teacher, labelled + kept, labelled, a.mode)
    everything = split.dataset(split.pool + split.unlabelled, "all/Dataset002_Hippocampus")
    upper = train(everything, plan, folder / "all/run", as_teacher, split.pool + split.unlabelled, split.pool, a.mode)

    students = [("noisy student", "student")]
    if (run / "round_1/fine_tuned/model.onnx").exists():
        students.append(("noisy student, fine-tuned", "fine_tuned"))
    models = [("supervised", run / "supervised/model.onnx", False), ("supervised, 8 flips", run / "supervised/model.onnx", True),
              ("teacher, 5 folds x 8 flips", run / "teacher/teacher.onnx", True), ("plain student", plain, False)]
    models += [(name, run / f"round_1/{part}/model.onnx", False) for name, part in students]
    models += [(f"second round{name.removeprefix('noisy student')}", run / f"round_2/{part}/model.onnx", False) for name, part in students]
    models += [("all labels", upper, False), ("all labels, 8 flips", upper, True)]
    results = {}
    for name, model, mirror in models:
        part = "".join(c if c.isalnum() else "_" for c in name)
        results[name] = score(model, mirror, folder / "test/images", folder / "test/labels", raw, here / "scores" / part, a.mode)
        print(f"seed {seed}, {count} labelled, {name}: mean DSC {summary.mean_dsc(results[name]):.4f}", flush=True)
    labels = evaluate(run / "round_1/labels", folder / "hidden", raw, here / "pseudo_labels.json")
    agreement = {p.stem: json.loads(p.read_text())["fold_agreement"] for p in (run / "round_1/labels").glob("*.json")}
    return {"models": results, "kept": len(kept), "pseudo_labels": labels, "agreement": agreement}


def main():
    numbers = lambda text: [int(n) for n in text.split(",")]
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seeds", type=numbers, default=[0, 1, 2])
    p.add_argument("--labelled", type=numbers, default=[10, 20])
    p.add_argument("--name", default="default")
    p.add_argument("--epochs", type=int, default=20)
    p.add_argument("--student-epochs", type=int, default=0, help="by default --epochs; also of the supervised network and that of all labels")
    p.add_argument("--iterations", type=int, default=50)
    p.add_argument("--optimizer", default="adamw", choices=["sgd", "adamw"])
    p.add_argument("--rate", type=float, default=0.001)
    p.add_argument("--features", type=numbers, default=[16, 32, 64])
    p.add_argument("--mode", default="fast", choices=["exact", "fast"])
    p.add_argument("--student", default="{}")
    p.add_argument("--selection", default="{}")
    p.add_argument("--more", default="{}")
    p.add_argument("--write", action="store_true")
    a = p.parse_args()
    a.student_epochs = a.student_epochs or a.epochs
    a.out = ROOT / "build/noisy_student" / a.name
    data = Path(os.environ.get("FLARE_DATA") or ROOT.parent / "shared/data").resolve() / "msd_task04_hippocampus"
    if not data.exists():
        raise SystemExit(f"{data} is missing: set FLARE_DATA")
    if max(a.labelled) > POOL or min(a.labelled) < 5:
        raise SystemExit(f"--labelled: 5 to {POOL} cases")
    everything = {count: {seed: experiment(a, data, seed, count) for seed in a.seeds} for count in a.labelled}
    arguments = " ".join(f"'{x}'" if set(x) & set(' {"') else x for x in sys.argv[1:] if x != "--write")
    text = summary.text(everything, a, arguments)
    print(text)
    if a.write:
        summary.write(text, everything, a.name, HERE)


if __name__ == "__main__":
    main()
