"""The picture of `allkit benchmark`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from allkit.data.canvas import INK, MUTED, TRAIN, figure_of, plain, png

__all__ = ["benchmark_picture"]

PANELS = (
    ("latency_p50_ms", "Latency, ms: p50 (p95)", "{:.0f}"),
    ("throughput_images_s", "Images a second", "{:.1f}"),
    ("size_mb", "Size, MB", "{:.0f}"),
    ("peak_rss_mb", "Memory, MB", "{:.0f}"),
    ("start_up_s", "Start-up, s", "{:.1f}"),
    ("accuracy", "Accuracy", "{:.3f}"),
)


def benchmark_picture(models: Mapping[str, Mapping[str, Any]], title: str) -> bytes:
    """Return the measurements of several models as bars side by side, as PNG bytes.

    `models` maps a path to what `allkit benchmark --json` writes for it.
    """
    panels = [p for p in PANELS if all(figures[p[0]] is not None for figures in models.values())]
    names = [PurePath(path).name for path in models]
    figure = figure_of(2.0 + 1.9 * len(panels), 1.2 + 0.4 * len(models))
    rows = list(range(len(models)))[::-1]
    for position, (key, heading, form) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), position)
        values = [figures[key] for figures in models.values()]
        axes.barh(rows, values, height=0.55, color=TRAIN)
        ends = values
        if key == "latency_p50_ms":
            ends = [figures["latency_p95_ms"] for figures in models.values()]
            axes.hlines(rows, values, ends, color=MUTED, lw=1.2)
        for row, value, end in zip(rows, values, ends, strict=True):
            text = form.format(value)
            if ends is not values:
                text += f" ({form.format(end)})"
            axes.annotate(
                text,
                (end, row),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=INK,
            )
        axes.set_xlim(0, max(ends) * 1.45)
        axes.set_xticks([])
        axes.set_yticks(rows, names if position == 1 else [""] * len(names))
        axes.set_title(heading, loc="left", fontsize=9, color=INK)
        plain(axes)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
    return png(figure)
