"""Opening what answers: a model folder, or an exported file by its suffix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from allkit.cli.extras import require_training_packages
from allkit.errors import CheckpointError, ExportError

if TYPE_CHECKING:
    from allkit.model.classifier import Classifier
    from allkit.records import Predictor

__all__ = ["load_folder", "open_model"]


def open_model(path: Path, device: str = "auto") -> Predictor:
    """Open a model folder on a device, or an exported file."""
    if not path.exists():
        raise CheckpointError(f"{path} does not exist. Give a model folder or an exported file.")
    if path.is_file():
        return _open_file(path)
    return load_folder(path, device)


def load_folder(path: Path, device: str = "auto") -> Classifier:
    """Load a model folder on the wanted device."""
    require_training_packages()
    from allkit.model.classifier import Classifier
    from allkit.training import choose_device

    return Classifier.load(path, device=choose_device(device))


def _open_file(path: Path) -> Predictor:
    from allkit.plugins import registry

    host = registry()
    for name in host.names("exporter"):
        exporter = host.get("exporter", name)
        if exporter.suffix == path.suffix:
            predictor: Predictor = exporter.open(path)
            return predictor
    raise ExportError(
        f"{path} is no model: no exporter has the suffix {path.suffix!r}. Give a model "
        f"folder or an exported file."
    )
