"""include/flare.h in ctypes: constants, structs, functions; and where the library is found.

What a function, field or unit means stands in flare.h. Names are the header's, less the
prefix: flare_open_options is OpenOptions, FLARE_INT16 is INT16.
"""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import sys
import threading
from ctypes import (
    POINTER,
    c_char_p,
    c_double,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any

from ._errors import ArgumentError, Error, RuntimeMissingError, VersionError, from_status

API_VERSION = 1

OK = 0
UINT8, INT16, UINT16, INT32, FLOAT32, FLOAT64 = 1, 2, 3, 4, 5, 6
LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG = 1, 2, 3, 4

LogFn = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)
ProgressFn = ctypes.CFUNCTYPE(c_int32, c_double, c_char_p, c_void_p)


class _Sized(ctypes.Structure):
    """A struct that begins with its own size; all other fields start as 0."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(struct_size=ctypes.sizeof(self), **fields)


class OpenOptions(_Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("device", c_char_p),
        ("folds", c_char_p),
        ("checkpoint", c_char_p),
        ("runtime", c_char_p),
        ("threads", c_int32),
        ("reserved", c_int32),
        ("mode", c_char_p),
        ("cache_dir", c_char_p),
        ("read_ahead", c_char_p),
        ("gpu_memory_limit", c_int64),
    ]


class Volume(_Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("data", c_void_p),
        ("dtype", c_int32),
        ("channels", c_int32),
        ("size", c_int64 * 3),
        ("spacing", c_double * 3),
        ("origin", c_double * 3),
        ("direction", c_double * 9),
    ]


class SegmentOptions(_Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("progress", ProgressFn),
        ("progress_user", c_void_p),
        ("probabilities", c_void_p),
        ("probabilities_count", c_size_t),
        ("probabilities_path", c_char_p),
        ("mirror", c_int32),
        ("postprocess", c_int32),
        ("previous", c_void_p),
        ("previous_bytes", c_size_t),
        ("previous_path", c_char_p),
        ("previous_dtype", c_int32),
        ("reserved", c_int32),
        ("box", c_void_p),
        ("roi", c_void_p),
        ("roi_count", c_size_t),
        ("max_memory_bytes", c_int64),
        ("report_path", c_char_p),
    ]


class WriteOptions(_Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("labels", c_char_p),
    ]


class EvaluateOptions(_Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("rules", c_char_p),
        ("labels_path", c_char_p),
        ("tolerance_mm", c_double),
        ("resample", c_int32),
        ("threads", c_int32),
        ("csv_path", c_char_p),
        ("html_path", c_char_p),
        ("progress", ProgressFn),
        ("progress_user", c_void_p),
    ]


class EfficiencyOptions(_Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("progress", ProgressFn),
        ("progress_user", c_void_p),
        ("gpu", c_int32),
        ("reserved", c_int32),
    ]


class PseudoLabelOptions(_Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("models", POINTER(c_char_p)),
        ("models_count", c_size_t),
        ("previous_path", c_char_p),
        ("ignore_below", c_double),
        ("soft_below", c_double),
        ("no_mirror", c_int32),
        ("shard", c_int32),
        ("shards", c_int32),
        ("threads", c_int32),
        ("device", c_char_p),
        ("mode", c_char_p),
        ("cache_dir", c_char_p),
        ("runtime", c_char_p),
        ("progress", ProgressFn),
        ("progress_user", c_void_p),
        ("weights", c_int32),
        ("reserved", c_int32),
    ]


class StudentOptions(_Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("runtime", c_char_p),
        ("progress", ProgressFn),
        ("progress_user", c_void_p),
    ]


class ConvertOptions(_Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("folder", c_char_p),
        ("onnx", c_char_p),
        ("plans", c_char_p),
        ("dataset", c_char_p),
        ("configuration", c_char_p),
        ("orientation", c_char_p),
        ("folds", c_char_p),
        ("checkpoint", c_char_p),
    ]


class TrainerOptions(_Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("model", c_char_p),
        ("plans", c_char_p),
        ("dataset", c_char_p),
        ("configuration", c_char_p),
        ("cache", c_char_p),
        ("fold", c_char_p),
        ("device", c_char_p),
        ("runtime", c_char_p),
        ("mode", c_char_p),
        ("optimizer", c_char_p),
        ("threads", c_int32),
        ("workers", c_int32),
        ("batch", c_int32),
        ("patch", c_int32 * 3),
        ("epochs", c_int32),
        ("iterations", c_int32),
        ("validation_iterations", c_int32),
        ("strong", c_int32),
        ("no_mirroring", c_int32),
        ("soft", c_int32),
        ("weighted", c_int32),
        ("reserved", c_int32),
        ("seed", c_uint64),
        ("learning_rate", c_double),
        ("momentum", c_double),
        ("weight_decay", c_double),
        ("clip", c_double),
        ("foreground", c_double),
        ("dropout", c_double),
        ("stochastic_depth", c_double),
    ]


class Batch(_Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("images", c_void_p),
        ("labels", c_void_p),
        ("soft", c_void_p),
        ("weights", c_void_p),
        ("images_dtype", c_int32),
        ("labels_dtype", c_int32),
        ("batch", c_int32),
        ("channels", c_int32),
        ("size", c_int64 * 3),
    ]


class TrainerResult(_Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("loss", c_double),
        ("cross_entropy", c_double),
        ("dice", c_double),
        ("counts", c_void_p),
        ("counts_count", c_size_t),
    ]


class TrainerProgress(_Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("phase", c_char_p),
        ("epoch", c_int32),
        ("epochs", c_int32),
        ("done", c_int32),
        ("total", c_int32),
        ("loss", c_double),
        ("learning_rate", c_double),
        ("dice", c_double),
        ("ema", c_double),
        ("step_seconds", c_double),
        ("seconds_left", c_double),
        ("waited", c_double),
    ]


TrainerProgressFn = ctypes.CFUNCTYPE(c_int32, POINTER(TrainerProgress), c_void_p)


class TrainerRunOptions(_Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("progress", TrainerProgressFn),
        ("progress_user", c_void_p),
        ("folder", c_char_p),
    ]


# What the functions of a batch have in common: result, trainer, batch.
_ON_BATCH = [POINTER(TrainerResult), c_void_p, POINTER(Batch)]

# name: (result, arguments). Handles are checked numbers, so c_void_p carries them.
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "flare_last_error": (c_char_p, []),
    "flare_status_name": (c_char_p, [c_int32]),
    "flare_api_version": (c_uint32, []),
    "flare_version": (c_char_p, []),
    "flare_set_log": (c_int32, [LogFn, c_void_p, c_int32]),
    "flare_free": (None, [c_void_p]),
    "flare_devices": (c_int32, [POINTER(c_void_p), c_char_p]),
    "flare_open_options_init": (None, [POINTER(OpenOptions), c_size_t]),
    "flare_model_open": (c_int32, [POINTER(c_void_p), c_char_p, POINTER(OpenOptions)]),
    "flare_model_describe": (c_int32, [POINTER(c_void_p), c_void_p]),
    "flare_model_free": (None, [c_void_p]),
    "flare_volume_init": (None, [POINTER(Volume), c_size_t]),
    "flare_segment_options_init": (None, [POINTER(SegmentOptions), c_size_t]),
    "flare_segment": (
        c_int32,
        [c_void_p, c_int32, c_size_t, c_void_p, POINTER(Volume), POINTER(SegmentOptions)],
    ),
    "flare_segment_file": (c_int32, [c_void_p, c_char_p, c_char_p, POINTER(SegmentOptions)]),
    "flare_cancel": (c_int32, [c_void_p]),
    "flare_model_stats": (c_int32, [POINTER(c_void_p), c_void_p]),
    "flare_image_open": (c_int32, [POINTER(c_void_p), c_char_p]),
    "flare_image_volume": (c_int32, [POINTER(Volume), c_void_p]),
    "flare_image_free": (None, [c_void_p]),
    "flare_write_options_init": (None, [POINTER(WriteOptions), c_size_t]),
    "flare_image_write": (c_int32, [c_char_p, POINTER(Volume), POINTER(WriteOptions)]),
    "flare_evaluate_options_init": (None, [POINTER(EvaluateOptions), c_size_t]),
    "flare_evaluate": (
        c_int32,
        [POINTER(c_void_p), POINTER(Volume), POINTER(Volume), POINTER(EvaluateOptions)],
    ),
    "flare_evaluate_file": (
        c_int32,
        [POINTER(c_void_p), c_char_p, c_char_p, POINTER(EvaluateOptions)],
    ),
    "flare_efficiency_options_init": (None, [POINTER(EfficiencyOptions), c_size_t]),
    "flare_efficiency": (
        c_int32,
        [POINTER(c_void_p), POINTER(c_char_p), c_size_t, POINTER(EfficiencyOptions)],
    ),
    "flare_pseudo_label_options_init": (None, [POINTER(PseudoLabelOptions), c_size_t]),
    "flare_pseudo_label": (
        c_int32,
        [POINTER(c_void_p), c_char_p, c_char_p, POINTER(PseudoLabelOptions)],
    ),
    "flare_labeller_open": (
        c_int32,
        [POINTER(c_void_p), c_char_p, c_char_p, POINTER(PseudoLabelOptions)],
    ),
    "flare_labeller_cases": (c_int32, [POINTER(c_void_p), c_void_p]),
    "flare_labeller_label": (c_int32, [POINTER(c_void_p), c_void_p, c_char_p]),
    "flare_labeller_cancel": (c_int32, [c_void_p]),
    "flare_labeller_free": (None, [c_void_p]),
    "flare_student_options_init": (None, [POINTER(StudentOptions), c_size_t]),
    "flare_student": (c_int32, [POINTER(c_void_p), c_char_p, POINTER(StudentOptions)]),
    "flare_convert_options_init": (None, [POINTER(ConvertOptions), c_size_t]),
    "flare_convert": (c_int32, [c_char_p, POINTER(ConvertOptions)]),
    "flare_trainer_options_init": (None, [POINTER(TrainerOptions), c_size_t]),
    "flare_trainer_open": (c_int32, [POINTER(c_void_p), POINTER(TrainerOptions)]),
    "flare_trainer_describe": (c_int32, [POINTER(c_void_p), c_void_p]),
    "flare_trainer_add_case": (c_int32, [c_void_p, c_char_p, POINTER(Volume), POINTER(Volume)]),
    "flare_batch_init": (None, [POINTER(Batch), c_size_t]),
    "flare_trainer_result_init": (None, [POINTER(TrainerResult), c_size_t]),
    "flare_trainer_step": (c_int32, _ON_BATCH),
    "flare_trainer_backward": (c_int32, [*_ON_BATCH, c_int32]),
    "flare_trainer_evaluate": (c_int32, _ON_BATCH),
    "flare_trainer_apply": (c_int32, [c_void_p]),
    "flare_trainer_parameters": (c_int32, [POINTER(c_void_p), POINTER(c_size_t), c_void_p]),
    "flare_trainer_gradients": (c_int32, [POINTER(c_void_p), POINTER(c_size_t), c_void_p]),
    "flare_trainer_set_learning_rate": (c_int32, [c_void_p, c_double]),
    "flare_trainer_get_learning_rate": (c_int32, [POINTER(c_double), c_void_p]),
    "flare_trainer_save": (c_int32, [c_void_p, c_char_p]),
    "flare_trainer_load": (c_int32, [c_void_p, c_char_p]),
    "flare_trainer_export": (c_int32, [c_void_p, c_char_p]),
    "flare_trainer_run_options_init": (None, [POINTER(TrainerRunOptions), c_size_t]),
    "flare_trainer_run": (c_int32, [c_void_p, POINTER(TrainerRunOptions)]),
    "flare_trainer_cancel": (c_int32, [c_void_p]),
    "flare_trainer_free": (None, [c_void_p]),
}


Path = str | os.PathLike[str]


def c_text(name: str, value: str | None) -> bytes | None:
    """A str argument for C."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is of type {type(value).__name__}; expected a str")
    return None if value is None else _without_nul(name, value.encode())


