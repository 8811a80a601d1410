"""What the extension costs Slicer: python measure.py MODEL CLI

On a synthetic CT of 512 x 512 x 168 voxels, with a model that is open already: seconds over the C
call, whether anything was copied, the longest time in which the main thread answered nothing, the
time that Cancel takes, and what the views take to show the result. Needs what the tests need;
README.md has the record.
"""

import ctypes
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "Flare"))
from Testing import Utils  # noqa: E402  first: it makes a scene

import slicer  # noqa: E402
import views  # noqa: E402
import vtk  # noqa: E402
from flare import _abi  # noqa: E402
from FlareLib import Library  # noqa: E402
from vtk.util.numpy_support import vtk_to_numpy  # noqa: E402

RUNS = 3


class Call:
    """Stands before flare_segment and notes how long it ran, and on what memory."""

    def __init__(self):
        library = _abi.library()
        self.c = library.flare_segment
        library.flare_segment = self

    def __call__(self, labels, dtype, size, handle, volume, options):
        self.voxels, self.labels = (
            ctypes.cast(volume, ctypes.POINTER(_abi.Volume)).contents.data,
            labels,
        )
        start = time.perf_counter()
        status = self.c(labels, dtype, size, handle, volume, options)
        self.seconds = time.perf_counter() - start
        return status


def beat(condition):
    """The main thread: events, then a millisecond of sleep, until something is true. Gives the
    longest time between two beats."""
    longest, last = 0.0, time.perf_counter()
    while not condition():
        Utils.qt.processEvents()
        time.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest


def timed(function):
    start = time.perf_counter()
    value = function()
    return time.perf_counter() - start, value


def segment(volume, **parameter):
    """A run from Apply on: seconds, the longest silence, the segmentation."""
    run = Utils.Run()
    start = time.perf_counter()
    applied, _ = timed(lambda: run.start(volume, **parameter))
    silence = max(applied, beat(lambda: run.ended))
    assert run.ended == "finished", run.error
    return time.perf_counter() - start, silence, run.node


def address(data):
    return vtk_to_numpy(data.GetPointData().GetScalars()).ctypes.data


def ct(cli):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([cli, "phantom", "--size", "clinical", folder], check=True)
        whole = Utils.load(Path(folder) / "imagesTr" / "phantom_0000_0000.nii.gz")
    matrix = vtk.vtkMatrix4x4()
    whole.GetIJKToRASMatrix(matrix)
    volume = Utils.volume(
        slicer.util.arrayFromVolume(whole)[:168], slicer.util.arrayFromVTKMatrix(matrix)
    )
    slicer.mrmlScene.RemoveNode(whole)
    views.show(volume)
    return volume


def main(model, cli):
    volume = ct(cli)
    slices = [
        views.SliceView(volume, orientation) for orientation in ("Axial", "Coronal", "Sagittal")
    ]
    total, silence, made = segment(volume, modelPath=model)  # loads libflare, opens the model
    print(f"first run: {total:.3f} s; main thread silent for at most {1000 * silence:.0f} ms")
    slicer.mrmlScene.RemoveNode(made)
    call = Call()
    for i in range(RUNS):
        total, silence, made = segment(volume, modelPath=model)
        image = made.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
        drawn = [timed(view.render)[0] for view in slices]
        print(
            f"run {i + 1}: C call {call.seconds:.3f} s, over it {total - call.seconds:.3f} s; "
            f"main thread silent for at most {1000 * silence:.0f} ms; "
            f"C read Slicer's voxels: {call.voxels == address(volume.GetImageData())}, "
            f"wrote the segmentation's: {call.labels == address(image)}; "
            f"a slice view drew it in {1000 * max(drawn):.0f} ms"
        )
        if i < RUNS - 1:
            slicer.mrmlScene.RemoveNode(made)
    with Library.model(model, "auto", "exact") as opened:
        stats = opened.stats
    print(
        f"a tile took {stats['seconds']['network'] / stats['tiles']:.3f} s ({stats['tiles']} of them, {stats['device']})"
    )
    for i in range(RUNS):
        run = Utils.Run().start(volume, modelPath=model)
        beat(lambda run=run: any(text == "Running the network" for _, text in run.progress))
        time.sleep(0.1 * i)
        start = time.perf_counter()
        run.logic.stopSegmentation()
        beat(lambda run=run: run.ended)
        assert run.ended == "cancelled", run.ended
        print(f"cancel {i + 1}: ended after {time.perf_counter() - start:.3f} s")
    total, silence, _ = segment(volume, modelPath=model, separateProcess=True)
    print(
        f"in a separate process {total:.3f} s with opening the model; silent for at most {1000 * silence:.0f} ms"
    )
    print(f'Slicer\'s own "Show 3D" takes {timed(made.CreateClosedSurfaceRepresentation)[0]:.1f} s')


if __name__ == "__main__":
    main(*sys.argv[1:])
