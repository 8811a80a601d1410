"""As much of PythonQt's module qt as the module Flare uses, for a Python that has no Qt: slicer-core.

A form is read from its .ui file. A widget takes and gives only what its class has in Qt (HAS), so
that a name that Qt does not know is an error here too. Timers run in processEvents.
"""

import sys
import time
import types
import xml.etree.ElementTree as ElementTree

HAS = {
    "QWidget": {"enabled": True, "visible": True, "toolTip": "", "sizePolicy": None},
    "QLabel": {"text": "", "wordWrap": False},
    "QPushButton": {"text": ""},
    "QCheckBox": {"text": "", "checked": False},
    "QComboBox": {"minimumContentsLength": 0, "sizeAdjustPolicy": ""},
    "QProgressBar": {"maximum": 100, "value": 0},
    "ctkCollapsibleButton": {"text": ""},
    "qMRMLNodeComboBox": {
        "nodeTypes": "", "showChildNodeTypes": True, "addEnabled": True, "removeEnabled": True,
    },
    "qMRMLWidget": {},
}  # fmt: skip


class ClickSignal:
    def __init__(self):
        self._functions = []

    def connect(self, function):
        self._functions.append(function)

    def emit(self):
        for function in self._functions:
            function(False)  # not checked


class QWidget:
    kind = "QWidget"

    def __init__(self, parent=None):
        self.__dict__.update({**HAS["QWidget"], **HAS[self.kind], "name": "", "_children": []})

    def __setattr__(self, name, value):
        if (
            type(self) is KINDS[self.kind]
            and name not in HAS[self.kind]
            and name not in HAS["QWidget"]
        ):
            raise AttributeError(f"{self.kind} has no property {name}")
        object.__setattr__(self, name, value)  # a Python class that extends it has what it likes

    def children(self):
        return self._children


class QComboBox(QWidget):
    kind = "QComboBox"

    def __init__(self, parent=None):
        super().__init__(parent)
        self.__dict__.update(items=[], index=-1)

    def addItem(self, text, data=None):
        self.items.append((text, data))
        self.__dict__["index"] = max(0, self.index)

    def clear(self):
        self.__dict__.update(items=[], index=-1)

    def findData(self, data):
        return next((i for i, item in enumerate(self.items) if item[1] == data), -1)

    def setCurrentIndex(self, index):
        self.__dict__["index"] = index if 0 <= index < len(self.items) else -1

    @property
    def currentData(self):
        return self.items[self.index][1] if self.index >= 0 else None


class QPushButton(QWidget):
    kind = "QPushButton"

    def __init__(self, parent=None):
        super().__init__(parent)
        self.__dict__["clicked"] = ClickSignal()

    def click(self):
        if self.enabled:
            self.clicked.emit()


class qMRMLNodeComboBox(QWidget):
    kind = "qMRMLNodeComboBox"

    def __init__(self, parent=None):
        super().__init__(parent)
        self.__dict__["node"] = None

    def currentNode(self):
        return self.node

    def setCurrentNode(self, node):
        self.__dict__["node"] = node


class qMRMLWidget(QWidget):
    kind = "qMRMLWidget"

    def setMRMLScene(self, scene):
        self.__dict__["scene"] = scene


KINDS = {kind: type(kind, (QWidget,), {"kind": kind}) for kind in HAS}
KINDS.update({c.kind: c for c in (QWidget, QComboBox, QPushButton, qMRMLNodeComboBox, qMRMLWidget)})


class QVBoxLayout:
    def __init__(self, parent):
        self.parent = parent

    def setContentsMargins(self, *margins):
        pass

    def addWidget(self, widget):
        self.parent._children.append(widget)


class QFile:
    ReadOnly = 1

    def __init__(self, path):
        self.path = path

    def exists(self):
        return True

    def open(self, mode):
        pass


class QUiLoader:
    def load(self, file):
        return self._made(ElementTree.parse(file.path).getroot().find("widget"))

    def _made(self, element):
        widget = KINDS[element.get("class")]()
        widget.__dict__["name"] = element.get("name")
        for item in element.findall("property"):
            value = "".join(item.itertext())
            kind = item[0].tag
            setattr(
                widget,
                item.get("name"),
                {"number": int, "bool": "true".__eq__}.get(kind, str)(value),
            )
        widget._children.extend(self._made(child) for child in self._widgets(element))
        return widget

    def _widgets(self, element):
        """The nearest widgets below, through layouts and their items."""
        for child in element:
            if child.tag == "widget":
                yield child
            elif child.tag in ("layout", "item"):
                yield from self._widgets(child)


class QFileDialog:
    """Its functions are for tests to replace."""

    getOpenFileName = getExistingDirectory = None


class QTimer:
    running: list = []

    def __init__(self):
        self.function, self.interval, self.due = None, 0, 0.0

    def setInterval(self, milliseconds):
        self.interval = milliseconds / 1000

    def connect(self, signal, function):
        assert signal == "timeout()", signal
        self.function = function

    def start(self):
        self.due = time.perf_counter() + self.interval
        if self not in QTimer.running:
            QTimer.running.append(self)

    def stop(self):
        if self in QTimer.running:
            QTimer.running.remove(self)


def processEvents():
    """Runs the timers that are due."""
    for timer in list(QTimer.running):
        if timer in QTimer.running and time.perf_counter() >= timer.due:
            timer.due = time.perf_counter() + timer.interval
            timer.function()


def install():
    """Makes this the module qt."""
    module = types.ModuleType("qt")
    for name in ("QWidget", "QVBoxLayout", "QFile", "QUiLoader", "QFileDialog", "QTimer"):
        setattr(module, name, globals()[name])
    module.processEvents = processEvents
    sys.modules["qt"] = module
