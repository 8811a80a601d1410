"""Runs finetune.py on a synthetic patient with a fatty liver, which the demonstration network has
never seen, and checks that 50 steps make it find more of that liver, here and in a second patient.

usage: test.py MODEL.onnx   from the repository's root, after ./build.sh
"""

import pathlib
import re
import subprocess
import sys

import SimpleITK as sitk

import flare

root = pathlib.Path(__file__).resolve().parents[2]
work = root / "build" / "test" / "finetune"
LIVER = 1

subprocess.run([root / "build" / "bin" / "flare", "phantom", work, "-n", "2", "--seed", "7", "--size", "small"], check=True)
files = []
for i in range(2):
    image = sitk.ReadImage(work / "imagesTr" / f"phantom_{i:04d}_0000.nii.gz")
    labels = work / "labelsTr" / f"phantom_{i:04d}.nii.gz"
    fatty = image - 120 * sitk.Cast(sitk.ReadImage(labels) == LIVER, image.GetPixelID())  # in HU
    files.append((work / f"fatty_{i}.nii.gz", labels))
    sitk.WriteImage(fatty, files[-1][0])


def liver_dice(model: flare.Model, image: pathlib.Path, labels: pathlib.Path) -> float:
    out = work / "labels.nii.gz"
    model.segment_file(image, out)
    found, truth = (sitk.GetArrayFromImage(sitk.ReadImage(path)) == LIVER for path in (out, labels))
    return 2 * float((found & truth).sum()) / float(found.sum() + truth.sum())


better = work / "better.onnx"
done = subprocess.run(
    [sys.executable, root / "examples" / "finetune" / "finetune.py", sys.argv[1], *files[0], better],
    check=True, stdout=subprocess.PIPE, text=True,
)
print(done.stdout, end="")
rows = {name.strip(): (float(old), float(new)) for name, old, new in re.findall(r"^(.{24})  +([\d.]+)  +([\d.]+)$", done.stdout, re.M)}
old, new = rows.pop("liver")
if not (old < 0.7 and new > 0.8):
    sys.exit(f"the liver's Dice was {old} and is {new}, expected less than 0.7 and more than 0.8")
if not sum(new for _, new in rows.values()) > 0.9 * sum(old for old, _ in rows.values()):
    sys.exit("the other organs were forgotten")
with flare.Model(sys.argv[1]) as before, flare.Model(better) as after:
    old, new = (liver_dice(model, *files[1]) for model in (before, after))
print(f"the second patient's liver: {old:.3f}, {new:.3f}")
if not new > old + 0.03:
    sys.exit("the second patient's liver did not improve")
