"""What Model, Trainer and Labeller have in common: a number of the library's, and its end."""

from __future__ import annotations

import ctypes
from types import TracebackType
from typing import Any, ClassVar, NoReturn, TypeVar

from . import _abi, _call
from ._errors import HandleError

H = TypeVar("H", bound="Handle")


class Handle:
    """Something open in the library, closed by close, by the end of a with block, or with the
    object."""

    _free_name: ClassVar[str]  # C functions
    _cancel_name: ClassVar[str]

    def __init__(self) -> None:
        self._library = _abi.library()
        self._handle = ctypes.c_void_p()

    def cancel(self) -> None:
        """Cancels the calls that are running or waiting on this object; they raise
        flare.Cancelled. Returns at once; may be called from any thread."""
        _abi.check(getattr(self._library, self._cancel_name)(self._live()))

    def close(self) -> None:
        """Closes it; a running call on it is cancelled. May be called again."""
        _call.refuse_in_callback()
        self._free()

    def __enter__(self: H) -> H:
        self._live()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._free()

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        raise TypeError(f"a flare.{name} cannot be pickled; open it in the process that uses it")

    def _what(self) -> str:
        """How errors call it."""
        return f"the {type(self).__name__.lower()}"

    def _free(self) -> None:
        handle, self._handle = self._handle, ctypes.c_void_p()
        if handle:
            getattr(self._library, self._free_name)(handle)

    def _live(self) -> ctypes.c_void_p:
        """The number, if it is not closed."""
        handle = self._handle
        if not handle:
            raise HandleError(f"{self._what()} is closed")
        return handle

    def _opened(self) -> ctypes.c_void_p:
        """The number for a call other than cancel."""
        _call.refuse_in_callback()
        return self._live()

    def _run(self, call: Any, progress: _call.Progress | None = None) -> None:
        """Makes a long call, which Ctrl-C cancels."""
        cancel, handle = getattr(self._library, self._cancel_name), self._opened()
        _call.run(call, lambda: cancel(handle), progress or _call.Progress(None))

    def _json(self, function: Any) -> Any:
        """What a function that only asks gives."""
        answer = ctypes.c_void_p()
        _abi.check(function(ctypes.byref(answer), self._opened()))
        return _abi.take_json(answer)
