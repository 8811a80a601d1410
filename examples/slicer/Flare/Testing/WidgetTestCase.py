"""The widget, on Qt's stand-in where there is no Qt, and the module file."""

import importlib
import shutil
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from unittest import mock

import numpy as np
import slicer

from .Utils import MODULE, FlareTestCase, qt, until, volume
from FlareLib import Models
from FlareLib.Parameter import Parameter
from FlareLib.Widget import Widget


class Settings(dict):
    """As much of a QSettings as an .ini file keeps: texts, and a list of one as a text."""

    def value(self, key):
        return self.get(key)

    def setValue(self, key, value):
        value = [str(v) for v in value] if isinstance(value, list) else str(value)
        self[key] = value[0] if isinstance(value, list) and len(value) == 1 else value


class ParameterTestCase(FlareTestCase):
    def testSettings(self):
        settings = Settings()
        self.assertEqual(Parameter.fromSettings(settings), Parameter())
        for parameter in (
            Parameter("/a b/ä.onnx", "cuda", "fast", True),
            Parameter("m.json", separateProcess=False),
        ):
            parameter.toSettings(settings)
            self.assertEqual(Parameter.fromSettings(settings), parameter)

    def testKnownModels(self):
        with tempfile.TemporaryDirectory() as name:
            settings, folder = Settings(), Path(name)
            files = [str(folder / f"{i:02}.onnx") for i in range(12)]
            for file in files:
                Path(file).touch()
                Models.remember(settings, file)
            self.assertEqual(Models.known(settings, folder / "none"), files[:1:-1])  # the last ten
            Models.remember(settings, files[5])
            self.assertEqual(Models.known(settings, folder / "none")[:2], [files[5], files[11]])
            Path(files[5]).unlink()
            self.assertNotIn(files[5], Models.known(settings, folder))
            self.assertIn(files[0], Models.known(settings, folder))  # of the folder, never used


class WidgetTestCase(FlareTestCase):
    def setUp(self):
        super().setUp()
        self.fake = self.useFake()
        settings = Settings()  # not those of the user
        self.enterContext(mock.patch.object(qt, "QSettings", lambda: settings, create=True))
        self.errors = self.enterContext(mock.patch("slicer.util.errorDisplay"))
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.model = str(self.folder / "liver.onnx")
        Path(self.model).touch()
        voxels = np.full((4, 5, 6), -1000, np.int16)
        voxels[1, 1, 1] = 1
        self.node = volume(voxels, name="ct")
        self.widget = Widget()
        self.addCleanup(self.widget.cleanup)
        self.ui = self.widget.ui
        until(lambda: self.widget.logic._search is None)

    def choose(self):
        with mock.patch.object(
            qt.QFileDialog, "getOpenFileName", mock.Mock(return_value=self.model)
        ):
            self.ui.modelFileButton.click()
        self.ui.inputSelector.setCurrentNode(self.node)

    def testItFindsDevices(self):
        self.assertEqual(
            [self.ui.deviceComboBox.findData(name) for name in ("auto", "ort", "cuda")], [0, 1, -1]
        )

    def testApply(self):
        self.choose()
        self.ui.deviceComboBox.setCurrentIndex(1)
        self.ui.modeComboBox.setCurrentIndex(1)
        self.ui.applyButton.click()
        until(lambda: self.ui.progressBar.value == 50)
        self.assertEqual(self.ui.statusLabel.text, "Running the network")
        self.assertFalse(self.ui.inputsCollapsibleButton.enabled)
        self.assertEqual((self.ui.applyButton.visible, self.ui.cancelButton.visible), (False, True))
        self.fake.go.set()
        until(lambda: self.ui.applyButton.visible)
        self.assertEqual(self.ui.statusLabel.text, "ct segmentation: 1 segments.")
        self.assertTrue(self.ui.inputsCollapsibleButton.enabled)
        self.assertEqual(self.fake.opened, [(self.model, "ort", "fast")])
        self.errors.assert_not_called()
        again = Widget()  # of the next session
        self.addCleanup(again.cleanup)
        self.assertEqual(again.parameter(), Parameter(self.model, "ort", "fast", False))

    def testCancel(self):
        self.choose()
        self.ui.applyButton.click()
        until(self.fake.begun.is_set)
        self.ui.cancelButton.click()
        self.assertFalse(self.ui.cancelButton.enabled)
        until(lambda: self.ui.applyButton.visible)
        self.assertEqual(self.ui.statusLabel.text, "Cancelled.")
        self.errors.assert_not_called()

    def testErrorsAreShown(self):
        self.ui.applyButton.click()
        self.assertIn("Choose a model", self.ui.statusLabel.text)
        self.assertIn("Choose a model", self.errors.call_args.args[0])
        self.assertTrue(self.ui.applyButton.visible)

    def testWarningsAreShown(self):
        slicer.util.updateVolumeFromArray(self.node, np.ones((4, 5, 6), np.int16))
        self.choose()
        self.fake.go.set()
        self.ui.applyButton.click()
        until(lambda: self.ui.applyButton.visible)
        self.assertIn("Warning: The model is for CT", self.ui.statusLabel.text)

    def testAFolderAsModel(self):
        with mock.patch.object(
            qt.QFileDialog, "getExistingDirectory", mock.Mock(return_value=str(self.folder))
        ):
            self.ui.modelFolderButton.click()
        self.assertEqual(self.widget.parameter().modelPath, str(self.folder))
        with mock.patch.object(qt.QFileDialog, "getExistingDirectory", mock.Mock(return_value="")):
            self.ui.modelFolderButton.click()  # and thinks better of it
        self.assertEqual(self.widget.parameter().modelPath, str(self.folder))


