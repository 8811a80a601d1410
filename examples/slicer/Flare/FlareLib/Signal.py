from collections.abc import Callable


class Signal:
    """Functions that are called when something happens, in the order in which they were connected.

    PythonQt does not let a Python class have Qt signals of its own.
    """

    def __init__(self) -> None:
        self._functions: list[Callable[..., object]] = []

    def connect(self, function: Callable[..., object]) -> None:
        self._functions.append(function)

    def emit(self, *values: object) -> None:
        for function in list(self._functions):
            function(*values)
