"""`allkit evaluate`, `allkit predict` and `allkit export`."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allkit.cli.progress import bars, say
from allkit.cli.reports import require_places, write_report
from allkit.cli.train import needs_training_packages, told
from allkit.data.labels import display_name
from allkit.errors import ConfigError, DatasetError, ExportError
from allkit.files import require_free, write_whole
from allkit.plugins import registry

if TYPE_CHECKING:
    from allkit.classifier import Classifier
    from allkit.data.dataset import Dataset
    from allkit.metrics import Evaluation
    from allkit.records import Predictor

__all__ = ["open_model", "run_evaluate", "run_export", "run_predict", "summary", "write_rows"]

PARTS = ("all", "train", "val", "test")
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


def run_evaluate(
    model_path: Path, data: Path, part: str | None, json_file: Path | None, device: str
) -> None:
    """Judge a model on the images of `data` and print the figures."""
    if part is not None and part not in PARTS:
        raise ConfigError(f"--part is {part!r}. It is one of: {', '.join(PARTS)}.")
    require_places(json_file)
    if model_path.is_file():
        raise ConfigError(
            f"{model_path} is an exported file; `evaluate` takes a model folder for now."
        )
    model = load_folder(model_path, device)
    from allkit.data.dataset import Dataset
    from allkit.features import FeatureCache

    dataset = Dataset.open(data)
    told(dataset)
    chosen = part or ("test" if dataset.has_parts else "all")
    if chosen != "all":
        dataset = _part(dataset, chosen)
    with bars() as progress:
        figures = model.evaluate(dataset, cache=FeatureCache(), progress=progress)
    sys.stdout.write(summary(figures, f"{dataset.name}, part: {chosen}"))
    write_report(json_file, json.dumps(figures.to_dict() | {"part": chosen}, indent=1) + "\n")


def _part(dataset: Dataset, name: str) -> Dataset:
    if not dataset.has_parts:
        raise DatasetError(f"{dataset.name} has no split column, so there is no part {name!r}.")
    chosen = dataset.part(name)
    if not len(chosen):
        raise DatasetError(
            f"No row of {dataset.name} has the split {name!r}. --part all takes all."
        )
    return chosen


def summary(figures: Evaluation, title: str) -> str:
    """Return the figures as text, cautions first."""
    lines = [title, ""]
    lines += [f"CAUTION  {note}" for note in figures.notes] + ([""] if figures.notes else [])
    for key, name in [
        ("accuracy", "accuracy"), ("balanced_accuracy", "balanced accuracy"), ("macro_f1", "macro F1"),
    ]:  # fmt: skip
        low, high = figures.intervals[key]
        lines.append(f"{name:<22}{getattr(figures, key):.3f}   ({low:.3f}–{high:.3f})")
    lines.append(
        f"{'images':<22}{figures.n}   (95 % intervals by resampling {figures.interval_unit}s)"
    )
    lines += _probe(figures)
    lines.append(
        "accepted / review / refused: "
        + " / ".join(str(figures.verdicts[v]) for v in ("accepted", "review", "refused"))
    )
    names = [display_name(name) for name in figures.classes]
    width = max(len(name) for name in names) + 2
    lines += ["", f"{'':<{width}}precision  recall     F1  images"]
    for key, name in zip(figures.classes, names, strict=True):
        row = figures.per_class[key]
        cells = [
            f"{row[k]:>9.3f}" if row[k] is not None else "        –"
            for k in ("precision", "recall")
        ]
        f1 = f"{row['f1']:.3f}" if row["f1"] is not None else "–"
        lines.append(f"{name:<{width}}{cells[0]}{cells[1]:>8}{f1:>7}{row['support']:>8}")
    lines += ["", "confusion (rows true, columns predicted)"]
    for name, counts in zip(names, figures.confusion, strict=True):
        lines.append(f"{name:<{width}}" + "".join(f"{count:>7}" for count in counts))
    return "\n".join(lines) + "\n"


def _probe(figures: Evaluation) -> list[str]:
    """Return the line that stands beside every accuracy: what is reached without reading a cell."""
    probe = figures.extra.get("shortcut_probe")
    if probe is None:
        return []
    if probe["name"] is None:
        return [f"{'shortcut probe':<22}none: {probe['reason']}"]
    low, high = probe["interval"]
    return [
        f"{'strongest shortcut':<22}{probe['balanced_accuracy']:.3f}   ({low:.3f}–{high:.3f})  balanced "
        f"accuracy of {probe['name']} alone, chance {probe['chance']:.2f}"
    ]


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


def run_export(
    model_path: Path, out: Path, format_name: str, data: Path | None, overwrite: bool
) -> None:
    """Export a model folder and say how well the file agrees with it."""
    model = load_folder(model_path, "cpu")
    check = None
    if data is not None:
        from allkit.data.dataset import Dataset

        dataset = Dataset.open(data)
        step = max(1, len(dataset) // 32)
        check = [dataset.read(i) for i in range(0, len(dataset), step)][:32]
    difference = model.export(out, format=format_name, overwrite=overwrite, check=check)
    on = f"{len(check)} images of {data}" if check is not None else "8 drawn images"
    say(
        f"Saved {out} ({out.stat().st_size / 1e6:.1f} MB). On {on} it gives the same classes; "
        f"probabilities differ by at most {difference:.1g}."
    )
