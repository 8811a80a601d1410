"""Trains a network in several processes at once, as one training with a larger batch: each computes
the gradients of its own batch, and all apply the mean.

usage: train.py CACHE OUT.onnx [--processes 2] [--steps 250] [--threads N]   on one machine
       mpiexec -n 2 python -m mpi4py train.py CACHE OUT.onnx --mpi ...       on one or many

CACHE is a folder that `flare preprocess` made, OUT.onnx the bundle to write. Needs the package flare
(bindings/python), with --mpi also mpi4py. For plans with batch_dice, the Dice loss is that of each
process's batch. Research software, not a medical device.
"""

from __future__ import annotations

import argparse
from typing import Any

from collective import MPI, spread

import flare

RATE = 0.01  # learning rate of the first step


def step(trainer: flare.Trainer, collective: Any, batch: flare.Batch | None = None) -> float:
    """One step of all processes; returns the loss of this one's batch."""
    loss: float = trainer.backward(batch).loss
    collective.average(trainer.gradient_buffer)  # the library's memory
    trainer.apply()
    return loss


def train(collective: Any, cache: str, out: str, steps: int, threads: int) -> None:
    """What each process does."""
    # Another seed draws other patches, and other weights to begin with: all take those of 0.
    with flare.Trainer(cache=cache, seed=collective.rank, threads=threads) as trainer:
        collective.broadcast(trainer.parameter_buffer)
        losses = []
        for i in range(steps):
            trainer.learning_rate = RATE * (1 - i / steps) ** 0.9  # nnU-Net's
            losses.append(step(trainer, collective))
            if collective.rank == 0 and (i + 1) % 10 == 0:
                print(f"step {i + 1}: mean loss {sum(losses[-10:]) / 10:.3f}", flush=True)
        if collective.rank == 0:
            trainer.export(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cache")
    parser.add_argument("out")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--mpi", action="store_true")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--threads", type=int, default=0, help="of each process; 0: one for each core")
    a = parser.parse_args()
    arguments = a.cache, a.out, a.steps, a.threads
    if a.mpi:
        train(MPI(), *arguments)
    else:
        spread(train, a.processes, *arguments)


if __name__ == "__main__":
    main()
