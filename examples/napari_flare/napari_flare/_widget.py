"""The dock widget: model, image, device, mode; Run, Cancel, progress; the organs found."""

from __future__ import annotations

import os
from typing import Any

import flare
from flare.organs import colour
from napari.layers import Image, Labels
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.compat import isalive
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QToolButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ._geometry import METADATA, Unfit, geometry_of, has_millimetres, place
from ._segmenter import Job, Segmenter, volumes
from ._worker import Worker, prepare

PHASES = {
    "open": "Opening the model",
    "preprocess": "Preparing the image",
    "network": "Network",
    "export": "Making labels",
}
MODES = {
    "exact": ("Exact: the labels of nnU-Net", "fp32"),
    "fast": ("Fast: almost the same", "bf16 or fp16 where the device has it, no tiles of air"),
}


class SegmentWidget(QWidget):
    """Segments an image layer of the viewer into a labels layer."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._segmenter = Segmenter()
        self._worker: Worker | None = None
        self._image: Image | None = None  # of the running job
        self._labels: Labels | None = None  # the last result
        self._build()
        # LPS is right-handed; with napari's own depth axis 3-D views would be mirror images.
        napari_viewer.camera.orientation = ("away", "down", "right")
        layers = napari_viewer.layers
        layers.events.inserted.connect(self._layers_changed)
        layers.events.removed.connect(self._layers_changed)
        layers.events.reordered.connect(self._layers_changed)
        self._layers_changed()
        self._running(None)
        create_worker(
            prepare,
            _connect={"returned": self._devices_known, "errored": self._devices_unknown},
        )

    # ------------------------------------------------------------------ the form ---------

    def _build(self) -> None:
        self.model = QLineEdit(placeholderText="bundle (.onnx), list (.json) or results folder")
        self.model.setToolTip("A bundle made by flare convert, or an nnU-Net v2 results folder")
        file, folder = QToolButton(text="File…"), QToolButton(text="Folder…")
        file.clicked.connect(self._choose_file)
        folder.clicked.connect(self._choose_folder)
        choosers = QHBoxLayout()
        for button in (file, folder):
            choosers.addWidget(button)
        choosers.addStretch()

        self.layer = QComboBox()
        self.device = QComboBox()
        self.device.addItem("auto", "auto")
        self.mode = QComboBox()
        for mode, (text, hint) in MODES.items():
            self.mode.addItem(text, mode)
            self.mode.setItemData(self.mode.count() - 1, hint, Qt.ItemDataRole.ToolTipRole)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Model", self.model)
        form.addRow("", choosers)
        form.addRow("Image", self.layer)
        form.addRow("Device", self.device)
        form.addRow("Mode", self.mode)

        self.run_button, self.cancel_button = QPushButton("Run"), QPushButton("Cancel")
        self.run_button.clicked.connect(self.run)
        self.cancel_button.clicked.connect(self.cancel)
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button)
        buttons.addWidget(self.cancel_button)
        self.bar = QProgressBar(maximum=1000)
        self.status = QLabel(wordWrap=True)

        self.organs = QTreeWidget()
        self.organs.setColumnCount(2)
        self.organs.setHeaderHidden(True)
        self.organs.setRootIsDecorated(False)
        self.organs.setColumnWidth(0, 170)
        self.organs.itemClicked.connect(self._organ_clicked)

        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addLayout(buttons)
        for widget in (self.bar, self.status, self.organs):
            layout.addWidget(widget)

    def _choose_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Model", self.model.text(), "Models (*.onnx *.json);;All files (*)"
        )
        if path:
            self.model.setText(path)

    def _choose_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Results folder", self.model.text())
        if path:
            self.model.setText(path)

    def _devices_known(self, found: dict[str, Any]) -> None:
        for device in found["devices"]:
            self.device.addItem(device["name"], device["name"])
            at = self.device.count() - 1
            hint = device["description"] if device["available"] else device["reason"]
            self.device.setItemData(at, hint, Qt.ItemDataRole.ToolTipRole)
            self.device.model().item(at).setEnabled(bool(device["available"]))

    def _devices_unknown(self, error: Exception) -> None:
        self._say(str(error))

    def _layers_changed(self, event: Any = None) -> None:
        """The choice of layers is the viewer's images; what is chosen stays chosen."""
        if not isalive(self):  # closed; the viewer's layers live on
            return
        chosen = self.layer.currentData()
        images = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        self.layer.clear()
        for layer in images:
            self.layer.addItem(layer.name, layer)
            layer.events.name.disconnect(self._layers_changed)
            layer.events.name.connect(self._layers_changed)
        if chosen in images:
            self.layer.setCurrentIndex(images.index(chosen))

    # ------------------------------------------------------------------- running ---------

    def run(self) -> None:
        """Starts segmenting what is chosen."""
        if self._worker is not None:
            return
        try:
            layer, job = self._job()
        except Unfit as error:
            self._say(str(error))
            show_error(str(error))
            return
        if not has_millimetres(layer):
            show_warning(f"{layer.name!r} has no units: its scale is taken for millimetres in LPS.")
        worker = Worker(self._segmenter, job, where_of(layer, job))
        worker.progress.connect(self._progressed)
        worker.doubted.connect(show_warning)
        worker.segmented.connect(self._segmented)
        worker.errored.connect(self._failed)
        worker.finished.connect(self._finished)
        self.destroyed.connect(worker.quit)
        self._image = layer
        self._running(worker)
        worker.start()

    def cancel(self) -> None:
        """Ends the running call within the time of one tile."""
        if self._worker is not None:
            self._say("Cancelling…")
            self.cancel_button.setEnabled(False)
            self._worker.quit()

    def _job(self) -> tuple[Any, Job]:
        path = self.model.text().strip()
        if not path:
            raise Unfit("No model: choose a bundle (.onnx), a list (.json) or a results folder.")
        layer = self.layer.currentData()
        if layer is None:
            raise Unfit("No image: open one first (File, Open File).")
        if layer.rgb:
            raise Unfit(f"{layer.name!r} is a colour picture; choose a volume of one channel.")
        if layer.multiscale:
            raise Unfit(f"{layer.name!r} has several resolutions; choose an image of one.")
        if layer.ndim not in (3, 4):
            raise Unfit(
                f"{layer.name!r} has {layer.ndim} axes; expected a volume z, y, x, or with "
                f"channels as first axis."
            )
        return layer, Job(
            os.path.expanduser(path),
            self.device.currentData(),
            self.mode.currentData(),
            layer.name,
            layer.data,
            geometry_of(layer),
        )

    def _running(self, worker: Worker | None) -> None:
        self._worker = worker
        for widget in (self.run_button, self.model, self.layer, self.device, self.mode):
            widget.setEnabled(worker is None)
        self.cancel_button.setEnabled(worker is not None)
        self.bar.setVisible(worker is not None)
        self.bar.setValue(0)

    def _progressed(self, fraction: float, phase: str) -> None:
        self.bar.setValue(round(1000 * fraction))
        if self.cancel_button.isEnabled():
            self._say(f"{PHASES.get(phase, phase)}…")

    def _segmented(self, labels: Labels) -> None:
        """Shows the labels, where the image is."""
        self._viewer.add_layer(labels)
        if self._image not in self._viewer.layers:
            show_info("The image was removed meanwhile; its labels are here all the same.")
        stats = labels.metadata[METADATA]["stats"]
        self._say(f"{stats['seconds']['total']:.1f} s on {stats['device']}, {stats['precision']}.")
        self._labels = labels
        self.organs.clear()
        assert self._worker is not None
        create_worker(  # from now on, as two threads of Python hinder each other
            volumes,
            labels.data,
            self._worker.job.geometry,
            _connect={"returned": self._measured},
        )

    def _measured(self, volumes: dict[int, float]) -> None:
        """Lists the organs that were found."""
        assert self._labels is not None
        self.organs.clear()
        features = self._labels.features
        names = dict(zip(features["index"], features["name"], strict=True))
        for value, ml in volumes.items():
            name = names.get(value, str(value))
            item = QTreeWidgetItem(
                self.organs, [name, f"{ml:.1f} ml" if ml < 10 else f"{ml:.0f} ml"]
            )
            swatch = QPixmap(14, 14)
            swatch.fill(QColor(*colour(value, name)))
            item.setIcon(0, QIcon(swatch))
            item.setData(0, Qt.ItemDataRole.UserRole, value)

    def _organ_clicked(self, item: QTreeWidgetItem) -> None:
        if self._labels is not None:
            self._labels.selected_label = item.data(0, Qt.ItemDataRole.UserRole)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, flare.Cancelled):
            return
        self._say(str(error))
        show_error(str(error))

    def _finished(self) -> None:
        if self._worker is not None and self._worker.abort_requested:
            self._say("Cancelled.")
        self._running(None)
        self._image = None

    def _say(self, text: str) -> None:
        self.status.setText(text)


def where_of(layer: Image, job: Job) -> dict[str, Any]:
    """The arguments that put labels where an image is: its own, or of one with channels those of
    its last three axes."""
    if layer.ndim > 3:
        return place(job.geometry)
    names = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    return {name: getattr(layer, name) for name in names}