def c_path(name: str, value: Path | None) -> bytes | None:
    """A path argument for C."""
    return None if value is None else _without_nul(name, os.fsencode(value))


def _without_nul(name: str, value: bytes) -> bytes:
    if b"\0" in value:  # C would take what stands before it
        raise ArgumentError(f"{name} holds a NUL character: {value!r}")
    return value


def check(status: int) -> None:
    """Raises the exception of a failed call. To be called on the thread of that call."""
    if status != OK:
        raise from_status(status, library().flare_last_error().decode("utf-8", "replace"))


def c_threads(threads: int) -> int:
    """A number of threads that C does not cut."""
    if not -(2**31) <= threads < 2**31:
        raise ArgumentError(f"threads is {threads}; expected 0 or a number of threads")
    return threads


def take_json(text: c_void_p) -> Any:
    """Reads JSON text that a function gave through a char**, and frees it."""
    try:
        return json.loads(ctypes.string_at(text.value or 0).decode("utf-8"))
    finally:
        library().flare_free(text)


# ------------------------------------------------------------- finding the library ------

VARIABLE = "FLARE_LIBRARY"
FILE = {"darwin": "libflare.1.dylib", "win32": "flare.dll"}.get(sys.platform, "libflare.so.1")

_library: ctypes.CDLL | None = None
_lock = threading.Lock()


