"""The noisy student: pseudo-labels, and the whole way to one small network."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from typing import Any

from . import _abi, _call
from ._errors import ArgumentError, Error


def pseudo_label(
    models: _abi.Path | Sequence[_abi.Path],
    images: _abi.Path,
    out: _abi.Path,
    *,
    mirror: bool = True,
    previous: _abi.Path | None = None,
    ignore_below: float = 0.0,
    soft_below: float = 0.0,
    shard: tuple[int, int] | None = None,
    device: str = "auto",
    mode: str = "exact",
    threads: int = 0,
    cache: _abi.Path | None = None,
    progress: _call.ProgressCallback | None = None,
) -> dict[str, Any]:
    """Labels every image of a folder with a teacher, which is opened once, and scores how far it
    can be trusted: `flare pseudo-label`. A case that is finished is not done again.

    models         a bundle or results folder; several, of the same plans, are folds of one teacher
    images         folder of NIfTI files
    out            folder, made if need be, for CASE.nii.gz and CASE.json of each
    mirror         average over the mirror flips that the teacher was trained with
    previous       folder of an earlier round's labels to compare with
    ignore_below   voxels on which a smaller share of the folds agrees get the ignore label
    soft_below     keep the probabilities (CASE.npz) of voxels whose largest is smaller
    shard          (i, n): do part i, from 1 on, of n
    device, mode, threads, cache   as in Model
    progress       called as progress(fraction, "label"); as in Model.segment

    Returns {"scores": [what CASE.json holds, ...], "skipped": [...]}. Where cases cannot be read
    the others are labelled all the same: the exception that is raised then has that in its
    attribute report.
    """
    paths = [models] if isinstance(models, (str, bytes)) or hasattr(models, "__fspath__") else models
    names = [_abi.c_path("models", m) for m in paths]
    if not -(2**31) <= threads < 2**31:  # C would cut it
        raise ArgumentError(f"threads is {threads}; expected 0 or a number of threads")
    options = _abi.PseudoLabelOptions(
        models=(ctypes.c_char_p * len(names))(*names),
        models_count=len(names),
        previous_path=_abi.c_path("previous", previous),
        ignore_below=ignore_below,
        soft_below=soft_below,
        no_mirror=not mirror,
        threads=threads,
        device=_abi.c_text("device", device),
        mode=_abi.c_text("mode", mode),
        cache_dir=_abi.c_path("cache", cache),
    )
    if shard is not None:
        options.shard, options.shards = shard
    library = _abi.library()
    source, target = _abi.c_path("images", images), _abi.c_path("out", out)
    return _run(
        lambda answer: int(
            library.flare_pseudo_label(answer, source, target, ctypes.byref(options))
        ),
        options,
        progress,
    )


def student(
    config: _abi.Path, *, progress: _call.ProgressCallback | None = None
) -> dict[str, Any]:
    """Makes a noisy student as a file says, or goes on: `flare student`, whose --help describes
    the file.

    progress       called as progress(fraction, stage); as in Model.segment

    Returns RESULTS.json. Where unlabelled cases cannot be read the student is made without them:
    the exception that is raised then has RESULTS.json in its attribute report.
    """
    library = _abi.library()
    path, options = _abi.c_path("config", config), _abi.StudentOptions()
    return _run(
        lambda answer: int(library.flare_student(answer, path, ctypes.byref(options))),
        options,
        progress,
    )


def _run(
    call: Callable[[Any], int], options: Any, progress: _call.ProgressCallback | None
) -> dict[str, Any]:
    _call.refuse_in_callback()
    stop = threading.Event()  # there is no handle to cancel
    callback = _call.Progress(
        lambda fraction, phase: stop.is_set() or (progress and progress(fraction, phase))
    )
    options.progress = callback.pointer
    answer = ctypes.c_void_p()
    try:
        _call.run(lambda: call(ctypes.byref(answer)), stop.set, callback)
    except Error as error:
        if answer:
            error.report = _abi.take_json(answer)
        raise
    result: dict[str, Any] = _abi.take_json(answer)
    return result
