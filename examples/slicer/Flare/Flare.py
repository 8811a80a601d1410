import sys
from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


class Flare(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Flare")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations", "Terminologies"]
        parent.contributors = ["The libflare authors"]
        parent.helpText = _(
            "Segments a volume with an nnU-Net model inside Slicer, through libflare. "
            "Research software, not a medical device."
        )
        parent.acknowledgementText = _(
            "The networks and the rules of their use are those of nnU-Net."
        )


class FlareWidget(ScriptedLoadableModuleWidget):
    def __init__(self, parent=None):
        self.widget = None  # first: the base class may call setup
        ScriptedLoadableModuleWidget.__init__(self, parent)

    def setup(self):
        from FlareLib import Terminology
        from FlareLib.Widget import Widget

        ScriptedLoadableModuleWidget.setup(self)
        slicer.modules.terminologies.logic().LoadTerminologyFromFile(str(Terminology.FILE))
        self.widget = Widget()
        self.layout.addWidget(self.widget)

    def cleanup(self):
        if self.widget:
            self.widget.cleanup()

    def onReload(self):
        """Developer mode's "Reload": reads the library folder again too."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "FlareLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)


class FlareTest(ScriptedLoadableModuleTest):
    def runTest(self):
        """Runs the test cases of the folder Testing in this Slicer."""
        import unittest

        folder = Path(__file__).resolve().parent / "Testing"
        suite = unittest.defaultTestLoader.discover(str(folder), "*TestCase.py", str(folder.parent))
        result = unittest.TextTestRunner(verbosity=2).run(suite)
        self.assertTrue(result.wasSuccessful(), f"{result.failures} {result.errors}")
