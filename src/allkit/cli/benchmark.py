"""`allkit benchmark`: a model and its exports side by side."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from allkit.cli.data import open_part
from allkit.cli.options import Json, Overwrite
from allkit.cli.progress import bars, say
from allkit.cli.reports import require_places, write_report
from allkit.errors import AllkitError, ConfigError
from allkit.files import require_free, write_whole

__all__ = ["benchmark"]

DRAWN = 48
"""Images that are drawn where none are given."""
COLUMNS = (
    ("accuracy", "accuracy", "{:.4f}"),
    ("latency_p50_ms", "p50 ms", "{:.1f}"),
    ("latency_p95_ms", "p95 ms", "{:.1f}"),
    ("throughput_images_s", "images/s", "{:.1f}"),
    ("size_mb", "size MB", "{:.1f}"),
    ("peak_rss_mb", "memory MB", "{:.0f}"),
    ("start_up_s", "start-up s", "{:.2f}"),
)
"""What is printed: the key of `--json`, the title, and the form of the number."""


def benchmark(
    models: Annotated[
        list[Path],
        typer.Argument(help="model folders and exported files", metavar="MODEL_OR_EXPORT"),
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="images to answer (the part test)", show_default="drawn ones"),
    ] = None,
    json_file: Json = None,
    plot: Annotated[Path | None, typer.Option(help="the .png to draw")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure models and exported files side by side: accuracy, time, size, memory.

    Each is measured in a process of its own.

    Example:
    allkit benchmark model model.onnx --data split.csv --json benchmark.json
    """
    require_places(json_file, plot)
    if plot is not None:
        _require_drawing(plot, overwrite=overwrite)
    for path in models:
        if not path.exists():
            raise ConfigError(f"{path} does not exist. Give a model folder or an exported file.")
    from allkit.images.batches import cores

    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder, bars() as progress:
        labels, source = _write_images(data, Path(folder))
        for number, path in enumerate(models):
            progress("models", number, len(models))
            figures[str(path)] = _measure(path, Path(folder), labels)
            progress("models", number + 1, len(models))
    setting = f"{len(labels)} {source}, {cores()} cores"
    sys.stdout.write(f"{setting}; latency of one image, decode to answer\n\n")
    sys.stdout.write(_table(figures))
    values = next(iter(figures.values())) if len(figures) == 1 else {"models": figures}
    further = {"images": len(labels), "drawn": data is None, "cores": cores()}
    write_report(json_file, json.dumps(values | further, indent=1) + "\n")
    if plot is not None:
        from allkit.report.benchmark import benchmark_picture

        write_whole(plot, benchmark_picture(figures, setting))
        say(f"Saved {plot}.")


def _require_drawing(plot: Path, *, overwrite: bool) -> None:
    require_free(plot, overwrite=overwrite)
    if plot.suffix.lower() != ".png" or importlib.util.find_spec("matplotlib") is None:
        raise ConfigError(
            f"--plot is {plot}; the picture is a .png file, and is drawn by matplotlib: "
            f"pip install 'allkit[train]'"
        )


def _write_images(data: Path | None, folder: Path) -> tuple[list[str | None], str]:
    """Write the images into `folder`, named in their order; return their labels, and what they are."""
    if data is None:
        from allkit.data.drawn import as_png, draw_smears

        for number, drawn in enumerate(draw_smears(DRAWN, groups=12, seed=20)):
            (folder / f"{number:06d}").write_bytes(as_png(drawn).read())
        return [None] * DRAWN, "drawn images"
    from allkit.evaluation.parity_images import COMPARED, parity_images, sample_images

    chosen = sample_images(parity_images(open_part(data, "test")), COMPARED)
    for number, subject in enumerate(chosen):
        (folder / f"{number:06d}").write_bytes(subject.read())
    return [subject.label for subject in chosen], f"images of {data}"


def _measure(path: Path, folder: Path, labels: Sequence[str | None]) -> dict[str, Any]:
    """Return the figures of one model; raise its error as ours."""
    import numpy as np

    begun = time.time()
    command = [sys.executable, "-P", "-m", "allkit.cli.measurement", str(path), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 2:
        raise AllkitError(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise AllkitError(
            f"{path} could not be measured: its process ended with the status {done.returncode}. "
            f"{done.stderr.strip()[-300:]}"
        )
    raw = json.loads(done.stdout.strip().splitlines()[-1])
    alone = np.array(raw["alone"]) * 1000
    judged = [label in raw["classes"] for label in labels]
    right = [a == b for a, b in zip(raw["labels"], labels, strict=True)]
    return {
        "accuracy": float(np.mean(right)) if all(judged) else None,
        "latency_p50_ms": float(np.percentile(alone, 50)),
        "latency_p95_ms": float(np.percentile(alone, 95)),
        "throughput_images_s": len(labels) / raw["together"],
        "size_mb": _size(path) / 1e6,
        "peak_rss_mb": raw["peak_rss"] / 1e6,
        "start_up_s": raw["first"] - begun,
    }


def _size(model: Path) -> int:
    """Return the bytes of a file, or of what a model folder needs to answer."""
    if not model.is_dir():
        return model.stat().st_size
    needed = (".safetensors", ".json")
    return sum(path.stat().st_size for path in model.iterdir() if path.suffix in needed)


def _table(measured: dict[str, dict[str, Any]]) -> str:
    """Return the figures as text, a model a line."""
    width = max(len(name) for name in measured) + 2
    lines = [" " * width + "".join(f"{title:>12}" for _, title, _ in COLUMNS)]
    for name, figures in measured.items():
        cells = [
            "–" if figures[key] is None else form.format(figures[key]) for key, _, form in COLUMNS
        ]
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines) + "\n"
