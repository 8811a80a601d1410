"""Builds the VTK example, draws a synthetic CT without a screen, and checks the picture and that the
organs are those of the command line.

usage: test.py MODEL.onnx   from anywhere, after ./build.sh; needs SimpleITK, VTK for C++ and xvfb-run
"""

import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
import SimpleITK as sitk

root = pathlib.Path(__file__).resolve().parents[2]
model = pathlib.Path(sys.argv[1]).resolve()
build = root / "build" / "test" / "vtk"
flare, organs = root / "build" / "bin" / "flare", build / "organs"


def run(*command: object) -> str:
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{command}:\n{done.stdout}{done.stderr}")
    return done.stdout


def check(ok: bool, what: str) -> None:
    if not ok:
        sys.exit(f"FAIL {what}")
    print(f"ok   {what}")


run("cmake", "-S", root / "examples" / "vtk", "-B", build, f"-DCMAKE_PREFIX_PATH={root / 'build'}", "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror")
run("cmake", "--build", build)
print("ok   builds")
with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder) / "Männlein 模型"  # not ASCII
    run(flare, "phantom", work)
    image, picture, labels = work / "imagesTr" / "phantom_0000_0000.nii.gz", work / "organs.png", work / "labels.nii.gz"
    shown = run("xvfb-run", "-a", organs, model, image, "--save", picture)
    run(flare, "segment", "-m", model, image, labels)
    want = np.bincount(sitk.GetArrayFromImage(sitk.ReadImage(labels)).ravel())[1:]
    got = [int(n) for n in re.findall(r": (\d+) voxels, ", shown)]
    check(len(got) > 5 and got == [n for n in want if n], f"the command line's organs: {', '.join(re.findall('^(.+): ', shown, re.M))}")

    pixels = sitk.GetArrayFromImage(sitk.ReadImage(picture)).astype(int)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    check(pixels.shape[:2] == (720, 900), "the picture's size")
    check(np.count_nonzero(red > 2 * green) > 10000 and np.count_nonzero(blue > 1.5 * red) > 2000, "the liver's red, the blue of stomach and vena cava")

    times, text = work / "times.nii", work / "text.nii.gz"
    sitk.WriteImage(sitk.Image([8, 8, 8, 2], sitk.sitkInt16), times)
    text.write_text("no image")
    for what, arguments, says in (
        ("no model", (work / "none.onnx", image), "none.onnx"),
        ("a damaged model", (text, image), "text.nii.gz"),
        ("no image", (model, work / "none.nii"), "none.nii: not a NIfTI file"),
        ("another format", (model, text), "text.nii.gz: not a NIfTI file"),
        ("4-D", (model, times), "times.nii: several values per voxel"),
    ):
        done = subprocess.run([organs, *arguments, "--save", picture], env={"DISPLAY": ":0"}, stderr=subprocess.PIPE, text=True)
        check(done.returncode == 1 and says in done.stderr, f"{what}: {done.stderr.strip()}")

    alone = subprocess.run([organs, model, image, "--save", picture], env={"PATH": ""}, stderr=subprocess.PIPE, text=True)
    check(alone.returncode == 1 and "xvfb-run" in alone.stderr, "without an X server it tells what to do")
