"""Takes a student of run.py into the repository, with its test cases' scores in exact mode. Plain Python.

    python examples/noisy_student/ship.py hippocampus [SEED] [LABELLED]
    python examples/noisy_student/ship.py phantoms [SEED] [LABELLED]

of build/noisy_student/NAME. The one of hippocampus becomes hippocampus.onnx and .json, of which
MODEL_CARD.md tells; a test of segment/student makes the scores again. That of phantoms is for the
demo, in place of examples/demo/flare13_phantom.onnx, with a .json beside it; the phantoms that score
it are of clinical size, and other patients than run.py's."""
import argparse
import json
import shutil
from statistics import mean

import run
from datasets import DATASETS

CLINICAL = ["--size", "clinical", "--seed", "2"]  # patients 0 to 7


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("name", choices=DATASETS)
    p.add_argument("seed", nargs="?", default="0")
    p.add_argument("labelled", nargs="?", default="10")
    a = p.parse_args()
    data, folder = DATASETS[a.name], run.ROOT / f"build/noisy_student/{a.name}/seed_{a.seed}"
    here, test = folder / f"labelled_{a.labelled}", folder / "test"
    target = {"hippocampus": run.HERE / "hippocampus.onnx", "phantoms": run.ROOT / "examples/demo/flare13_phantom.onnx"}[a.name]
    images, labels = test / "images", test / "labels"
    if a.name == "phantoms":
        clinical = folder / "clinical"
        if not (clinical / "dataset.json").exists():
            run.flare("phantom", clinical, "-n", "8", *CLINICAL)
        images, labels = clinical / "imagesTr", clinical / "labelsTr"
    out = here / "scores/shipped"
    shutil.rmtree(out, ignore_errors=True)
    model = here / "run/round_1/student/model.onnx"
    r = run.score(model, False, images, labels, here / f"Dataset001_{data.name}", data.tolerance, out, "exact")
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
