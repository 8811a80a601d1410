"""Segments a small CT again and again through the Python binding, in memory and from file in
turn, and fails if the process's memory still grows after the tenth time.

    PYTHONPATH=bindings/python python soak.py [-n 200] MODEL CT.nii.gz

The library is found as module flare finds it (FLARE_LIBRARY). Linux: memory is that of
/proc/self/statm.
"""
import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy

import flare
import volumes


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def voxels(path):
    v = volumes.Volume(path)
    kind = {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 256: "i1", 512: "<u2"}[v.kind]
    return numpy.frombuffer(v.data, kind).reshape(v.size[::-1]), v.spacing


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("ct")
    parser.add_argument("-n", type=int, default=200)
    a = parser.parse_args()
    if a.n <= 10:
        parser.error("-n must be above 10: the memory after the tenth is what later ones are held against")
    ct, spacing = voxels(a.ct)
    sizes, begin = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, flare.Model(a.model) as model:
        for i in range(a.n):
            if i % 2:
                model.segment_file(a.ct, Path(folder) / "labels.nii.gz")
            else:
                model.segment(ct, spacing)
            sizes.append(resident())
            if i + 1 in (1, 10, 50, 100, 200, a.n):
                print(f"after {i + 1:4d}: {sizes[-1] / 1e6:7.1f} MB resident, {time.perf_counter() - begin:6.1f} s", flush=True)
        cpu = time.process_time()
        time.sleep(2)
        print(f"processor time in 2 s of idleness, model open: {time.process_time() - cpu:.3f} s")
    limit = 1.02 * sizes[9] + 4e6
    print(f"highest after the tenth: {max(sizes[9:]) / 1e6:.1f} MB; allowed after the last: {limit / 1e6:.1f} MB")
    if sizes[-1] > limit:
        print(f"FAILED: {sizes[-1] / 1e6:.1f} MB after the last, {sizes[9] / 1e6:.1f} MB after the tenth")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
