"""Opening what answers, and the images and rows of the commands that ask it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allkit.cli.train import needs_training_packages
from allkit.errors import ExportError
from allkit.files import write_whole
from allkit.plugins import registry
from allkit.volume.tables import encode

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from allkit.model.classifier import Classifier
    from allkit.records import Predictor

__all__ = ["load_folder", "open_model", "sample_images", "write_rows"]


def open_model(path: Path, device: str = "auto") -> Predictor:
    """Open a model folder, or an exported file by its suffix."""
    if path.is_file():
        host = registry()
        found = [
            record
            for record in (host.get("exporter", name) for name in host.names("exporter"))
            if record.suffix == path.suffix
        ]
        if not found:
            raise ExportError(
                f"{path} is no model: no exporter has the suffix {path.suffix!r}. Give a model "
                f"folder or an exported file."
            )
        predictor: Predictor = found[0].open(path)
        return predictor
    return load_folder(path, device)


def load_folder(path: Path, device: str = "auto") -> Classifier:
    """Load a model folder on the wanted device."""
    needs_training_packages()
    from allkit.model.classifier import Classifier
    from allkit.training import choose_device

    return Classifier.load(path, device=choose_device(device))


def write_rows(rows: Iterable[dict[str, Any]], out: Path) -> None:
    """Write the rows of a small table to a file, whole or not at all."""
    kept = list(rows)
    classes = [name.removeprefix("p_") for name in kept[0] if name.startswith("p_")] if kept else []
    write_whole(out, encode(kept, out.suffix.lower(), classes))


def sample_images(data: Path, count: int) -> list[npt.NDArray[np.uint8]]:
    """Read at most `count` images of a set, at equal distances."""
    from allkit.data.dataset import Dataset

    dataset = Dataset.open(data)
    step = max(1, len(dataset) // count)
    return [dataset.read(i) for i in range(0, len(dataset), step)[:count]]
