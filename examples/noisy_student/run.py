"""The noisy student in small: few labelled cases, many whose labels are hidden, and what comes of them.

    python examples/noisy_student/run.py [--data hippocampus|phantoms] [--seeds 0,1,2] [--labelled 10,20]
        [--name NAME] [--epochs N] [--student-epochs N] [--iterations N] [--optimizer adamw]
        [--rate 0.001] [--features 16,32,64] [--mode fast] [--no-mirroring] [--rounds 1]
        [--student JSON] [--selection JSON] [--more JSON] [--write]

needs ./build.sh before and, for hippocampus, the data in $FLARE_DATA or ../shared/data. datasets.py
tells what the cases are and how many. For every seed they are divided at random into test cases, cases
that count as unlabelled, and a pool of those that may be labelled, of which the first --labelled are.
Test cases are looked at in the end alone: neither training nor selection sees them. These are
compared, all of one architecture:

    supervised      one network on the labelled cases, with one pass and with 8 mirror flips; and one
                    that was trained without mirroring, as the noisy student is (longer: then with the
                    steps and the learning rate of the student's fine-tuning, where there is one)
    teacher         5 folds on the labelled cases, 8 flips: 40 passes
    plain student   on labelled and pseudo-labelled cases, trained as the teacher: no noise
    noisy student   strong augmentation, dropout, stochastic depth, no mirroring; one pass
                    (fine-tuned: then on the labelled cases alone, where --more has "fine_tuning")
    second round    a noisy student that a noisy student taught
    all labels      one network on pool and unlabelled cases with their manual labels: the upper bound

--no-mirroring trains all of them without mirroring, and no teacher flips, as is always done with
phantoms, whose sides differ. Then plain and noisy student differ in noise alone, and what the student
gains over the supervised network is the unlabelled cases'.

Everything lies in build/noisy_student/NAME; whatever interrupts it, the same command goes on.
--student, --selection and --more change parts of the config of flare student (the student's
training, the selection, anything else), so that a variant is a NAME with such changes. --write
puts the variant's part into RESULTS.md, and NAME.svg (NAME_10 if of these numbers of labelled cases only
10 were asked for). Plain Python.
"""
import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import summary
from datasets import DATASETS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FLARE = ROOT / "build/bin/flare"


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
        self.test, self.unlabelled, self.pool = data.cases(seed)
        self.images(self.test, folder / "test/images")
        self.labels(self.test, folder / "test/labels")
        self.images(self.unlabelled, folder / "unlabelled")
        self.labels(self.unlabelled, folder / "hidden")  # to see in the end how good the pseudo-labels were
        write(folder / "split.json", {"test": self.test, "unlabelled": self.unlabelled, "pool": self.pool})

    def images(self, names, folder, suffix=""):
        for n in names:
            link(self.data.image(n), folder / f"{n}{suffix}.nii.gz")

    def labels(self, names, folder):
        for n in names:
            link(self.data.label(n), folder / f"{n}.nii.gz")

    def dataset(self, names, name):
        """A raw dataset with the manual labels of some cases."""
        folder = self.folder / name
        self.images(names, folder / "imagesTr", "_0000")
        self.labels(names, folder / "labelsTr")
        write(folder / "dataset.json", self.data.description(len(names)))
        return folder


def train(data, plan, run, settings, train_on, validate_on, mode, mirroring=True, labels="", begin=None):
    """flare train, unless that was done with all of this and these labels (a digest); begin: with this model's weights."""
    asked = {"plan": digest(plan), "settings": settings, "train": sorted(train_on), "mode": mode, "mirroring": mirroring, "labels": labels}
    asked |= {"begin": digest(begin)} if begin else {}
    state, model = run.parent / f"{run.name}_asked.json", run / "model.onnx"
    if not state.exists() or json.loads(state.read_text()) != asked:
        shutil.rmtree(run, ignore_errors=True)
        write(state, asked)
    if not model.exists():
        splits = write(run.parent / f"{run.name}_splits.json", [{"train": sorted(train_on), "val": sorted(validate_on)}])
        flare("train", data, "-o", run, "--resume", "--plans", plan, "--cache", f"{data}_cache", "--splits", splits, "--fold", "0", "--mode", mode,
              "--epochs", settings["epochs"], "--iterations", settings["iterations"], "--validation", settings["validation_iterations"],
              "--seed", settings["seed"], "--optimizer", settings["optimizer"], "--rate", settings["learning_rate"],
              *([] if mirroring else ["--noise", "nomirror"]), *(["--init", begin] if begin else []))
    return model


