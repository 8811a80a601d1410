"""Trains the demonstration network as `flare student` does it: two folds learn from phantoms with labels and
label others; a student learns from both, under noise, and last from the labelled alone. Settings: student.json, plans.json.
All these patches are centred on organs; a last training on the labelled has patches from anywhere, as
otherwise the network finds organs where it has never looked: far below and above them.

    python examples/demo/train/train.py [WORK]

needs ./build.sh before. WORK is build/demo_network by default; the network is then WORK/final/model.onnx.
About 13 minutes on an H200 (a runtime with CUDA: ./build.sh --cuda), about 4 hours on two cores with bf16; whatever interrupts
the command, the same one goes on. Plain Python.
"""
import argparse
import json
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
LABELLED, UNLABELLED = 100, 200


def flare(*arguments, **options):
    subprocess.run([str(ROOT / "build/bin/flare"), *map(str, arguments)], check=True, **options)


def phantoms(work):
    """Makes patients once and divides them: WORK/labelled, a raw dataset, and WORK/unlabelled, images."""
    if (work / "unlabelled").exists():
        return
    made, half = work / "phantoms", work / "unlabelled.half"
    for folder in (made, work / "labelled", half):
        shutil.rmtree(folder, ignore_errors=True)
    flare("phantom", made, "-n", LABELLED + UNLABELLED, "--seed", 1, "--size", "small", stderr=subprocess.DEVNULL)
    names = sorted(p.name.removesuffix(".nii.gz") for p in (made / "labelsTr").glob("*.nii.gz"))
    for folder in (work / "labelled/imagesTr", work / "labelled/labelsTr", half):
        folder.mkdir(parents=True)
    for n in names[:LABELLED]:
        for file in (f"imagesTr/{n}_0000.nii.gz", f"labelsTr/{n}.nii.gz"):
            (made / file).rename(work / "labelled" / file)
    for n in names[LABELLED:]:
        (made / f"imagesTr/{n}_0000.nii.gz").rename(half / f"{n.replace('phantom_', 'patient-')}.nii.gz")  # _0001 would be a channel
    description = json.loads((made / "dataset.json").read_text())
    (work / "labelled/dataset.json").write_text(json.dumps(description | {"numTraining": LABELLED}))
    half.rename(work / "unlabelled")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("work", type=Path, nargs="?", default=ROOT / "build/demo_network")
    work = p.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    phantoms(work)
    config = json.loads((HERE / "student.json").read_text()) | {"labelled": "labelled", "unlabelled": "unlabelled", "run": "run"}
    config["teacher"]["plans"] = str(HERE / "plans.json")
    (work / "student.json").write_text(json.dumps(config, indent=2))
    flare("student", work / "student.json")
    # A batch of 1 is by nnU-Net's rule never centred on foreground.
    flare("train", work / "labelled", "-o", work / "final", "--resume", "--init", work / "run/student.onnx", "--plans", HERE / "plans.json",
          "--cache", work / "cache", "--fold", "all", "--mode", "fast", "--epochs", 20, "--iterations", 50, "--validation", 2,
          "--optimizer", "adamw", "--rate", 0.001, "--noise", "nomirror")


if __name__ == "__main__":
    main()
