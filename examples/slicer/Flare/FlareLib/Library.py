"""libflare in Slicer's Python: found once, with one open model that outlives a run."""

import os
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


class LibraryError(RuntimeError):
    """libflare is not there or does not load; the message says how to install it."""


def load() -> Any:
    """The package flare, with its library loaded; any thread."""
    try:
        import flare
    except ImportError as error:
        raise LibraryError(
            f"The Python package libflare is missing in Slicer's Python {sys.version.split()[0]} ({error}).\n"
            + (
                _INSTALL
                if sys.version_info >= (3, 10)
                else "It needs Python 3.10: Slicer 5.10 or newer."
            )
        ) from None
    try:
        flare.load()
    except (flare.RuntimeMissingError, flare.VersionError) as error:
        raise LibraryError(f"libflare does not load: {error}\n{_INSTALL}") from None
    return flare


_INSTALL = (  # by the wheel's path: the name may be anybody's on PyPI
    "Install its wheel, which ./build.sh wheel makes, in Slicer's Python console; then Apply again:\n"
    '    slicer.util.pip_install("/path/to/libflare-....whl")'
)


def devices() -> list[str]:
    """Names of the devices that this machine can run a network on."""
    return [device["name"] for device in load().devices()["devices"] if device["available"]]


@contextmanager
def model(path: str, device: str, mode: str) -> Iterator[Any]:
    """The open flare.Model of a path, for the caller alone until the block ends.

    It stays open after that, until another is asked for or its files change, so that the next
    run begins at once.
    """
    flare, kept = load(), _kept()
    with kept.lock:
        key = (path, device, mode, _version(path))
        if kept.key != key:
            if kept.model is not None:
                kept.model.close()
            kept.key = kept.model = None  # also if opening fails
            kept.model = flare.Model(path, device=device, mode=mode)
            kept.key = key
        yield kept.model


def cancel(model: Any) -> None:
    """Cancels the calls on an open model; nothing if another run has closed it meanwhile."""
    with suppress(load().HandleError):
        model.cancel()


def _version(path: str) -> Any:
    """Changes when the files of a model do."""
    if path.endswith(".json"):
        return object()  # a list: its models may be anywhere
    files = Path(path).rglob("*") if os.path.isdir(path) else [Path(path)]
    return max((file.stat().st_mtime_ns for file in files if file.exists()), default=0)


def _kept() -> Any:
    """What outlives Slicer's "Reload", which makes new objects of all of this package."""
    new = types.ModuleType("_flare_slicer", "The model that the Slicer module Flare keeps open.")
    new.lock, new.key, new.model = threading.Lock(), None, None  # type: ignore[attr-defined]
    return sys.modules.setdefault("_flare_slicer", new)
