"""The noisy student: pseudo-labels, and the whole way to one small network."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any

from . import _abi, _call
from ._handle import Handle


def pseudo_label(
    models: _abi.Path | Sequence[_abi.Path],
    images: _abi.Path,
    out: _abi.Path,
    *,
    mirror: bool = True,
    previous: _abi.Path | None = None,
    ignore_below: float = 0.0,
    soft_below: float = 0.0,
    weights: bool = False,
    shard: tuple[int, int] | None = None,
    device: str = "auto",
    mode: str = "exact",
    threads: int = 0,
    cache: _abi.Path | None = None,
    runtime: _abi.Path | None = None,
    progress: _call.ProgressCallback | bool | None = None,
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
    weights        write weights/CASE.nii.gz too: how much each voxel counts in training, 255 times
                   the share of the folds, and of the earlier round as one more, that agree
    shard          (i, n): do part i, from 1 on, of n
    device, mode, threads, cache, runtime   as in Model
    progress       called as progress(fraction, "label"); as in Model.segment

    Returns {"scores": [what CASE.json holds, ...], "skipped": [...]}. Where cases cannot be read
    the others are labelled all the same: the exception that is raised then has that in its
    attribute report.
    """
    options = _options(
        models,
        mirror,
        previous,
        ignore_below,
        soft_below,
        weights,
        shard,
        device,
        mode,
        threads,
        cache,
        runtime,
    )
    library = _abi.library()
    source, target = _abi.c_path("images", images), _abi.c_path("out", out)
    callback, stop = _call.stoppable(progress)
    options.progress = callback.pointer
    return _call.report(
        lambda answer: int(
            library.flare_pseudo_label(answer, source, target, ctypes.byref(options))
        ),
        stop,
        callback,
    )


def paths(models: _abi.Path | Sequence[_abi.Path]) -> Sequence[_abi.Path]:
    """One path, or several, as several."""
    if isinstance(models, (str, bytes, os.PathLike)):
        return [models]
    return models


def _options(
    models: _abi.Path | Sequence[_abi.Path],
    mirror: bool = True,
    previous: _abi.Path | None = None,
    ignore_below: float = 0.0,
    soft_below: float = 0.0,
    weights: bool = False,
    shard: tuple[int, int] | None = None,
    device: str = "auto",
    mode: str = "exact",
    threads: int = 0,
    cache: _abi.Path | None = None,
    runtime: _abi.Path | None = None,
) -> _abi.PseudoLabelOptions:
    names = [_abi.c_path("models", m) for m in paths(models)]
    options = _abi.PseudoLabelOptions(
        models=(ctypes.c_char_p * len(names))(*names),
        models_count=len(names),
        previous_path=_abi.c_path("previous", previous),
        ignore_below=ignore_below,
        soft_below=soft_below,
        no_mirror=not mirror,
        weights=bool(weights),
        threads=_abi.c_threads(threads),
        device=_abi.c_text("device", device),
        mode=_abi.c_text("mode", mode),
        cache_dir=_abi.c_path("cache", cache),
        runtime=_abi.c_path("runtime", runtime),
    )
    if shard is not None:
        options.shard, options.shards = shard
    return options


class Labeller(Handle):
    """A teacher at work on a folder of images, for programs that choose the cases and their
    order, such as the workers of flare.ray. It is opened once, with the first case that is not
    finished. Arguments as of pseudo_label, without progress:

        with flare.Labeller("teacher.onnx", "images", "labels") as labeller:
            for name in labeller.cases:
                labeller.label(name)

    Calls from several threads wait for each other in turn. Ctrl-C, closing and processes are as
    with flare.Model.
    """

    _free_name, _cancel_name = "flare_labeller_free", "flare_labeller_cancel"

    def __init__(
        self,
        models: _abi.Path | Sequence[_abi.Path],
        images: _abi.Path,
        out: _abi.Path,
        **options: Any,
    ) -> None:
        super().__init__()
        _call.refuse_in_callback()
        given = _options(models, **options)
        _abi.check(
            self._library.flare_labeller_open(
                ctypes.byref(self._handle),
                _abi.c_path("images", images),
                _abi.c_path("out", out),
                ctypes.byref(given),
            )
        )

    @property
    def cases(self) -> list[str]:
        """Names of the cases (of the shard), finished or not."""
        result: list[str] = self._json(self._library.flare_labeller_cases)
        return result

    def label(self, name: str) -> dict[str, Any]:
        """Labels a case, unless it is finished, and returns what pseudo_label returns of all.
        Where the case cannot be read the exception has that in its attribute report; where that
        is None others will not go better."""
        library, handle, text = self._library, self._opened(), _abi.c_text("name", name)
        return _call.report(
            lambda answer: int(library.flare_labeller_label(answer, handle, text)),
            lambda: library.flare_labeller_cancel(handle),
            _call.Progress(None),
        )


def student(
    config: _abi.Path,
    *,
    runtime: _abi.Path | None = None,
    progress: _call.ProgressCallback | bool | None = None,
) -> dict[str, Any]:
    """Makes a noisy student as a file says, or goes on: `flare student`, whose --help describes
    the file.

    runtime        as in Model
    progress       called as progress(fraction, stage); as in Model.segment

    Returns RESULTS.json. Where unlabelled cases cannot be read the student is made without them:
    the exception that is raised then has RESULTS.json in its attribute report.
    """
    library = _abi.library()
    callback, stop = _call.stoppable(progress)
    path = _abi.c_path("config", config)
    options = _abi.StudentOptions(
        runtime=_abi.c_path("runtime", runtime), progress=callback.pointer
    )
    return _call.report(
        lambda answer: int(library.flare_student(answer, path, ctypes.byref(options))),
        stop,
        callback,
    )