class ModuleTestCase(FlareTestCase):
    """Flare.py on stand-ins for Slicer's base classes; Slicer itself runs its own generic tests."""

    def testSetupReloadAndCleanup(self):
        if "slicer.ScriptedLoadableModule" in sys.modules:
            self.skipTest("Slicer itself is here")
        self.useFake()
        self.enterContext(mock.patch.object(qt, "QSettings", Settings, create=True))
        base = types.ModuleType("slicer.ScriptedLoadableModule")
        text = types.ModuleType("slicer.i18n")
        text.tr, text.translate = str, lambda context, text: text

        class Module:
            def __init__(self, parent):
                self.parent = parent

        class ModuleWidget:
            def __init__(self, parent=None):
                self.layout, self.reloaded = mock.Mock(), False

            def setup(self):
                pass

            def onReload(self):
                self.reloaded = True

        base.ScriptedLoadableModule, base.ScriptedLoadableModuleWidget = Module, ModuleWidget
        base.ScriptedLoadableModuleTest = FlareTestCase
        terminologies = slicer.vtkSlicerTerminologiesModuleLogic()
        modules = types.SimpleNamespace(
            terminologies=mock.Mock(**{"logic.return_value": terminologies})
        )
        stands = {base.__name__: base, text.__name__: text}
        with (
            mock.patch.dict(sys.modules, stands),
            mock.patch("slicer.modules", modules, create=True),
        ):
            flare = importlib.import_module("Flare")
            parent = types.SimpleNamespace()
            flare.Flare(parent)
            self.assertEqual((parent.title, parent.categories), ("Flare", ["Segmentation"]))
            widget = flare.FlareWidget()
            widget.setup()
            self.assertTrue(
                terminologies.IsTerminologyContextLoaded(
                    "Segmentation category and type - libflare"
                )
            )
            first = widget.widget
            widget.layout.addWidget.assert_called_once_with(first)
            widget.onReload()
            self.assertTrue(widget.reloaded)
            widget.cleanup()
            self.assertFalse(first.logic.running)
            again = flare.FlareWidget()
            again.setup()
            self.assertIsNot(type(again.widget), type(first))  # of code that was read again
            again.cleanup()

    def testTheBuildFilesNameEveryFile(self):
        listed = (
            (MODULE / "CMakeLists.txt")
            .read_text(encoding="utf-8")
            .replace("${MODULE_NAME}", "Flare")
            .split()
        )
        kinds = (".py", ".ui", ".png", ".json")
        files = [p for p in MODULE.rglob("*") if p.suffix in kinds and "__pycache__" not in p.parts]
        for file in files:
            if "Models" not in file.parts:  # of the user
                self.assertIn(file.relative_to(MODULE).as_posix(), listed)
        for name in listed:
            if name.endswith(kinds):
                self.assertTrue((MODULE / name).exists(), name)

    def testCMakeConfiguresTheExtension(self):
        """With a stand-in for Slicer's CMake package, whose commands only look at what they get."""
        cmake, extension = shutil.which("cmake"), MODULE.parent / "CMakeLists.txt"
        if not cmake or not extension.exists():  # the module is installed, not in its source tree
            self.skipTest("cmake or the extension's source is missing")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "SlicerConfig.cmake").write_text(SLICER_CONFIG, encoding="utf-8")
            for part in ("Use", "Generate", "CPack"):
                (folder / f"{part}.cmake").write_text(
                    f'message("{part} ${{EXTENSION_CATEGORY}}")\n'
                )
            arguments = [
                cmake,
                "-S",
                extension.parent,
                "-B",
                folder / "build",
                f"-DSlicer_DIR={folder}",
            ]
            done = subprocess.run(
                [*map(str, arguments), "-DBUILD_TESTING=ON"], capture_output=True, text=True
            )
        self.assertEqual(done.returncode, 0, done.stderr)
        said = [line for line in done.stderr.splitlines() if line]
        self.assertEqual(
            said,
            [
                "Use Segmentation",
                "module Flare",
                "test Flare.py",
                "Generate Segmentation",
                "CPack Segmentation",
            ],
        )


SLICER_CONFIG = """
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/Use.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/Generate.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/CPack.cmake)
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  foreach(file ${MODULE_SCRIPTS} ${MODULE_RESOURCES})
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
      message(FATAL_ERROR "no ${file}")
    endif()
  endforeach()
  if(MODULE_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "unknown: ${MODULE_UNPARSED_ARGUMENTS}")
  endif()
  message("module ${MODULE_NAME}")
endfunction()
function(slicer_add_python_unittest)
  cmake_parse_arguments(TEST "" "SCRIPT" "" ${ARGN})
  message("test ${TEST_SCRIPT}")
endfunction()
"""
