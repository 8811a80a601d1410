"""Segmenting a layer's voxels with a model that stays open. Knows nothing of Qt and viewers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flare
import numpy as np
from flare.modality import doubt

from ._geometry import Geometry, Unfit

Progress = Callable[[float, str], object]


@dataclass(frozen=True)
class Job:
    """What to segment, and with what."""

    model: str  # file or folder
    device: str
    mode: str
    layer: str  # its name
    voxels: Any  # the layer's data: z, y, x, or channels first
    geometry: Geometry


@dataclass(frozen=True)
class Result:
    """Labels, z, y, x, and what they mean."""

    labels: Any
    names: dict[int, str]
    description: dict[str, Any]
    stats: dict[str, Any]


class Segmenter:
    """Runs one job at a time, on any thread; the model of the last one stays open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held by a job
        self._model: flare.Model | None = None
        self._key: tuple[str, str, str] | None = None

    def run(
        self,
        job: Job,
        progress: Progress,
        warn: Callable[[str], object],
        stop: Callable[[], bool],
    ) -> Result:
        """Segments. warn is told beforehand why the labels may be worthless; stop is asked at
        every progress, and cancel ends what runs between them."""
        with self._lock:
            progress(0.0, "open")
            model = self._open(job)
            description = model.describe()
            voxels = suited(description, job)
            if text := doubt(description, voxels):
                warn(text)
            if stop():
                raise flare.Cancelled("cancelled")

            def told(fraction: float, phase: str) -> bool:
                progress(fraction, phase)
                return stop()

            place = job.geometry
            labels = model.segment(
                voxels, place.spacing, place.origin, place.direction, progress=told
            )
            names = {int(label["value"]): str(label["name"]) for label in description["labels"]}
            return Result(labels, names, description, model.stats)

    def cancel(self) -> None:
        """Ends the running job within the time of one tile. Returns at once."""
        model = self._model
        if model is not None:
            try:
                model.cancel()
            except flare.HandleError:  # closed meanwhile
                pass

    def _open(self, job: Job) -> flare.Model:
        key = (job.model, job.device, job.mode)
        if self._model is None or self._key != key:
            if self._model is not None:
                self._model.close()
            self._model = None
            self._model = flare.Model(job.model, device=job.device, mode=job.mode)
            self._key = key
        return self._model


def suited(description: dict[str, Any], job: Job) -> Any:
    """The layer's voxels as the model takes them."""
    voxels, channels = job.voxels, list(description["channels"])
    found = voxels.shape[0] if voxels.ndim == 4 else 1
    if found != len(channels):
        hint = (
            "Choose a layer with its channels as first axis."
            if voxels.ndim == 3
            else "Split the layer (right click, Split Stack) and choose one image of it."
        )
        raise Unfit(
            f"{job.layer!r} has {found} channel{'s' * (found > 1)}; the model takes "
            f"{len(channels)}: {', '.join(channels)}. {hint}"
        )
    if description["previous_stage"]:
        raise Unfit(
            f"The model is the second stage of a cascade and needs the labels of "
            f"{description['previous_stage']!r}: choose a list (.json) of both stages."
        )
    return np.asarray(voxels)


def volumes(labels: Any, geometry: Geometry) -> dict[int, float]:
    """Millilitres of every label that occurs, slice by slice, so that other threads run too."""
    counts = np.zeros(int(labels.max()) + 1, np.int64)
    for plane in labels:
        counts += np.bincount(plane.ravel(), minlength=counts.size)
    ml = float(np.prod(geometry.spacing)) / 1000
    return {int(v): float(counts[v] * ml) for v in np.flatnonzero(counts) if v}
