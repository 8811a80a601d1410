"""Comparing label maps with references."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _abi, _arrays, _call, _images
from ._arrays import Vector
from ._errors import ArgumentError


def evaluate(
    prediction: Any,
    reference: Any,
    spacing: Vector | None = None,
    *,
    rules: str = "plain",
    labels: _abi.Path | None = None,
    tolerance_mm: float = 0.0,
    resample: bool = False,
    csv: _abi.Path | None = None,
    html: _abi.Path | None = None,
    threads: int = 0,
) -> dict[str, Any]:
    """Scores a label map against its reference on the same grid: arrays of shape (z, y, x), or
    images as for Model.segment.

    spacing        for arrays: mm along x, y, z, as SimpleITK's GetSpacing() gives them: the reverse
                   order of the arrays' axes
    rules          "plain", or with their organs, tolerances and quirks "flare21", "flare22",
                   "flare23"
    labels         a dataset.json with the labels to score and their names; None: all but 0 that
                   are found
    tolerance_mm   distance within which surfaces agree for NSD; 0: 1 mm. labels and tolerance_mm
                   are for "plain"
    resample       bring a prediction on another grid to the reference's (nearest voxel): both
                   must be images then, which tell where they lie
    csv            file to write: a line for each label
    html           file to write: a page with box plots
    threads        bound on the threads; 0: one per core

    Returns what `flare evaluate --json` writes (flare.h describes it): of the one case dsc, nsd,
    assd_mm, hd_mm, hd95_mm, ravd and volume_ml of every label, and means; None where a score is
    not defined.

    >>> import flare, numpy
    >>> labels = numpy.ones((4, 5, 6), "uint8")
    >>> flare.evaluate(labels, labels, spacing=(0.7, 0.7, 2.0))["dsc"]
    1
    """
    library = _abi.library()
    image = _images.opened("reference", reference, spacing)
    if resample:
        _images.refuse_array("reference", reference)
        _images.refuse_array("prediction", prediction)
        other = _images.opened("prediction", prediction, None)
    else:  # on one grid, and then it does not matter where
        voxels = _images.labels_on("prediction", prediction, image)
        image = image._replace(origin=(0.0, 0.0, 0.0), direction=_arrays.IDENTITY)
        other = image._replace(voxels=voxels)
    ours, theirs = _map("reference", image.voxels), _map("prediction", other.voxels)
    if ours.shape != theirs.shape and not resample:
        raise ArgumentError(
            f"prediction has shape {theirs.shape}, reference {ours.shape}; expected the same grid"
        )
    p = _arrays.volume(theirs, other.spacing, other.origin, other.direction)
    r = _arrays.volume(ours, image.spacing, image.origin, image.direction)
    options = _options(rules, labels, tolerance_mm, resample, csv, html, threads)
    return _call.report(
        lambda out: int(
            library.flare_evaluate(out, ctypes.byref(p), ctypes.byref(r), ctypes.byref(options))
        ),
        lambda: None,
        _call.Progress(None),
    )


def evaluate_file(
    prediction: _abi.Path,
    reference: _abi.Path,
    *,
    rules: str = "plain",
    labels: _abi.Path | None = None,
    tolerance_mm: float = 0.0,
    resample: bool = False,
    csv: _abi.Path | None = None,
    html: _abi.Path | None = None,
    threads: int = 0,
    progress: _call.ProgressCallback | bool | None = None,
) -> dict[str, Any]:
    """Scores an image file against another, or a folder of predictions against a folder of
    references with the same names.

    resample       bring predictions on another grid to the reference's (nearest voxel); they
                   are refused otherwise
    csv            file to write: a line for each case and label
    html           file to write: a page with box plots and pictures of the worst cases
    progress       called as progress(fraction, "evaluate") between cases; as in Model.segment

    The rest is as in evaluate. Where cases of a folder fail, the others are scored all the same:
    the exception that is raised then has the scores in its attribute report, whose "failed"
    tells each case and why.
    """
    library = _abi.library()
    source, target = _abi.c_path("prediction", prediction), _abi.c_path("reference", reference)
    callback, stop = _call.stoppable(progress)
    options = _options(rules, labels, tolerance_mm, resample, csv, html, threads)
    options.progress = callback.pointer
    return _call.report(
        lambda out: int(library.flare_evaluate_file(out, source, target, ctypes.byref(options))),
        stop,
        callback,
    )


def efficiency(command: Sequence[_abi.Path], *, gpu: int = 0) -> dict[str, Any]:
    """Runs a command and measures what the whole machine does meanwhile by the rules of the FLARE
    challenges, with a sample every 0.1 s: `flare efficiency`. Linux only.

    command        a program and its arguments, which has this process's standard input and output
    gpu            index of the GPU to watch, with nvidia-smi

    Returns seconds, cpu_seconds, and of CPU, RAM and GPU memory maximum, area under the curve and
    samples (flare.h describes all). Where the command fails the exception has that in its attribute
    report. Ctrl-C interrupts it.

        flare.efficiency(["python", "train.py"])["max_ram_mb"]
    """
    if isinstance(command, (str, bytes, os.PathLike)):
        raise TypeError(f"command is {command!r}; expected a list of a program and its arguments")
    library = _abi.library()
    words = [_abi.c_path("command", word) for word in command]
    array = (ctypes.c_char_p * len(words))(*words)
    callback, stop = _call.stoppable(None)
    options = _abi.EfficiencyOptions(gpu=gpu, progress=callback.pointer)
    return _call.report(
        lambda out: int(library.flare_efficiency(out, array, len(words), ctypes.byref(options))),
        stop,
        callback,
    )


def _map(name: str, array: npt.ArrayLike) -> npt.NDArray[Any]:
    voxels = _arrays.image(array)
    if voxels.ndim != 3:
        raise ArgumentError(f"{name} has shape {np.shape(array)}; expected (z, y, x)")
    return voxels


def _options(
    rules: str,
    labels: _abi.Path | None,
    tolerance: float,
    resample: bool,
    csv: _abi.Path | None,
    html: _abi.Path | None,
    threads: int,
) -> _abi.EvaluateOptions:
    return _abi.EvaluateOptions(
        rules=_abi.c_text("rules", rules),
        labels_path=_abi.c_path("labels", labels),
        tolerance_mm=tolerance,
        resample=bool(resample),
        csv_path=_abi.c_path("csv", csv),
        html_path=_abi.c_path("html", html),
        threads=_abi.c_threads(threads),
    )
