"""Opening what answers: a model folder, or an exported file by its suffix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from allkit.cli.extras import require_training_packages
from allkit.errors import CheckpointError, ConfigError, ExportError

if TYPE_CHECKING:
    from allkit.model.classifier import Classifier
    from allkit.records import Predictor

__all__ = ["load_folder", "open_model"]


def open_model(path: Path, device: str = "auto") -> Predictor:
    """Open a model folder on a device, or an exported file, which computes on the processor.

    Raises `ConfigError` for an exported file and another device.
    """
    if not path.exists():
        raise CheckpointError(f"{path} does not exist. Give a model folder or an exported file.")
    if not path.is_dir():
        if device not in ("auto", "cpu"):
            raise ConfigError(
                f"{path} is an exported file, which computes on the processor, not on {device!r}. "
                f"Leave --device out, or give the model folder that it was exported from."
            )
        return _open_file(path)
    return load_folder(path, device)


def load_folder(path: Path, device: str = "auto") -> Classifier:
    """Load a model folder on the wanted device."""
    require_training_packages()
    from allkit.model.classifier import Classifier

    return Classifier.load(path, device=device)


def _open_file(path: Path) -> Predictor:
    from allkit.plugins import registry
    from allkit.runtime.signature import require_trusted

    host = registry()
    for name in host.names("exporter"):
        exporter = host.get("exporter", name)
        if exporter.suffix == path.suffix:
            # Here too: the exporter of a plugin may not ask.
            require_trusted(path)
            predictor: Predictor = exporter.open(path)
            return predictor
    what = _look_alike(path)
    if what:
        raise ExportError(f"{path} {what}")
    raise ExportError(
        f"{path} is no model: no exporter has the suffix {path.suffix!r}. Give a model "
        f"folder or an exported file."
    )


def _look_alike(path: Path) -> str:
    """Return what a file is that was given for a model, and what to do; empty if unknown."""
    from allkit.runtime.reading import look_alike, named_otherwise, read_plain

    try:
        data = read_plain(path, ExportError, follow=True)
    except FileNotFoundError:
        return ""
    return look_alike(data) or named_otherwise(path)
