"""Calls that take long: progress callbacks that may raise, and Ctrl-C."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from . import _abi, _optional
from ._errors import Cancelled, Error

ProgressCallback = Callable[[float, str], object]

_callback = threading.local()  # .running: whether this thread is in a progress callback


def refuse_in_callback() -> None:
    """A callback that calls the library would wait for itself for ever."""
    if getattr(_callback, "running", False):
        raise Error("a progress callback must not call the library, except cancel")


class Progress:
    """The caller's progress function as a C function, of kind, that never raises; read makes the
    caller's arguments of C's. True instead of a function: a bar, shown while it is a context.

    What the function raises is kept in `raised` and cancels the call; so does stop.
    """

    def __init__(
        self,
        function: Callable[..., object] | bool | None,
        kind: Any = _abi.ProgressFn,
        read: Callable[..., tuple[Any, ...]] = lambda fraction, phase: (fraction, phase.decode()),
        stop: threading.Event | None = None,
    ) -> None:
        self._bar = _Bar() if function is True and kind is _abi.ProgressFn else None
        if self._bar:
            function = self._bar.told
        elif function is False:
            function = None
        if function is not None and not callable(function):
            raise TypeError(f"progress is of type {type(function).__name__}; expected a function")
        raised: list[BaseException] = []

        def call(*told: Any) -> int:  # the last is C's user pointer
            _callback.running = True
            try:
                if raised or (stop and stop.is_set()):
                    return 1
                return 1 if function and function(*read(*told[:-1])) else 0
            except BaseException as error:
                raised.append(error)
                return 1
            finally:
                _callback.running = False

        self.raised = raised
        self.pointer = kind(call) if function or stop else kind()

    def __enter__(self) -> None:
        if self._bar:
            self._bar.begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.end(kind is None)


class _Bar:
    """tqdm's bar, in a notebook its widget. It is made and closed on the thread of the call,
    whose output it belongs to."""

    def __init__(self) -> None:
        self._tqdm = _optional.module("tqdm.auto", "progress=True", "notebook").tqdm

    def begin(self) -> None:
        self._shown = self._tqdm(total=100, bar_format="{desc}{percentage:3.0f}%|{bar}| {elapsed}")

    def told(self, fraction: float, phase: str) -> None:
        self._shown.set_description(phase, refresh=False)
        self._shown.update(100 * fraction - self._shown.n)

    def end(self, whole: bool) -> None:
        if whole:
            self._shown.update(100 - self._shown.n)
        self._shown.close()


def stoppable(progress: ProgressCallback | bool | None) -> tuple[Progress, Callable[[], None]]:
    """The caller's progress function, and what cancels a call that has it: for calls without a
    handle to cancel."""
    stop = threading.Event()
    return Progress(progress, stop=stop), stop.set


def report(
    call: Callable[[Any], int], cancel: Callable[[], object], progress: Progress
) -> dict[str, Any]:
    """Makes a call that gives JSON through a char**, also where it fails for some cases: then
    the exception has it in its attribute report."""
    refuse_in_callback()
    answer = ctypes.c_void_p()
    try:
        run(lambda: call(ctypes.byref(answer)), cancel, progress)
    except Error as error:
        if answer:
            error.report = _abi.take_json(answer)
        raise
    result: dict[str, Any] = _abi.take_json(answer)
    return result


def run(call: Callable[[], int], cancel: Callable[[], object], progress: Progress) -> None:
    """Makes the call and raises what came of it."""
    try:
        with progress:
            if threading.current_thread() is threading.main_thread():
                _run_interruptible(call, cancel)
            else:
                _abi.check(call())
    except Cancelled:
        if not progress.raised:
            raise
    if progress.raised:
        raise progress.raised.pop(0)


def _run_interruptible(call: Callable[[], int], cancel: Callable[[], object]) -> None:
    """Makes the call on another thread, so that Python runs its signal handlers meanwhile.

    They run only on the main thread, between two bytecodes. What one of them raises
    (KeyboardInterrupt) cancels the call, and is raised when the call has returned: until then
    it writes to our arrays.
    """
    done = threading.Event()
    begin = threading.Lock()  # taken by the thread that makes the call, or here, to forbid it
    failure: list[BaseException] = []
    interrupt: list[BaseException] = []

    def work() -> None:
        if not begin.acquire(blocking=False):
            return
        try:
            _abi.check(call())
        except BaseException as error:
            failure.append(error)
        finally:
            done.set()

    try:
        threading.Thread(target=work, name="flare call").start()
    except BaseException as error:  # a signal, or there was no thread to be had
        if begin.acquire(blocking=False):
            raise
        interrupt.append(error)
    while True:
        try:
            if interrupt:
                cancel()  # again and again: the first may come before the call has begun
            if done.wait(0.1):
                break
        except BaseException as error:
            interrupt.append(error)
    # pop, so that no exception is held by a frame of its own traceback, with all our arrays
    if interrupt:
        raise interrupt.pop(0)
    if failure:
        raise failure.pop()
