from pathlib import Path
from typing import Any

import qt
import slicer

from . import Models
from .Parameter import Parameter
from .SegmentationLogic import SegmentationLogic

RESOURCES = Path(__file__).resolve().parent.parent / "Resources"
MODES = {"exact": "Exact: the labels of nnU-Net", "fast": "Fast: half precision, air skipped"}


class Widget(qt.QWidget):
    """What the user sees: choices, Apply, Cancel, progress."""

    def __init__(self, logic: SegmentationLogic | None = None, parent: Any = None) -> None:
        super().__init__(parent)
        self.logic = logic or SegmentationLogic()
        self.settings = qt.QSettings()
        layout = qt.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        content = slicer.util.loadUI(str(RESOURCES / "UI" / "Flare.ui"))
        layout.addWidget(content)
        self.ui = slicer.util.childWidgetVariables(content)
        content.setMRMLScene(slicer.mrmlScene)

        parameter = Parameter.fromSettings(self.settings)
        for mode, text in MODES.items():
            self.ui.modeComboBox.addItem(text, mode)
        self._choose(self.ui.modeComboBox, parameter.mode)
        self._listDevices([], parameter.device)
        self._listModels(parameter.modelPath)
        self.ui.separateProcessCheckBox.checked = parameter.separateProcess

        self.ui.modelFileButton.clicked.connect(self.onChooseFile)
        self.ui.modelFolderButton.clicked.connect(self.onChooseFolder)
        self.ui.applyButton.clicked.connect(self.onApply)
        self.ui.cancelButton.clicked.connect(self.onCancel)
        self.logic.progressInfo.connect(self.onProgress)
        self.logic.warningOccurred.connect(self.onWarning)
        self.logic.inferenceFinished.connect(self.onFinished)
        self.logic.inferenceCancelled.connect(lambda: self._ended("Cancelled."))
        self.logic.errorOccurred.connect(self.onError)
        self.logic.devicesFound.connect(self.onDevices)
        self._warnings: list[str] = []
        self._setRunning(False)
        self.logic.findDevices(parameter.separateProcess)

    def parameter(self) -> Parameter:
        """What is chosen now."""
        return Parameter(
            modelPath=self.ui.modelComboBox.currentData or "",
            device=self.ui.deviceComboBox.currentData,
            mode=self.ui.modeComboBox.currentData,
            separateProcess=bool(self.ui.separateProcessCheckBox.checked),
        )

    def onChooseFile(self, *_: object) -> None:
        chosen = qt.QFileDialog.getOpenFileName(
            self, "Model", self._folder(), "Models (*.onnx *.json)"
        )
        if chosen:
            self._listModels(chosen)

    def onChooseFolder(self, *_: object) -> None:
        chosen = qt.QFileDialog.getExistingDirectory(self, "nnU-Net results folder", self._folder())
        if chosen:
            self._listModels(chosen)

    def onApply(self, *_: object) -> None:
        parameter = self.parameter()
        parameter.toSettings(self.settings)
        self._warnings = []
        self._setRunning(True)
        self.onProgress(0, "")
        self.logic.startSegmentation(parameter, self.ui.inputSelector.currentNode())

    def onCancel(self, *_: object) -> None:
        self.ui.cancelButton.enabled = False
        self.logic.stopSegmentation()

    def onProgress(self, fraction: float, text: str) -> None:
        self.ui.progressBar.value = round(100 * fraction)
        self.ui.statusLabel.text = text

    def onWarning(self, text: str) -> None:
        self._warnings.append(f"Warning: {text}")

    def onFinished(self, node: Any) -> None:
        Models.remember(self.settings, self.parameter().modelPath)
        count = node.GetSegmentation().GetNumberOfSegments()
        self._ended("\n".join([f"{node.GetName()}: {count} segments.", *self._warnings]))

    def onError(self, text: str) -> None:
        self._ended(text)
        slicer.util.errorDisplay(text, windowTitle="Flare")

    def onDevices(self, names: list[str]) -> None:
        self._listDevices(names, self.ui.deviceComboBox.currentData)

    def cleanup(self) -> None:
        """Before the widget goes: on "Reload" and when Slicer ends."""
        self.logic.cleanup()

    def _ended(self, text: str) -> None:
        self._setRunning(False)
        self.onProgress(0, text)

    def _setRunning(self, running: bool) -> None:
        self.ui.inputsCollapsibleButton.enabled = not running
        self.ui.applyButton.visible = not running
        self.ui.cancelButton.visible = running
        self.ui.cancelButton.enabled = running
        self.ui.progressBar.visible = running

    def _folder(self) -> str:
        """Where the dialogs begin."""
        path = self.parameter().modelPath
        return str(Path(path).parent) if path else ""

    def _listModels(self, chosen: str) -> None:
        """Lists the known models and the chosen one, by name, with the path behind it."""
        paths = Models.known(self.settings)
        if chosen and chosen not in paths:
            paths.insert(0, chosen)
        combo = self.ui.modelComboBox
        combo.clear()
        for path in paths:
            combo.addItem(f"{Path(path).name} ({Path(path).parent})", path)
        self._choose(combo, chosen)

    def _listDevices(self, names: list[str], chosen: str) -> None:
        combo = self.ui.deviceComboBox
        combo.clear()
        for name in dict.fromkeys(["auto", *names, chosen]):
            combo.addItem(name, name)
        self._choose(combo, chosen)

    @staticmethod
    def _choose(combo: Any, data: str) -> None:
        combo.setCurrentIndex(max(0, combo.findData(data)))
