"""Opening what answers: a model folder, or an exported file by its suffix."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allkit.errors import CheckpointError, ConfigError, ExportError
from allkit.plugins import registry
from allkit.runtime.reading import look_alike, named_otherwise, read_plain
from allkit.runtime.signature import require_trusted

if TYPE_CHECKING:
    from allkit.records import Predictor

__all__ = ["load", "open_file"]


def load(path: str | Path, *, device: str = "cpu") -> Predictor:
    """Open a model folder, or an exported file of any format: both answer alike.

    `device` is that of a folder, as in `Classifier.load`; an exported file computes on the processor,
    and needs no PyTorch. Raises `CheckpointError`, `ExportError` or `PluginError` where it cannot be
    opened, and `ConfigError` for a device that it cannot have.
    """
    path = Path(path)
    if path.is_dir():
        # What learns lies above this layer, and is opened only where it is asked for.
        classifier: Any = importlib.import_module("allkit.model.classifier").Classifier
        model: Predictor = classifier.load(path, device=device)
        return model
    if device not in ("auto", "cpu"):
        raise ConfigError(
            f"{path} is an exported file, which computes on the processor, not on {device!r}. Leave the "
            f"device out, or give the model folder that it was exported from."
        )
    return open_file(path)


def open_file(path: Path) -> Predictor:
    """Open an exported file; raise `CheckpointError` where there is none, else as `load`."""
    if not path.exists():
        raise CheckpointError(f"{path} does not exist. Give a model folder or an exported file.")
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
    try:
        data = read_plain(path, ExportError, follow=True)
    except FileNotFoundError:
        return ""
    return look_alike(data) or named_otherwise(path)
