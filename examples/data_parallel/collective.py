"""What processes that train together need: `average` makes a float32 array the mean of those of
all processes, `broadcast` makes it that of process 0. Both work in place, and all processes get the
same bits. `rank` counts the processes from 0, `size` is their number.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

CONTEXT = multiprocessing.get_context("spawn")  # libflare does not work in children of fork


class MPI:
    """Processes that `mpiexec python -m mpi4py` has started, which ends all where one fails."""

    def __init__(self) -> None:
        from mpi4py import MPI as mpi

        self.sum, self.in_place = mpi.SUM, mpi.IN_PLACE
        self.world = mpi.COMM_WORLD
        self.rank, self.size = self.world.Get_rank(), self.world.Get_size()

    def average(self, array: Any) -> None:
        self.world.Allreduce(self.in_place, array, op=self.sum)
        array /= self.size

    def broadcast(self, array: Any) -> None:
        self.world.Bcast(array, root=0)


class Shared:
    """Processes of one machine that `spread` has started; they share memory, a mapped file."""

    def __init__(self, rank: int, size: int, barrier: Any, folder: str) -> None:
        self.rank, self.size, self.barrier = rank, size, barrier
        self.file = pathlib.Path(folder) / "arrays"
        self.rows: Any = None  # size x floats: each process writes its own

    def exchange(self, array: Any) -> None:
        """Shows the array to all; the rows are there until the next barrier."""
        if self.rows is None or self.rows.shape[1] != array.size:
            self.barrier.wait()
            if self.rank == 0:
                np.memmap(self.file, np.float32, "w+", shape=(self.size, array.size))
            self.barrier.wait()
            self.rows = np.memmap(self.file, np.float32, "r+", shape=(self.size, array.size))
        self.rows[self.rank] = array
        self.barrier.wait()

    def average(self, array: Any) -> None:
        self.exchange(array)
        np.add.reduce(self.rows, axis=0, out=array)  # one row after the other, in each process
        array /= self.size
        self.barrier.wait()

    def broadcast(self, array: Any) -> None:
        self.exchange(array)
        array[:] = self.rows[0]
        self.barrier.wait()


def spread(work: Callable[..., None], size: int, *arguments: Any) -> None:
    """Calls work(collective, *arguments) in so many processes. If one of them fails or is killed,
    all end, and RuntimeError is raised."""
    barrier = CONTEXT.Barrier(size)
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            CONTEXT.Process(target=_process, args=(work, rank, size, barrier, folder, arguments))
            for rank in range(size)
        ]
        for process in processes:
            process.start()
        left = list(processes)
        while left:
            multiprocessing.connection.wait([process.sentinel for process in left])
            ended = [process for process in left if process.exitcode is not None]
            if any(process.exitcode != 0 for process in ended):
                for process in left:
                    process.terminate()
            left = [process for process in left if process not in ended]
    codes = [process.exitcode for process in processes]
    if any(codes):
        raise RuntimeError(f"the processes ended with the exit codes {codes}")


def _process(
    work: Callable[..., None], rank: int, size: int, barrier: Any, folder: str, arguments: Any
) -> None:
    work(Shared(rank, size, barrier, folder), *arguments)
