"""What the Python binding adds to the C call, in seconds and memory: the same CT and network in a
process of its own for each way to call. The network's time varies by more than what is looked for,
so that the library's own count of a call's seconds is taken off the time of the same call."""
import json
import os
import subprocess
import sys
import time
from statistics import median

import measure
import report

WAYS = {
    "c": "flare_segment on buffers of the caller",
    "array": "Model.segment, a numpy array",
    "SimpleITK": "Model.segment, a SimpleITK image",
}


def child(way, model, path):
    """In a process of its own: one call; prints its numbers."""
    import ctypes

    import numpy as np
    import volumes

    import flare
    from flare import _abi, _arrays

    ct = volumes.Volume(path)
    assert ct.kind == 4, f"{path} does not hold int16"
    voxels = np.frombuffer(ct.data, np.int16).reshape(ct.size[::-1])
    if way == "SimpleITK":
        import SimpleITK

        image = SimpleITK.GetImageFromArray(voxels)
        image.SetSpacing([float(v) for v in ct.spacing])
        del ct, voxels
    with flare.Model(model) as opened:
        if way == "c":
            labels = np.empty(voxels.shape, np.uint8)
            volume = _arrays.volume(voxels, ct.spacing, (0, 0, 0), _arrays.IDENTITY)
            options = _abi.SegmentOptions()
            start = time.perf_counter()
            _abi.check(opened._library.flare_segment(labels.ctypes.data, _abi.UINT8, labels.nbytes, opened._handle, ctypes.byref(volume), ctypes.byref(options)))
        elif way == "array":
            start = time.perf_counter()
            opened.segment(voxels, ct.spacing)
        else:
            start = time.perf_counter()
            opened.segment(image)
        wall = time.perf_counter() - start
        with open("/proc/self/status") as status:
            peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
        print(json.dumps({"wall": wall, "library": opened.stats["seconds"]["total"], "peak": peak}))


def main(a, b):
    """a: the options, b: module bench. Returns the exit code."""
    where = b.circumstances()
    print(where + "\n", flush=True)
    model, folder = b.ROOT / "examples/demo/flare13_phantom.onnx", b.OUT / "clinical"
    ct = a.ct or b.data() / "nnunet_golden/ct_512x512x168.nii.gz"
    if not ct.exists():
        ct = folder / "imagesTr/phantom_0000_0000.nii.gz"
        measure.run([b.FLARE, "phantom", "--size", "clinical", folder])
    ways = [w for w in WAYS if w != "SimpleITK" or subprocess.run([sys.executable, "-c", "import SimpleITK"], capture_output=True).returncode == 0]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(b.ROOT / "bindings/python"), str(b.HERE)])}
    found = {w: [] for w in ways}
    for turn in range(a.runs):
        for way in ways if turn % 2 == 0 else reversed(ways):
            r = subprocess.run([sys.executable, __file__, way, model, ct], env=env, capture_output=True, text=True)
            if r.returncode:
                raise measure.Failed(r.stderr)
            found[way].append(json.loads(r.stdout))
            print(f"  {WAYS[way]}, run {turn + 1} of {a.runs}: {found[way][-1]['wall']:.2f} s", flush=True)
    rows = [
        [WAYS[way], report.spread([r["wall"] for r in runs]), report.spread([1000 * (r["wall"] - r["library"]) for r in runs], 1, " ms"), report.gigabytes(median(r["peak"] for r in runs))]
        for way, runs in found.items()
    ]
    text = report.table(["CT in memory, 13 organs of a phantom", "seconds of the call", "beyond the library's own count", "peak memory"], rows)
    print("\n" + text)
    if a.write:
        report.write("binding", "What the Python binding adds to the C call", where + "\n\n" + text, b.HERE / "RESULTS.md")
    return 0


if __name__ == "__main__":
    child(*sys.argv[1:])