def library() -> ctypes.CDLL:
    """The loaded library; the first call loads it."""
    return _library or load()


def load(path: Path | None = None) -> ctypes.CDLL:
    """See flare.load."""
    global _library
    with _lock:
        if _library is None:
            _library = _find(path)
        elif path is not None and _as_file(path) != os.path.realpath(_library._name):
            raise Error(
                f"cannot load {os.fspath(path)}: libflare is already loaded from "
                f"{_library._name}, and a process can have only one"
            )
        return _library


def _find(path: Path | None) -> ctypes.CDLL:
    variable = os.environ.get(VARIABLE)
    if path is not None:
        return _open(_as_file(path))
    if variable:
        return _open(_as_file(variable), f" (named by {VARIABLE})")

    package = pathlib.Path(__file__).resolve().parent
    places = [package / "lib" / FILE]
    if len(package.parents) > 2 and (package.parents[2] / "include" / "flare.h").is_file():
        places.append(package.parents[2] / "build" / "lib" / FILE)
    for place in places:
        if place.is_file():
            return _open(str(place))
    try:
        return _open(FILE)
    except RuntimeMissingError as error:
        looked = [
            f"{VARIABLE}: not set",
            *(f"{place}: no such file" for place in places),
            str(error),
        ]
        raise RuntimeMissingError(
            "libflare was not found. Looked at:\n  "
            + "\n  ".join(looked)
            + f"\nBuild it (./build.sh), or name it: {VARIABLE}=FILE, or flare.load(FILE)"
        ) from None


def _as_file(path: Path) -> str:
    name = os.path.join(path, FILE) if os.path.isdir(path) else path
    return os.path.realpath(name)


def _open(name: str, origin: str = "") -> ctypes.CDLL:
    try:
        found = ctypes.CDLL(name, mode=ctypes.RTLD_LOCAL)
    except OSError as error:
        raise RuntimeMissingError(f"{name}{origin}: {error}") from None
    try:
        version = ctypes.CFUNCTYPE(c_uint32)(("flare_api_version", found))()
        if version != API_VERSION:
            raise VersionError(
                f"{name}{origin} has interface version {version}; "
                f"this Python package needs {API_VERSION}"
            )
        for function, (result, arguments) in FUNCTIONS.items():
            entry = getattr(found, function)
            entry.restype, entry.argtypes = result, arguments
    except AttributeError as error:
        raise VersionError(f"{name}{origin} is no libflare that fits: {error}") from None
    return found
