"""Opening what answers, where its packages may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from allkit.cli.extras import require_training_packages
from allkit.errors import ConfigError

if TYPE_CHECKING:
    from allkit.model.classifier import Classifier
    from allkit.records import Predictor

__all__ = ["load_folder", "open_model"]


def open_model(path: Path, device: str = "auto") -> Predictor:
    """Open a model folder on a device, or an exported file, which computes on the processor.

    Raises `ConfigError` for an exported file and another device.
    """
    if path.is_dir():
        return load_folder(path, device)
    if path.exists() and device not in ("auto", "cpu"):
        raise ConfigError(
            f"{path} is an exported file, which computes on the processor, not on {device!r}. "
            f"Leave --device out, or give the model folder that it was exported from."
        )
    from allkit.runtime.opening import open_file

    return open_file(path)


def load_folder(path: Path, device: str = "auto") -> Classifier:
    """Load a model folder on the wanted device."""
    require_training_packages()
    from allkit.model.classifier import Classifier

    return Classifier.load(path, device=device)
