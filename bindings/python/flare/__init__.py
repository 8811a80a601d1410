"""nnU-Net inside your program: a volume goes in, nnU-Net's labels come out.

Research software, not a medical device.

    import flare, SimpleITK as sitk

    with flare.Model("abdomen.onnx") as model:
        labels = model.segment(sitk.ReadImage("ct.nii.gz"))  # an image on the same grid

Model is an open model, Trainer a network in training, convert makes one file of an nnU-Net
results folder, evaluate compares labels with a reference, efficiency measures a command, read and write are for image files,
show is a view for notebooks, devices tells what this machine can run on. flare.dicom has DICOM
series and segmentations. Every failure of the library is a flare.Error; each kind of failure has
a class of its own. Nothing is printed; set_log tells more.

The library libflare is loaded at first use; load says from where.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
from collections.abc import Callable
from typing import Any

from . import _abi
from ._batch import Batch, Result, TrainingProgress
from ._errors import (
    ArgumentError,
    Cancelled,
    DeviceError,
    Error,
    FileError,
    ForkedError,
    FormatError,
    HandleError,
    InternalError,
    ModelError,
    NotFoundError,
    OutOfMemoryError,
    PanicError,
    RuntimeMissingError,
    UnsupportedError,
    VersionError,
)
from ._evaluate import efficiency, evaluate, evaluate_file
from ._image import Image, read, write
from ._model import Model
from ._show import show
from ._student import Labeller, pseudo_label, student
from ._trainer import Trainer

__all__ = [
    "ArgumentError",
    "Batch",
    "Cancelled",
    "DeviceError",
    "Error",
    "FileError",
    "ForkedError",
    "FormatError",
    "HandleError",
    "Image",
    "InternalError",
    "Labeller",
    "Model",
    "ModelError",
    "NotFoundError",
    "OutOfMemoryError",
    "PanicError",
    "Result",
    "RuntimeMissingError",
    "Trainer",
    "TrainingProgress",
    "UnsupportedError",
    "VersionError",
    "convert",
    "devices",
    "efficiency",
    "evaluate",
    "evaluate_file",
    "load",
    "pseudo_label",
    "read",
    "set_log",
    "show",
    "student",
    "version",
    "write",
]


def version() -> str:
    """Version of the library, such as "0.1.0"."""
    text: bytes = _abi.library().flare_version()
    return text.decode()


def load(path: _abi.Path | None = None) -> None:
    """Loads libflare now, from path, instead of at first use from the first of these places:

    1. the environment variable FLARE_LIBRARY: a file or its folder; nothing else is tried,
    2. the folder lib/ of this package,
    3. build/lib/ of the repository, when this package is imported from its source tree,
    4. the system loader (LD_LIBRARY_PATH, ldconfig).

    It stays loaded until the process ends.
    """
    _abi.load(path)


def devices(runtime: _abi.Path | None = None) -> dict[str, Any]:
    """The devices that this machine offers, and the ONNX Runtime that was found.

    runtime is the ONNX Runtime library or its folder; None: search.

    >>> import flare
    >>> [device["name"] for device in flare.devices()["devices"] if device["available"]]
    ['openvino', 'ort']
    """
    answer = ctypes.c_void_p()
    library = _abi.library()
    _abi.check(library.flare_devices(ctypes.byref(answer), _abi.c_path("runtime", runtime)))
    result: dict[str, Any] = _abi.take_json(answer)
    return result


def convert(
    out: _abi.Path,
    *,
    folder: _abi.Path | None = None,
    onnx: _abi.Path | None = None,
    plans: _abi.Path | None = None,
    configuration: str | None = None,
    dataset: _abi.Path | None = None,
    orientation: str | None = None,
    folds: str | None = None,
    checkpoint: str | None = None,
) -> None:
    """Writes a bundle: one .onnx file that any ONNX viewer or runtime opens, whose metadata
    holds all that segmenting needs. Its source is one of

    folder         an nnU-Net v2 results folder; folds is "all" (default) or a list such as
                   "0,1", checkpoint the file in each fold_* (default checkpoint_final.pth)
    onnx           an exported network, with its plans (plans.json) and the name of their
                   configuration; dataset (dataset.json) names the labels, or they are numbered

    orientation, such as "LPS": the network expects volumes so oriented.

        flare.convert("abdomen.onnx", folder="Dataset001/nnUNetTrainer__nnUNetPlans__3d_fullres")
    """
    options = _abi.ConvertOptions(
        folder=_abi.c_path("folder", folder),
        onnx=_abi.c_path("onnx", onnx),
        plans=_abi.c_path("plans", plans),
        dataset=_abi.c_path("dataset", dataset),
        configuration=_abi.c_text("configuration", configuration),
        orientation=_abi.c_text("orientation", orientation),
        folds=_abi.c_text("folds", folds),
        checkpoint=_abi.c_text("checkpoint", checkpoint),
    )
    _abi.check(_abi.library().flare_convert(_abi.c_path("out", out), ctypes.byref(options)))


_LEVELS = {
    logging.ERROR: _abi.LOG_ERROR,
    logging.WARNING: _abi.LOG_WARNING,
    logging.INFO: _abi.LOG_INFO,
    logging.DEBUG: _abi.LOG_DEBUG,
}
_FROM_C = {c: level for level, c in _LEVELS.items()}
_log: Callable[[int, str], object] | None = None


def _forward(level: int, message: bytes, user: int | None) -> None:
    if _log is not None:
        _log(_FROM_C.get(level, logging.DEBUG), message.decode("utf-8", "replace"))


_forward_c = _abi.LogFn(_forward)  # one for the whole life of the process: a thread may be in it


def set_log(function: Callable[[int, str], object] | None, level: int = logging.INFO) -> None:
    """Sends log lines as function(level, message), with the levels of Python's logging; None
    (the state at first) drops them. The function may be called from any thread, also while
    another call is running, and must not call this package.

    >>> import flare, logging
    >>> flare.set_log(logging.getLogger("flare").log, logging.WARNING)
    """
    global _log
    if level not in _LEVELS:
        raise ArgumentError(f"level is {level}; expected one of {sorted(_LEVELS)} as in logging")
    library = _abi.library()
    _log = function
    pointer = _forward_c if function else _abi.LogFn()
    _abi.check(library.flare_set_log(pointer, None, _LEVELS[level]))


@atexit.register
def _stop_log() -> None:
    """No thread may call into a Python that is gone."""
    if _log is not None:
        _abi.library().flare_set_log(_abi.LogFn(), None, _abi.LOG_ERROR)
