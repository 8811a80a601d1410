"""A real napari window, and the files and the model that go through it.

Needs a display (xvfb-run gives one), FLARE_CLI, FLARE_TEST_MODEL and the library, as
`./build.sh test` sets them.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flare
import napari
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QEventLoop, QTimer

from napari_flare._widget import SegmentWidget

MODEL = os.environ["FLARE_TEST_MODEL"]


def wait(until: Callable[[], Any], seconds: float = 60) -> float:
    """Lets the window live until something is so; returns the longest time in seconds that it
    did not answer."""
    loop, end = QEventLoop(), time.monotonic() + seconds
    last, longest = time.monotonic(), 0.0

    def beat() -> None:
        nonlocal last, longest
        now = time.monotonic()
        last, longest = now, max(longest, now - last)
        if until() or now > end:
            loop.quit()

    timer = QTimer()
    timer.timeout.connect(beat)
    timer.start(5)
    loop.exec()
    timer.stop()
    assert until(), "timed out"
    return longest


def flare_cli(*arguments: Any) -> None:
    subprocess.run([os.environ["FLARE_CLI"], *map(str, arguments)], check=True)


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A part of a synthetic CT, and the labels that the command line makes of it."""
    folder = tmp_path_factory.mktemp("phäntom 肝")
    flare_cli("phantom", folder)
    (whole,) = (folder / "imagesTr").iterdir()
    image, ct, labels = flare.read(whole), folder / "ct.nii.gz", folder / "labels.nii.gz"
    flare.write(ct, image.array[22:102], image.spacing, image.origin, image.direction)
    flare_cli("segment", ct, labels, "--model", MODEL)
    return ct, labels


@pytest.fixture(scope="session")
def window() -> Iterator[napari.Viewer]:
    opened = napari.Viewer()
    yield opened
    opened.close()


@pytest.fixture
def viewer(window: napari.Viewer) -> Iterator[napari.Viewer]:
    """The one window, empty."""
    notification_manager.records.clear()
    yield window
    window.window.remove_dock_widget("all")
    window.layers.clear()


@pytest.fixture
def widget(viewer: napari.Viewer) -> SegmentWidget:
    _, made = viewer.window.add_plugin_dock_widget("napari-flare", "Segment (nnU-Net)")
    assert isinstance(made, SegmentWidget)
    made.model.setText(MODEL)
    return made


def told() -> list[str]:
    """What notifications have said."""
    return [str(record.message) for record in notification_manager.records]


def finished(widget: SegmentWidget) -> Callable[[], bool]:
    return lambda: widget.run_button.isEnabled()
