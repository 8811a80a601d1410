"""One exception class per flare_status, so that callers can catch by kind."""

from __future__ import annotations

from typing import Any


class Error(RuntimeError):
    """Any failure of libflare. The message says what was found, where, and what to do."""

    status: int = -1
    """The flare_status of include/flare.h."""

    report: dict[str, Any] | None = None
    """Where other cases of a call went well: what it would have returned."""


class InternalError(Error):
    """A defect in the library."""


class ArgumentError(Error, ValueError):
    """A value given by the caller is wrong."""

    status = -2


class HandleError(Error):
    """The model is closed."""

    status = -3


class NotFoundError(Error, FileNotFoundError):
    """A file or folder does not exist."""

    status = -4


class FileError(Error, OSError):
    """Reading or writing failed (permission, full disk)."""

    status = -5


class FormatError(Error):
    """The content of a file is malformed."""

    status = -6


class UnsupportedError(Error):
    """Well-formed, but not supported."""

    status = -7


class ModelError(Error):
    """Parts of a model, or model and image, do not fit each other."""

    status = -8


class OutOfMemoryError(Error, MemoryError):
    """An allocation failed or was refused."""

    status = -9


class DeviceError(Error):
    """The device does not exist or failed."""

    status = -10


class RuntimeMissingError(Error):
    """A library is missing, too old, or failed: ONNX Runtime, or libflare itself."""

    status = -11


class Cancelled(Error):
    """The call was cancelled by Model.cancel, or by the progress callback's answer."""

    status = -12


class PanicError(Error):
    """The library caught a defect in itself; later calls fail likewise."""

    status = -13


class ForkedError(Error):
    """Called in a child of os.fork(); use the multiprocessing method "spawn"."""

    status = -14


class VersionError(Error):
    """This package and the libflare that it found do not fit each other."""

    status = -15


_CLASSES = {cls.status: cls for cls in Error.__subclasses__()}


def from_status(status: int, message: str) -> Error:
    """The exception for a status other than FLARE_OK."""
    error = _CLASSES.get(status, Error)(message)
    error.status = status
    return error
