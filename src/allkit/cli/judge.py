"""`allkit predict`, and opening what answers."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allkit.cli.progress import bars, say
from allkit.cli.train import needs_training_packages
from allkit.errors import ConfigError, DatasetError, ExportError
from allkit.files import require_free, write_whole
from allkit.plugins import registry

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from allkit.classifier import Classifier
    from allkit.records import Predictor

__all__ = ["load_folder", "open_model", "run_predict", "sample_images"]
__all__ += ["write_rows"]

FORMATS = (".jsonl", ".csv", ".parquet")


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
    from allkit.classifier import Classifier
    from allkit.training import choose_device

    return Classifier.load(path, device=choose_device(device))


def run_predict(
    model_path: Path, inputs: list[str], out: Path | None, device: str, overwrite: bool
) -> int:
    """Answer for images; return 1 when some were unreadable."""
    if out is not None:
        if out.suffix.lower() not in FORMATS:
            raise ConfigError(f"--out is {out}; name a {', '.join(FORMATS)} file.")
        require_free(out, overwrite=overwrite)
    images = list(_found(inputs))
    model = open_model(model_path, device)
    unreadable = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal unreadable
        with bars() as progress:
            for number, prediction in enumerate(model.stream(images), start=1):
                unreadable += prediction.verdict == "unreadable"
                progress("answers", number, len(images))
                yield prediction.to_row(model.classes)

    if out is None:
        for row in rows():
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
    else:
        write_rows(rows(), out)
        say(f"Saved {out}: {len(images):,} rows.")
    if unreadable:
        say(f"{unreadable} of {len(images)} images were unreadable; their rows say why.")
    return 1 if unreadable else 0


def _found(inputs: list[str]) -> Iterator[str]:
    from allkit.data.sources import is_image_name

    for text in inputs:
        path = Path(text)
        if not path.is_dir():
            yield text  # a file that does not exist becomes a row that says so
            continue
        files = sorted(p for p in path.rglob("*") if p.is_file())
        images = [p for p in files if is_image_name(p.name)]
        if len(images) < len(files):
            say(
                f"{text}: {len(files) - len(images)} files are no images by their names, not taken."
            )
        if not images:
            raise DatasetError(f"{text} holds no images. Wanted: .jpg, .png, .tif or .bmp files.")
        yield from (str(p) for p in images)


def write_rows(rows: Iterable[dict[str, Any]], out: Path) -> None:
    """Write rows to a file beside `out` that takes its place when it is whole."""
    suffix = out.suffix.lower()
    if suffix == ".parquet":
        import io

        import pandas as pd

        stream = io.BytesIO()
        pd.DataFrame(list(rows)).to_parquet(stream, index=False)
        write_whole(out, stream.getvalue())
        return
    part = out.with_name(f".{out.name}.part")
    try:
        with part.open("w", newline="", encoding="utf-8") as stream_:
            writer: Any = None
            for row in rows:
                if suffix == ".jsonl":
                    stream_.write(json.dumps(row, ensure_ascii=False) + "\n")
                    continue
                if writer is None:
                    writer = csv.DictWriter(stream_, list(row), lineterminator="\n")
                    writer.writeheader()
                writer.writerow(
                    {k: ";".join(v) if isinstance(v, list) else v for k, v in row.items()}
                )
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def sample_images(data: Path, count: int) -> list[npt.NDArray[np.uint8]]:
    """Read at most `count` images of a set, at equal distances."""
    from allkit.data.dataset import Dataset

    dataset = Dataset.open(data)
    step = max(1, len(dataset) // count)
    return [dataset.read(i) for i in range(0, len(dataset), step)[:count]]
