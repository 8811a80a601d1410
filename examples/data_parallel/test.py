"""Checks that two processes with half batches train as one with the whole batch, with shared memory
and with MPI (mpi4py and mpiexec, else that is left out, or is an error with FLARE_REQUIRE_DATA=1),
that a process which dies ends the others, and that train.py learns.

usage: test.py   from the repository's root, after ./build.sh, with a Python that has flare and SimpleITK
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
from collective import MPI, spread
from train import step

import flare

root = pathlib.Path(__file__).resolve().parents[2]
work = root / "build" / "test" / "data_parallel"
network = root / "capi" / "test" / "network"  # without batch_dice
here = pathlib.Path(__file__).resolve().parent
PATCH, STEPS = (8, 12, 16), 5  # z, y, x


def block(i: int, shape: tuple[int, ...] = PATCH) -> tuple[Any, Any]:
    """A bright and a dark block in noise, and their labels."""
    labels: Any = np.zeros(shape, np.uint8)
    labels[2:, 4:, 3:8] = 1
    labels[:6, :8, 10:] = 2
    noise = np.random.default_rng(i).uniform(0, 1, shape)
    return (1.5 * (labels == 1) - 1.5 * (labels == 2) + noise).astype(np.float32), labels


def batch(number: int, part: slice) -> flare.Batch:
    """A part of the batch of 4 samples that a step has."""
    images, labels = zip(*(block(4 * number + i) for i in range(4)))
    return flare.Batch(np.stack(images)[part, None], np.stack(labels)[part])


class Alone:
    """A collective of one process."""

    def average(self, array: Any) -> None:
        pass


def learn(collective: Any, out: pathlib.Path, part: slice) -> None:
    """A few steps; saves the parameters."""
    options = {"plans": network / "plans.json", "dataset": network / "dataset.json", "threads": 1}
    with flare.Trainer(**options, batch=len(range(*part.indices(4))), momentum=0.9) as trainer:
        first = trainer.parameter_buffer.copy()
        for i in range(STEPS):
            step(trainer, collective, batch(i, part))
        np.save(out, np.stack([first, trainer.parameter_buffer]))


def half(collective: Any, name: str) -> None:
    rank = collective.rank
    learn(collective, work / f"{name}{rank}.npy", slice(2 * rank, 2 * rank + 2))


def dies(collective: Any) -> None:
    if collective.rank == 1:
        os._exit(9)
    collective.average(np.zeros(4, np.float32))


def compare(name: str) -> None:
    first, whole = np.load(work / "whole.npy")
    halves = [np.load(work / f"{name}{rank}.npy")[1] for rank in range(2)]
    moved, error = abs(whole - first).max(), abs(halves[0] - whole).max()
    print(f"{name}: after {STEPS} steps parameters moved by up to {moved:.1g}, halves and whole differ by {error:.1g}")
    if (halves[0] != halves[1]).any():
        sys.exit(f"{name}: the two processes have not the same parameters")
    if not error < 1e-3 * moved:  # one process in another order of summation: 1e-5
        sys.exit(f"{name}: two processes with half batches are not one with the whole batch")


def check_program() -> None:
    import SimpleITK as sitk

    raw, cache = work / "raw", work / "cache"
    for folder in "imagesTr", "labelsTr":
        (raw / folder).mkdir(parents=True)
    shutil.copy(network / "dataset.json", raw)
    image, labels = block(99, (16, 18, 20))
    sitk.WriteImage(sitk.GetImageFromArray(image), raw / "imagesTr" / "a_0000.nii.gz")
    sitk.WriteImage(sitk.GetImageFromArray(labels), raw / "labelsTr" / "a.nii.gz")
    command: list[Any] = [root / "build" / "bin" / "flare", "preprocess", raw, "--plans", network / "plans.json", "-o", cache]
    subprocess.run(command, check=True)
    command = [sys.executable, here / "train.py", cache, work / "model.onnx", "--steps", "250", "--threads", "1"]
    subprocess.run(command, check=True)
    with flare.Model(work / "model.onnx") as model:
        right = (model.segment(image, (1, 1, 1)) == labels)[labels > 0].mean()
    print(f"train.py: {right:.0%} of the foreground after 250 steps")
    if not right > 0.8:
        sys.exit("train.py has not learnt")


def main() -> None:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    learn(Alone(), work / "whole.npy", slice(4))
    spread(half, 2, "memory")
    compare("memory")
    try:
        spread(dies, 2)
    except RuntimeError as error:
        print("a process that dies:", error)
    else:
        sys.exit("a process died, and nobody noticed")
    mpiexec = shutil.which("mpiexec", path=f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if mpiexec and importlib.util.find_spec("mpi4py"):
        subprocess.run([mpiexec, "-n", "2", sys.executable, "-m", "mpi4py", __file__, "--mpi"], check=True)
        compare("mpi")
    elif os.environ.get("FLARE_REQUIRE_DATA") == "1":
        sys.exit("mpi4py or mpiexec is missing")
    else:
        print("left out: MPI (there is no mpi4py, or no mpiexec)")
    check_program()


if __name__ == "__main__":
    if sys.argv[1:] == ["--mpi"]:
        half(MPI(), "mpi")
    else:
        main()
