from pathlib import Path
from typing import Any

from .Parameter import GROUP

KEPT = 10  # models that are remembered
FOLDER = Path(__file__).resolve().parent.parent / "Resources" / "Models"
KEY = f"{GROUP}/knownModels"


def known(settings: Any, folder: Path = FOLDER) -> list[str]:
    """Paths of the models to choose from: those used before, the last one first, and the bundles
    that lie in the module's folder Resources/Models; without those that are gone."""
    used = settings.value(KEY) or []
    used = [used] if isinstance(used, str) else list(used)  # QSettings gives a list of one as text
    shipped = sorted(str(path) for path in folder.glob("*.onnx"))
    return [path for path in dict.fromkeys(used + shipped) if Path(path).exists()]


def remember(settings: Any, path: str) -> None:
    """Puts a model in the first place."""
    others = [other for other in known(settings) if other != path]
    settings.setValue(KEY, [path, *others][:KEPT])
