"""Packages that only parts of this one need."""

from __future__ import annotations

import importlib
from typing import Any


def module(name: str, what: str, extra: str) -> Any:
    """The module; where it is not installed the error says what needs it and how to get it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        raise ModuleNotFoundError(
            f"{what} needs {package} ({error}): pip install {package}, or libflare[{extra}]",
            name=error.name,
        ) from None