def digest(*files):
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()


def score(model, mirror, images, labels, dataset, tolerance, out, mode):
    """Segments the test cases in a process of their own and scores them, unless that was done
    with this model."""
    result, identity = out / "result.json", digest(model)
    if result.exists() and (r := json.loads(result.read_text()))["model"] == identity:
        return r
    flare("segment", "-m", model, *(["--mirror"] if mirror else []), "--mode", mode, images, out / "labels", "--stats", out / "stats.json", quiet=True)
    cases = evaluate(out / "labels", labels, dataset, tolerance, out / "scores.json")
    stats = json.loads((out / "stats.json").read_text())["cases"].values()
    seconds = sorted(s["seconds"]["total"] for s in stats)
    r = {"model": identity, "cases": cases, "seconds": seconds[len(seconds) // 2], "memory": max(s["peak_memory_bytes"] for s in stats)}
    write(result, r)
    return r


def evaluate(prediction, reference, dataset, tolerance, out):
    """DSC and NSD of each case and label; 1 where neither has any of it, as in the challenge."""
    flare("evaluate", prediction, reference, "--labels", dataset / "dataset.json", "--tolerance", tolerance, "--json", out, quiet=True)
    return {c["name"]: [[1.0 if l[m] is None else l[m] for m in ("dsc", "nsd")] for l in c["labels"]] for c in json.loads(out.read_text())["cases"]}


def merged(base, change):
    """base with the keys of change, at any depth."""
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    return base | {k: merged(base.get(k), v) for k, v in change.items()}


def experiment(a, seed, count):
    """One seed with so many labelled cases: a result for each model, and how good the
    pseudo-labels were."""
    folder = a.out / f"seed_{seed}"
    data = DATASETS[a.data](a.files, folder, seed, FLARE)
    split = Split(data, seed, folder)
    labelled = split.pool[:count]
    here = folder / f"labelled_{count}"
    raw = split.dataset(labelled, f"labelled_{count}/Dataset001_{data.name}")
    plan = write(a.out / "plans.json", data.plans(a.features))
    settings = {"epochs": a.epochs, "iterations": a.iterations, "validation_iterations": 2, "seed": 1000 * seed,
                "optimizer": a.optimizer, "learning_rate": a.rate}
    noisy = settings | {"epochs": a.student_epochs, "strong": True, "no_mirroring": True, "dropout": 0.1, "stochastic_depth": 0.1}
    config = {"labelled": str(raw), "unlabelled": str(folder / "unlabelled"), "run": str(here / "run"), "mode": a.mode, "rounds": a.rounds,
              "teacher": {"plans": str(plan), "training": settings},
              "selection": json.loads(a.selection), "student": {"training": noisy | json.loads(a.student)},
              "supervised": settings | {"epochs": a.student_epochs}}
    if not a.mirroring:
        config = merged(config, {"teacher": {"training": {"no_mirroring": True}}, "pseudo_labels": {"mirror": False}, "supervised": {"no_mirroring": True}})
    config = merged(config, json.loads(a.more))
    flare("student", write(here / "student.json", config))

    run = here / "run"
    kept = [d["case"] for d in json.loads((run / "round_1/selection.json").read_text()) if d["kept"]]
    as_teacher = settings | {"epochs": a.student_epochs}
    labels = digest(*sorted((run / "round_1/labels").glob("*.nii.gz")))
    plain = train(run / "round_1/cache", plan, here / "plain_student", as_teacher, labelled + kept, labelled, a.mode, mirroring=a.mirroring, labels=labels)
    everything = split.dataset(split.pool + split.unlabelled, f"all/Dataset002_{data.name}")
    upper = train(everything, plan, folder / "all/run", as_teacher, split.pool + split.unlabelled, split.pool, a.mode, mirroring=a.mirroring)

    students = [("noisy student", "student")]
    if (run / "round_1/fine_tuned/model.onnx").exists():
        students.append(("noisy student, fine-tuned", "fine_tuned"))
    models = [("supervised", run / "supervised/model.onnx", False)]
    if a.mirroring:
        models += [("supervised, 8 flips", models[0][1], True),
                   ("supervised without mirroring", train(raw, plan, here / "unmirrored", as_teacher, labelled, labelled, a.mode, mirroring=False), False)]
    if tuning := config.get("fine_tuning"):
        name, before, _ = models[-1]
        models.append((f"{name}, longer", train(raw, plan, here / "longer", as_teacher | tuning, labelled, labelled, a.mode, mirroring=False, begin=before), False))
    models += [(f"teacher, 5 folds{' x 8 flips' if a.mirroring else ''}", run / "teacher/teacher.onnx", a.mirroring), ("plain student", plain, False)]
    models += [(name, run / f"round_1/{part}/model.onnx", False) for name, part in students]
    if a.rounds > 1:
        models += [(f"second round{name.removeprefix('noisy student')}", run / f"round_2/{part}/model.onnx", False) for name, part in students]
    models += [("all labels", upper, False)] + ([("all labels, 8 flips", upper, True)] if a.mirroring else [])
    results = {}
    for name, model, mirror in models:
        part = "".join(c if c.isalnum() else "_" for c in name)
        results[name] = score(model, mirror, folder / "test/images", folder / "test/labels", raw, data.tolerance, here / "scores" / part, a.mode)
        print(f"seed {seed}, {count} labelled, {name}: mean DSC {summary.mean_dsc(results[name]):.4f}", flush=True)
    pseudo_labels = evaluate(run / "round_1/labels", folder / "hidden", raw, data.tolerance, here / "pseudo_labels.json")
    agreement = {p.stem: json.loads(p.read_text())["fold_agreement"] for p in (run / "round_1/labels").glob("*.json")}
    return {"models": results, "kept": len(kept), "pseudo_labels": pseudo_labels, "agreement": agreement}


def main():
    numbers = lambda text: [int(n) for n in text.split(",")]
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", choices=DATASETS, default="hippocampus")
    p.add_argument("--seeds", type=numbers, default=[0, 1, 2])
    p.add_argument("--labelled", type=numbers)
    p.add_argument("--name", default="")
    p.add_argument("--epochs", type=int, default=20)
    p.add_argument("--student-epochs", type=int, default=0, help="by default --epochs; also of the supervised network and that of all labels")
    p.add_argument("--iterations", type=int, default=50)
    p.add_argument("--optimizer", default="adamw", choices=["sgd", "adamw"])
    p.add_argument("--rate", type=float, default=0.001)
    p.add_argument("--features", type=numbers)
    p.add_argument("--mode", default="fast", choices=["exact", "fast"])
    p.add_argument("--no-mirroring", action="store_true", help="of any network")
    p.add_argument("--rounds", type=int, choices=[1, 2], default=2)
    p.add_argument("--student", default="{}")
    p.add_argument("--selection", default="{}")
    p.add_argument("--more", default="{}")
    p.add_argument("--write", action="store_true")
    a = p.parse_args()
    a.student_epochs = a.student_epochs or a.epochs
    data = DATASETS[a.data]
    a.mirroring = data.mirroring and not a.no_mirroring
    a.name = a.name or a.data + ("_unmirrored" if data.mirroring > a.mirroring else "")
    a.features, a.labelled = a.features or data.features, a.labelled or data.labelled
    a.out = ROOT / "build/noisy_student" / a.name
    a.files = Path(os.environ.get("FLARE_DATA") or ROOT.parent / "shared/data").resolve()
    if max(a.labelled) > data.pool or min(a.labelled) < 5:
        raise SystemExit(f"--labelled: 5 to {data.pool} cases")
    everything = {count: {seed: experiment(a, seed, count) for seed in a.seeds} for count in a.labelled}
    arguments = " ".join(f"'{x}'" if set(x) & set(' {"') else x for x in sys.argv[1:] if x != "--write")
    text = summary.text(everything, a, data, arguments)
    print(text)
    if a.write:
        summary.write(text, everything, data, a.name + "".join(f"_{n}" for n in a.labelled if a.labelled != data.labelled), HERE)


if __name__ == "__main__":
    main()
