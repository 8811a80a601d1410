"""Takes a student into the repository, with its test cases' scores in exact mode. Plain Python.

    python examples/noisy_student/ship.py hippocampus [SEED] [LABELLED]
    python examples/noisy_student/ship.py demo

The first is one of run.py, of build/noisy_student/hippocampus, fine-tuned, and becomes hippocampus.onnx; MODEL_CARD.md
tells of it. The second is that of examples/demo/train/train.py and becomes examples/demo/flare13_phantom.onnx;
phantoms of clinical size that it has not seen score it. The scores go into a .json beside it, and a test of
segment/student makes them again."""
import argparse
import json
import shutil
from statistics import mean

import run
from datasets import DATASETS

CLINICAL = ["--size", "clinical", "--seed", "2", "-n", "32"]


def hippocampus(seed, labelled):
    """The model, folders of test images and labels, a dataset.json's folder, one for scores, and where it goes."""
    folder = run.ROOT / f"build/noisy_student/hippocampus/seed_{seed}"
    here, test = folder / f"labelled_{labelled}", folder / "test"
    return (here / "run/round_1/fine_tuned/model.onnx", test / "images", test / "labels", here / "Dataset001_Hippocampus", here / "scores/shipped",
            run.HERE / "hippocampus.onnx")


def demo():
    """As hippocampus."""
    work = run.ROOT / "build/demo_network"
    clinical = work / "clinical"
    if not (clinical / "dataset.json").exists():  # written last
        run.flare("phantom", clinical, *CLINICAL)
    return work / "final/model.onnx", clinical / "imagesTr", clinical / "labelsTr", clinical, work / "scores", run.ROOT / "examples/demo/flare13_phantom.onnx"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("name", choices=["hippocampus", "demo"])
    p.add_argument("seed", nargs="?", default="0")
    p.add_argument("labelled", nargs="?", default="10")
    a = p.parse_args()
    if a.name == "hippocampus":
        data, (model, images, labels, dataset, out, target) = DATASETS["hippocampus"], hippocampus(a.seed, a.labelled)
    else:
        data, (model, images, labels, dataset, out, target) = DATASETS["phantoms"], demo()
    shutil.rmtree(out, ignore_errors=True)
    r = run.score(model, False, images, labels, dataset, data.tolerance, out, "exact")
    cases = {name: {"dsc": [round(label[0], 4) for label in scores], "nsd": [round(label[1], 4) for label in scores]} for name, scores in sorted(r["cases"].items())}
    lines = ",\n".join(f'  "{name}": {json.dumps(c)}' for name, c in cases.items())
    shutil.copyfile(model, target)
    target.with_suffix(".json").write_text(f'{{"labels": {json.dumps(data.labels)}, "tolerance_mm": {data.tolerance}, "cases": {{\n{lines}\n}}}}\n')
    for i, label in enumerate(data.labels):
        scores = {m: [100 * c[m][i] for c in cases.values()] for m in ("dsc", "nsd")}
        print(f"| {label} | {mean(scores['dsc']):.1f} ({min(scores['dsc']):.1f}) | {mean(scores['nsd']):.1f} ({min(scores['nsd']):.1f}) |")
    print(f"mean DSC {100 * run.summary.mean_dsc(r):.2f}")


if __name__ == "__main__":
    main()
