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
from typing import Any

import numpy as np

from allkit.cli.export import part_of
from allkit.cli.progress import bars, say
from allkit.cli.reports import require_places, write_report
from allkit.errors import AllkitError, ConfigError
from allkit.files import require_free, write_whole
from allkit.images.batches import cores

__all__ = ["run_benchmark"]

DRAWN = 48
COLUMNS = (
    ("accuracy", "accuracy", "{:.4f}"), ("latency_p50_ms", "p50 ms", "{:.1f}"),
    ("latency_p95_ms", "p95 ms", "{:.1f}"), ("throughput_images_s", "images/s", "{:.1f}"),
    ("size_mb", "size MB", "{:.1f}"), ("peak_rss_mb", "memory MB", "{:.0f}"),
    ("start_up_s", "start-up s", "{:.2f}"),
)  # fmt: skip


def run_benchmark(
    models: list[Path], data: Path | None, json_file: Path | None, png: Path | None, overwrite: bool
) -> None:
    """Measure every model in a process of its own, and print, write and draw the figures."""
    require_places(json_file, png)
    if png is not None:
        require_free(png, overwrite=overwrite)
        if png.suffix.lower() != ".png" or importlib.util.find_spec("matplotlib") is None:
            raise ConfigError(
                f"--plot is {png}; the picture is a .png file, and is drawn by matplotlib: "
                f"pip install 'allkit[train]'"
            )
    for path in models:
        if not path.exists():
            raise ConfigError(f"{path} does not exist. Give a model folder or an exported file.")
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder, bars() as progress:
        labels, source = _images(data, Path(folder))
        for number, path in enumerate(models):
            progress("models", number, len(models))
            found[str(path)] = _figures(path, Path(folder), labels)
            progress("models", number + 1, len(models))
    sys.stdout.write(
        f"{len(labels)} {source}, {cores()} cores; latency of one image, decode to answer\n\n"
    )
    sys.stdout.write(table(found))
    values = next(iter(found.values())) if len(found) == 1 else {"models": found}
    further = {"images": len(labels), "drawn": data is None, "cores": cores()}
    write_report(json_file, json.dumps(values | further, indent=1) + "\n")
    if png is not None:
        from allkit.report.benchmark import benchmark_picture

        write_whole(png, benchmark_picture(found, f"{len(labels)} {source}, {cores()} cores"))
        say(f"Saved {png}.")


def _images(data: Path | None, folder: Path) -> tuple[list[str | None], str]:
    """Write the images into `folder`, named in their order; return their labels, and what they are."""
    if data is None:
        from allkit.data.drawn import draw_smears, encode

        for number, drawn in enumerate(draw_smears(DRAWN, groups=12, seed=20)):
            (folder / f"{number:06d}").write_bytes(encode(drawn).read())
        return [None] * DRAWN, "drawn images"
    from allkit.evaluation.parity_images import COMPARED, parity_images, sample_images

    chosen = sample_images(parity_images(part_of(data, "test")), COMPARED)
    for number, subject in enumerate(chosen):
        (folder / f"{number:06d}").write_bytes(subject.read())
    return [subject.label for subject in chosen], f"images of {data}"


def _figures(path: Path, folder: Path, labels: Sequence[str | None]) -> dict[str, Any]:
    """Return the figures of one model; raise its error as ours."""
    begun = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "allkit.cli.measured", str(path), str(folder)],
        capture_output=True, text=True,
    )  # fmt: skip
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
    size = (
        sum(p.stat().st_size for p in path.iterdir() if p.suffix in (".safetensors", ".json"))
        if path.is_dir() else path.stat().st_size
    )  # fmt: skip
    return {
        "accuracy": float(np.mean(right)) if all(judged) else None,
        "latency_p50_ms": float(np.percentile(alone, 50)),
        "latency_p95_ms": float(np.percentile(alone, 95)),
        "throughput_images_s": len(labels) / raw["together"],
        "size_mb": size / 1e6,
        "peak_rss_mb": raw["peak_rss"] / 1e6,
        "start_up_s": raw["first"] - begun,
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return the figures as text, a model a line."""
    width = max(len(name) for name in found) + 2
    lines = [" " * width + "".join(f"{title:>12}" for _, title, _ in COLUMNS)]
    for name, figures in found.items():
        cells = [
            "–" if figures[key] is None else form.format(figures[key]) for key, _, form in COLUMNS
        ]
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines) + "\n"
