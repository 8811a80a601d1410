"""What the extension costs Slicer: python measure.py MODEL CLI

On a synthetic CT of 512 x 512 x 168 voxels, with a model that is open already: seconds over the C
call, whether anything was copied, the longest time in which the main thread answered nothing, and
the time that Cancel takes. Needs what the tests need; README.md has the record.
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
import vtk  # noqa: E402
from flare import _abi  # noqa: E402
from FlareLib import Library  # noqa: E402
from vtk.util.numpy_support import vtk_to_numpy  # noqa: E402

RUNS = 3


class Heart:
    """Beats on the main thread: events, then a millisecond of sleep. Remembers the longest time
    between two beats and the longest that the module's own timer took."""

    def __init__(self, run):
        self.run, self.longest, self.tick = run, 0.0, 0.0
        plain = run.logic.tick

        def timed():
            start = time.perf_counter()
            plain()
            self.tick = max(self.tick, time.perf_counter() - start)

        run.logic._timer.function = timed

    def beat(self, condition):
        last = time.perf_counter()
        while not condition():
            Utils.qt.processEvents()
            time.sleep(0.001)
            now = time.perf_counter()
            self.longest, last = max(self.longest, now - last), now


class Call:
    """Stands before flare_segment and notes when it ran, and on what memory."""

    def __init__(self):
        library = _abi.library()
        self.c = library.flare_segment
        library.flare_segment = self

    def __call__(self, labels, dtype, size, handle, volume, options):
        self.voxels, self.labels = ctypes.cast(volume, ctypes.POINTER(_abi.Volume)).contents.data, labels
        start = time.perf_counter()
        status = self.c(labels, dtype, size, handle, volume, options)
        self.seconds = time.perf_counter() - start
        return status


def address(array):
    return vtk_to_numpy(array).ctypes.data


def one(node, call, **parameter):
    """A run: seconds, heart, node."""
    run = Utils.Run()
    heart = Heart(run)
    start = time.perf_counter()
    run.start(node, **parameter)
    begun = time.perf_counter() - start
    heart.beat(lambda: run.ended)
    assert run.ended == "finished", run.error
    return time.perf_counter() - start, begun, heart, run.node


def main(model, cli):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([cli, "phantom", "--size", "clinical", folder], check=True)
        whole = Utils.load(Path(folder) / "imagesTr" / "phantom_0000_0000.nii.gz")
    matrix = vtk.vtkMatrix4x4()
    whole.GetIJKToRASMatrix(matrix)
    voxels = slicer.util.arrayFromVolume(whole)[:168].copy()
    node = Utils.volume(voxels, slicer.util.arrayFromVTKMatrix(matrix))
    slicer.mrmlScene.RemoveNode(whole)
    print(f"{' x '.join(map(str, voxels.shape[::-1]))} voxels, {voxels.dtype}")
    with Library.model(model, "auto", "exact"):
        call = Call()
    one(node, call, modelPath=model)  # warms memory and caches
    for i in range(RUNS):
        total, begun, heart, made = one(node, call, modelPath=model)
        image = made.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
        same = (
            call.voxels == address(node.GetImageData().GetPointData().GetScalars()),
            call.labels == address(image.GetPointData().GetScalars()),
        )
        print(
            f"run {i + 1}: C call {call.seconds:.3f} s, over it {total - call.seconds:.3f} s; Apply returned after "
            f"{1000 * begun:.1f} ms; main thread silent at most {1000 * heart.longest:.0f} ms, of which the module's "
            f"timer at most {1000 * heart.tick:.1f} ms; C read Slicer's voxels: {same[0]}, wrote the segmentation's: {same[1]}"
        )
        slicer.mrmlScene.RemoveNode(made)
    with Library.model(model, "auto", "exact") as opened:
        stats = opened.stats
    print(f"a tile took {stats['seconds']['network'] / stats['tiles']:.3f} s ({stats['tiles']} of them, {stats['device']})")
    for i in range(RUNS):
        run = Utils.Run()
        heart = Heart(run)
        run.start(node, modelPath=model)
        heart.beat(lambda: any(text == "Running the network" for _, text in run.progress))
        time.sleep(0.1 * i)
        start = time.perf_counter()
        run.logic.stopSegmentation()
        heart.beat(lambda: run.ended)
        assert run.ended == "cancelled", run.ended
        print(f"cancel {i + 1}: ended after {time.perf_counter() - start:.3f} s")
    total, _, heart, _ = one(node, call, modelPath=model, separateProcess=True)
    print(f"in a separate process: {total:.3f} s with opening the model; main thread silent at most {1000 * heart.longest:.0f} ms")


if __name__ == "__main__":
    main(*sys.argv[1:])
