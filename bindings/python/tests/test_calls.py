"""Callbacks, cancelling, Ctrl-C, threads, closing, fork: on the fake library."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from helpers import in_fork

import flare

pytestmark = pytest.mark.usefixtures("fake")

CT = np.zeros((4, 5, 6), np.int16)
SPACING = (1, 1, 2)


@pytest.fixture
def slow() -> Iterator[flare.Model]:
    """A model whose call takes 20 s unless it is cancelled; no test may take 2."""
    start = time.monotonic()
    with flare.Model("slow") as model:
        yield model
    assert time.monotonic() - start < 2


def later(function: Callable[..., object], *args: object) -> None:
    threading.Timer(0.2, function, args).start()


def in_thread(function: Callable[[], object]) -> Any:
    """What function returns or raises on another thread."""
    result: list[object] = []

    def work() -> None:
        try:
            result.append(function())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return result[0]


def test_progress_is_told() -> None:
    told: list[tuple[float, str]] = []
    with flare.Model("echo") as model:
        model.segment(CT, SPACING, progress=lambda *call: told.append(call))
        model.segment_file("in.nii", "out.nii", progress=lambda *call: told.append(call))
    assert told == [(0.5, "network"), (1.0, "network")] * 2


@pytest.mark.parametrize("place", ["main thread", "other thread"])
def test_progress_that_raises(slow: flare.Model, place: str) -> None:
    def progress(fraction: float, phase: str) -> None:
        if fraction > 0.001:
            raise KeyError("mine")

    def call() -> object:
        return slow.segment(CT, SPACING, progress=progress)

    if place == "main thread":
        with pytest.raises(KeyError, match="mine") as caught:
            call()
        error: BaseException = caught.value
    else:
        error = in_thread(call)
    assert isinstance(error, KeyError)
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert frames[-1] == "progress" and "segment" in frames
    assert error.__context__ is None
    assert slow.describe()["heads"] == 2


def test_progress_that_answers_true_cancels(slow: flare.Model) -> None:
    with pytest.raises(flare.Cancelled):
        slow.segment(CT, SPACING, progress=lambda fraction, phase: fraction > 0.001)


def test_progress_must_not_call_the_library(slow: flare.Model) -> None:
    for function in slow.close, slow.describe, lambda: slow.segment(CT, SPACING):
        with pytest.raises(flare.Error, match="must not call"):
            slow.segment(CT, SPACING, progress=lambda *_, call=function: call())
    with pytest.raises(flare.Cancelled):
        slow.segment(CT, SPACING, progress=lambda fraction, phase: slow.cancel())


def test_progress_of_wrong_type() -> None:
    with flare.Model("echo") as model, pytest.raises(TypeError, match="progress"):
        model.segment(CT, SPACING, progress=1)  # type: ignore[call-overload]


def test_cancel_from_another_thread(slow: flare.Model) -> None:
    later(slow.cancel)
    with pytest.raises(flare.Cancelled):
        slow.segment_file("in.nii", "out.nii")


def test_close_ends_a_running_call(slow: flare.Model) -> None:
    later(lambda: (slow.cancel(), slow.close()))
    with pytest.raises(flare.Cancelled):
        slow.segment(CT, SPACING)
    with pytest.raises(flare.HandleError):
        slow.segment(CT, SPACING)


def test_interrupt(slow: flare.Model) -> None:
    later(os.kill, os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        slow.segment(CT, SPACING)
    assert slow.describe()["heads"] == 2


def test_interrupt_of_a_call_that_waits(slow: flare.Model) -> None:
    """Both calls are cancelled; the one that waits may only be so once it has begun."""
    first: list[object] = []
    thread = threading.Thread(
        target=lambda: first.append(in_thread(lambda: slow.segment(CT, SPACING)))
    )
    thread.start()
    time.sleep(0.1)
    later(os.kill, os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        slow.segment(CT, SPACING)
    thread.join()
    assert isinstance(first[0], flare.Cancelled)


@pytest.mark.parametrize("started", [True, False])
def test_interrupt_while_the_call_starts(
    slow: flare.Model, monkeypatch: pytest.MonkeyPatch, started: bool
) -> None:
    """No call stays behind, running where nobody waits for it."""
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if started:
            start(thread)
            time.sleep(0.05)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(threading.Thread, "start", interrupted)
        slow.segment(CT, SPACING)
    time.sleep(0.05)
    assert "flare call" not in [thread.name for thread in threading.enumerate()]


def test_python_signal_handlers_run_during_a_call(slow: flare.Model) -> None:
    ran: list[float] = []
    old = signal.signal(signal.SIGALRM, lambda number, frame: ran.append(time.monotonic()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        later(slow.cancel)
        start = time.monotonic()
        with pytest.raises(flare.Cancelled):
            slow.segment(CT, SPACING)
    finally:
        signal.signal(signal.SIGALRM, old)
    assert len(ran) == 1 and ran[0] - start < 0.2


def test_failed_calls_keep_no_arrays(slow: flare.Model) -> None:
    array = CT.copy()
    alive = weakref.ref(array)
    gc.disable()
    try:
        for progress in lambda *_: True, lambda *_: 1 / 0:
            try:
                slow.segment(array, SPACING, progress=progress)
            except (flare.Cancelled, ZeroDivisionError):
                pass
        del array
        assert alive() is None
    finally:
        gc.enable()


def test_many_threads() -> None:
    with flare.Model("echo") as model:

        def work(value: int) -> None:
            answer = in_thread(lambda: model.segment(CT + value, SPACING, probabilities=True))
            results[value] = (answer[0] == value).all()

        results: dict[int, bool] = {}
        threads = [threading.Thread(target=work, args=(value,)) for value in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == dict.fromkeys(range(16), True)


def test_closed_model() -> None:
    model = flare.Model("echo")
    assert repr(model) == "<flare.Model 'echo'>"
    model.close()
    model.close()
    assert "closed" in repr(model)
    for call in (
        lambda: model.segment(CT, SPACING),
        lambda: model.segment_file("in.nii", "out.nii"),
        lambda: model.stats,
        model.describe,
        model.cancel,
        model.__enter__,
    ):
        with pytest.raises(flare.HandleError, match="echo.*closed"):
            call()


def test_stale_handle_is_the_librarys_to_find() -> None:
    model = flare.Model("echo")
    model._library.flare_model_free(model._handle)
    with pytest.raises(flare.HandleError, match="stale"):
        model.segment(CT, SPACING)


def test_forgotten_model_is_freed() -> None:
    for _ in range(50):  # the fake has room for 16
        flare.Model("echo")


def test_model_is_not_pickled() -> None:
    with flare.Model("echo") as model, pytest.raises(TypeError, match="open it in the process"):
        pickle.dumps(model)


def test_errors_are_pickled() -> None:
    for cls in flare.ArgumentError, flare.NotFoundError, flare.OutOfMemoryError:
        copy = pickle.loads(pickle.dumps(cls("what was found")))
        assert type(copy) is cls and str(copy) == "what was found" and copy.status == cls.status


def test_fork() -> None:
    with flare.Model("echo") as model:
        assert in_fork(lambda: model.segment(CT, SPACING)).startswith("ForkedError")
        assert in_fork(lambda: flare.Model("echo")).startswith("ForkedError")
        assert in_fork(model.close) == "returned None"
        assert (model.segment(CT, SPACING) == 0).all()


def test_log(caplog: pytest.LogCaptureFixture) -> None:
    with flare.Model("echo") as model:
        with caplog.at_level(logging.DEBUG):
            flare.set_log(logging.getLogger("flare").log)
            model.segment(CT, SPACING)
            flare.set_log(logging.getLogger("flare").log, logging.WARNING)
            model.segment(CT, SPACING)
            flare.set_log(None)
            model.segment(CT, SPACING)
    assert caplog.record_tuples == [("flare", logging.INFO, "a tile")] * 2
    with pytest.raises(flare.ArgumentError, match="level"):
        flare.set_log(print, 3)
