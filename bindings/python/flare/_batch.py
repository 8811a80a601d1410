"""What goes into the calls of a trainer, and what comes out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from . import _abi, _arrays
from ._errors import ArgumentError


class Batch(NamedTuple):
    """What training learns from: preprocessed patches, whose axes are the network's. For 2-D
    networks there is no z.

    images   (batch, channels, z, y, x), of which a float32 array is not copied
    labels   (batch, z, y, x), labels of dataset.json; None where the trainer learns soft ones
    soft     (batch, heads, z, y, x): probabilities, for a trainer opened with soft=True
    weights  (batch, z, y, x), for a trainer opened with weighted=True; None: all 1
    """

    images: npt.ArrayLike
    labels: npt.ArrayLike | None = None
    soft: npt.ArrayLike | None = None
    weights: npt.ArrayLike | None = None


class Result(NamedTuple):
    """What a call tells of its batch. loss is cross_entropy + dice, dice the negative of a mean
    of soft Dice coefficients. counts, of shape (3, heads): the voxels that were decided rightly
    for, wrongly for, and wrongly against each head."""

    loss: float
    cross_entropy: float
    dice: float
    counts: npt.NDArray[np.float64]


class TrainingProgress(NamedTuple):
    """How far Trainer.run is. Numbers that are not known yet are NaN.

    phase "train" or "validate"; epoch from 0, of epochs; done of total batches of the phase and
    epoch; loss, the epoch's mean so far; learning_rate; dice, the pseudo Dice of the last epoch,
    and ema, its moving average; step_seconds of a step; seconds_left; waited, the part of the
    epoch's time that was spent waiting for data.
    """

    phase: str
    epoch: int
    epochs: int
    done: int
    total: int
    loss: float
    learning_rate: float
    dice: float
    ema: float
    step_seconds: float
    seconds_left: float
    waited: float


def as_c(given: Batch, heads: int) -> _abi.Batch:
    """A flare_batch that looks at the arrays and keeps them alive."""
    images, labels, soft, weights = given
    voxels = _arrays.floats("images", images)
    if voxels.ndim not in (4, 5):
        raise ArgumentError(
            f"images has shape {voxels.shape}; expected (batch, channels, z, y, x), "
            "or (batch, channels, y, x) for 2-D networks"
        )
    batch, channels, *patch = voxels.shape
    nz, ny, nx = patch if len(patch) == 3 else (1, *patch)
    result = _abi.Batch(
        images=voxels.ctypes.data,
        images_dtype=_abi.FLOAT32,
        batch=batch,
        channels=channels,
        size=(nx, ny, nz),
    )
    result.owners = [voxels]
    if labels is not None:
        classes = _arrays.on_grid("labels", labels, (batch, *patch))
        result.labels, result.labels_dtype = classes.ctypes.data, _arrays.code(classes)
        result.owners.append(classes)
    others = ("soft", soft, (batch, heads, *patch)), ("weights", weights, (batch, *patch))
    for name, array, expected in others:
        if array is not None:
            values = _arrays.floats(name, array)
            if values.shape != expected:
                raise ArgumentError(f"{name} has shape {values.shape}; expected {expected}")
            setattr(result, name, values.ctypes.data)
            result.owners.append(values)
    return result
