from dataclasses import asdict, dataclass
from typing import Any

GROUP = "Flare"  # of the application's settings


@dataclass
class Parameter:
    """What the user chose, apart from the volume."""

    modelPath: str = ""
    """A bundle (.onnx), an nnU-Net v2 results folder, or a list of these (.json)."""
    device: str = "auto"
    """As flare.devices() names them, or "auto"."""
    mode: str = "exact"
    """"exact" or "fast"."""
    separateProcess: bool = False
    """Run outside of Slicer's process, so that nothing that goes wrong there can end Slicer."""

    def toSettings(self, settings: Any) -> None:
        """Keeps the choice in a QSettings."""
        for name, value in asdict(self).items():
            settings.setValue(f"{GROUP}/{name}", int(value) if isinstance(value, bool) else value)

    @classmethod
    def fromSettings(cls, settings: Any) -> "Parameter":
        """The choice of last time; QSettings gives text, whatever was put in."""
        kept = {name: settings.value(f"{GROUP}/{name}") for name in asdict(cls())}
        kept = {name: value for name, value in kept.items() if value is not None}
        if "separateProcess" in kept:
            kept["separateProcess"] = str(kept["separateProcess"]).lower() in ("1", "true")
        return cls(**kept)
