"""Takes a student of run.py into the repository: hippocampus.onnx, and hippocampus.json with the
names of its test cases and their scores in exact mode, which segment/student's tests make again.

    python examples/noisy_student/ship.py [SEED] [LABELLED]

of build/noisy_student/hippocampus. MODEL_CARD.md tells of it. Plain Python."""
import json
import shutil
import sys
from statistics import mean

import run


def main():
    seed, count = (sys.argv[1:] + ["0", "10"][len(sys.argv) - 1:])[:2]
    folder = run.ROOT / f"build/noisy_student/hippocampus/seed_{seed}"
    here, model = folder / f"labelled_{count}", run.HERE / "hippocampus.onnx"
    shutil.copyfile(here / "run/round_1/student/model.onnx", model)
    out = here / "scores/shipped"
    shutil.rmtree(out, ignore_errors=True)
    r = run.score(model, False, folder / "test/images", folder / "test/labels", here / "Dataset001_Hippocampus", 1.0, out, "exact")
    cases = {name: {"dsc": [round(label[0], 4) for label in scores], "nsd": [round(label[1], 4) for label in scores]}
             for name, scores in sorted(r["cases"].items())}
    lines = ",\n".join(f'  "{name}": {json.dumps(c)}' for name, c in cases.items())
    (run.HERE / "hippocampus.json").write_text('{"labels": ["anterior", "posterior"], "tolerance_mm": 1.0, "cases": {\n' + lines + "\n}}\n")
    for metric in "dsc", "nsd":
        print(metric, *[f"{100 * mean(c[metric][i] for c in cases.values()):.2f}" for i in (0, 1)])


if __name__ == "__main__":
    main()
