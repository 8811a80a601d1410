"""Builds the ITK example and checks it: labels are those of the command line, voxel by voxel, with the
image's geometry, for files and DICOM series; what is no volume is refused, and says why.

usage: test.py MODEL.onnx   from anywhere, after ./build.sh; needs SimpleITK, and ITK for C++
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import numpy as np
import SimpleITK as sitk

root = pathlib.Path(__file__).resolve().parents[2]
data = pathlib.Path(os.environ.get("FLARE_DATA", root.parent / "shared" / "data"))
model = pathlib.Path(sys.argv[1]).resolve()
build = root / "build" / "test" / "itk"
flare, program, library = root / "build" / "bin" / "flare", build / "segment_itk", root / "build" / "lib" / "libflare.so.1"


def quietly(*command: object) -> None:
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"{command}:\n{done.stdout}")


def check(ok: bool, what: str) -> None:
    if not ok:
        sys.exit(f"FAIL {what}")
    print(f"ok   {what}")


def refused(what: str, expected: str, *arguments: object, env: dict[str, str] | None = None, user: list[str] | None = None) -> None:
    """The program fails, says what was expected, and leaves no file."""
    command = [*(user or []), str(program), *map(str, arguments)]
    done = subprocess.run(command, stderr=subprocess.PIPE, env={**os.environ, **(env or {})}, text=True)
    if done.returncode != 1 or expected not in done.stderr:
        sys.exit(f"FAIL {what}: exit code {done.returncode}, expected {expected!r} in\n{done.stderr}")
    check(len(arguments) < 3 or not pathlib.Path(arguments[2]).is_file(), what)


def same_as_command_line(what: str, source: pathlib.Path, image: pathlib.Path, out: pathlib.Path) -> None:
    """source: for the example; image: the same as a file for the command line."""
    want_file = work / "want.nii.gz"
    quietly(program, model, source, out)
    quietly(flare, "segment", "-m", model, image, want_file)
    got, original = sitk.ReadImage(out), sitk.ReadImage(image)
    labels = sitk.GetArrayFromImage(got)
    check(np.array_equal(labels, sitk.GetArrayFromImage(sitk.ReadImage(want_file))), f"{what}: the command line's labels ({np.count_nonzero(labels)} voxels)")
    check(
        got.GetPixelID() == sitk.sitkUInt8
        and got.GetSize() == original.GetSize()
        and all(
            np.allclose(getattr(got, get)(), getattr(original, get)(), rtol=0, atol=1e-5) # NIfTI holds 32-bit floats
            for get in ("GetSpacing", "GetOrigin", "GetDirection")
        ),
        f"{what}: the image's geometry",
    )


def test_images() -> None:
    quietly(flare, "phantom", work, "--seed", "3")
    phantom = sitk.ReadImage(work / "imagesTr" / "phantom_0000_0000.nii.gz")
    phantom = phantom[10:100, 10:90, 20:90]  # one tile
    for key in phantom.GetMetaDataKeys():
        phantom.EraseMetaData(key)  # NIfTI's own, which MetaImage does not hold
    c, s = np.cos(0.4), np.sin(0.4)
    phantom.SetDirection((1, 0, 0, 0, c, -s, 0, s, c))
    phantom.SetOrigin((-100.5, 20.25, 300))
    tilted = work / "Männlein 模型.mha"  # not ASCII
    sitk.WriteImage(phantom, tilted)
    same_as_command_line("a turned phantom", tilted, tilted, work / "Märchen.nrrd")
    floats = work / "floats.nii"
    sitk.WriteImage(sitk.Cast(phantom, sitk.sitkFloat32), floats)
    same_as_command_line("an image of floats", floats, floats, work / "floats_labels.mhd")
    ct = data / "ct_totalsegmentator" / "example_ct.nii.gz"
    if present(ct):
        same_as_command_line("a CT", ct, ct, work / "ct_labels.nii.gz")


def test_dicom() -> None:
    for folder in (data / "ct_dicom_jpeg2000", data / "io_corner_cases" / "dcmqi" / "ct-3slice"):
        if present(folder):
            image = work / f"{folder.name}.nii.gz"
            sitk.WriteImage(sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))), image)
            same_as_command_line(f"DICOM in {folder.name}", folder, image, work / f"{folder.name}.mha")
    cases = data / "io_corner_cases" / "dicom2nifti"
    if present(cases):
        out = work / "refused.nrrd"
        refused("a tilted gantry", "must be at right angles", model, cases / "gantrytilting" / "001", out)
        refused("slices at one place", "lie at one place", model, cases / "notavolume" / "001", out)
        refused("slices of a series are missing", "slices are missing", model, cases / "sliceincrement" / "001", out)
        both = work / "two series"
        both.mkdir()
        for name in ("gantrytilting", "notavolume"):
            for file in (cases / name / "001").iterdir():
                shutil.copy(file, both / f"{name}_{file.name}")
        refused("two series", "several DICOM series; name one", model, both, out)
        refused("a series that is not there", "no DICOM series 1.2.3\n", model, both, out, "1.2.3")


def test_bad_input() -> None:
    image, out = work / "imagesTr" / "phantom_0000_0000.nii.gz", work / "refused.nrrd"
    slices, times, colours, text = work / "flat.png", work / "times.nii.gz", work / "colours.mha", work / "text.nii.gz"
    sitk.WriteImage(sitk.Image(30, 20, sitk.sitkUInt8), slices)
    sitk.WriteImage(sitk.Image([8, 8, 8, 2], sitk.sitkInt16), times)
    sitk.WriteImage(sitk.Image([8, 8, 8], sitk.sitkVectorUInt8, 3), colours)
    text.write_text("no image")
    empty = work / "empty"
    empty.mkdir()
    refused("2-D", "an image of 30 x 20 voxels, expected three dimensions", model, slices, out)
    refused("4-D", "an image of 8 x 8 x 8 x 2 voxels, expected three dimensions", model, times, out)
    refused("RGB", "3 values per voxel (", model, colours, out)
    refused("no image", "text.nii.gz: not an image that ITK knows", model, text, out)
    refused("an empty folder", "no DICOM series in this folder", model, empty, out)
    refused("no input", "none.nii.gz: no such file or folder", model, work / "none.nii.gz", out)
    refused("no model", "none.onnx", work / "none.onnx", image, out)
    refused("a damaged model", "text.nii.gz", text, image, out)
    refused("an unknown ending", "ITK writes no images with this ending", model, image, work / "out.xyz")
    refused("no such folder", "No such file or directory", model, image, work / "none" / "out.nrrd")
    locked = work / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    work.chmod(0o755)
    user = ["setpriv", "--reuid=65534", "--clear-groups"] if os.getuid() == 0 else []
    if not user or os.access(root, os.X_OK) and shutil.which("setpriv"):
        refused("a read-only folder", "cannot be written: Permission denied", model, image, locked / "out.nrrd", user=user)


def test_runtime() -> None:
    """libflare without ONNX Runtime beside it, and with one that is too old."""
    image, out, alone = work / "imagesTr" / "phantom_0000_0000.nii.gz", work / "refused.nrrd", work / "alone"
    alone.mkdir()
    shutil.copy(library, alone)
    env = {"LD_PRELOAD": str(alone / library.name), "FLARE_ONNXRUNTIME": str(work / "nowhere")}
    refused("ONNX Runtime is missing", f"libonnxruntime.so*) not found; looked in:\n  {alone}/flare-runtime-cuda\n", model, image, out, env=env)
    refused("where it was looked for", str(work / "nowhere"), model, image, out, env=env)
    (alone / "old.c").write_text(
        "static const void *api(unsigned v) { return v > 10 ? 0 : api; }\n"
        'static const char *version(void) { return "1.10.0"; }\n'
        "struct base { const void *(*api)(unsigned); const char *(*version)(void); };\n"
        "const struct base *OrtGetApiBase(void) { static const struct base b = {api, version}; return &b; }\n"
    )
    quietly("cc", "-shared", "-fPIC", "-o", alone / "libonnxruntime.so.1.10.0", alone / "old.c")
    refused("ONNX Runtime is too old", "version 1.24 or later is needed", model, image, out, env=env)


def test_interrupt() -> None:
    image, out = work / "large.mha", work / "interrupted.nrrd"
    large = sitk.Image([200, 200, 200], sitk.sitkUInt8)
    large.SetSpacing((4, 4, 4))  # mm: more tiles than will run
    sitk.WriteImage(large, image)
    running = subprocess.Popen([program, model, image, out], stderr=subprocess.PIPE, text=True)
    text = ""
    assert running.stderr
    while "network" not in text:
        text += running.stderr.read(1)
    running.send_signal(signal.SIGINT)
    text += running.stderr.read()
    check(running.wait() == 1 and "FLARE_ERR_CANCELLED" in text and not out.exists(), "Ctrl-C cancels")


def present(path: pathlib.Path) -> bool:
    if not path.exists():
        if os.environ.get("FLARE_REQUIRE_DATA") == "1":
            sys.exit(f"{path} does not exist")
        print(f"left out: {path} does not exist")
    return path.exists()


quietly("cmake", "-S", root / "examples" / "itk", "-B", build, f"-DCMAKE_PREFIX_PATH={root / 'build'}", "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror")
quietly("cmake", "--build", build, "--parallel", "2")
print("ok   builds")
with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    quietly(build / "view_test", model)
    print("ok   flare_itk.hpp")
    test_images()
    test_dicom()
    test_bad_input()
    test_runtime()
    test_interrupt()
