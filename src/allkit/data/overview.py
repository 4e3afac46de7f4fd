"""What is in a set, for a person: a few lines, and a sheet of images."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from allkit.telemetry import import_silent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from allkit.data.dataset import Dataset

__all__ = ["sheet", "summary"]

MUTED = "#7b8794"


def summary(data: Dataset) -> str:
    """Return images, groups and cases of each class, the parts, and what was not taken."""
    lines = [f"{data.name}: {len(data):,} images"]
    for name in (*data.classes, *([] if all(s.label for s in data) else [None])):
        own = [s for s in data if s.label == name]
        facts = [f"{len(own):>7,} images"]
        for what in ("group", "case"):
            values = {getattr(s, what) for s in own} - {None}
            facts += [f"{len(values):,} {what}{'' if len(values) == 1 else 's'}"] * bool(values)
        lines.append(f"  {name or 'no label':<20}{', '.join(facts)}")
    if data.has_parts:
        sizes = Counter(s.part or "no part" for s in data)
        lines.append("  parts: " + ", ".join(f"{p} {n:,}" for p, n in sizes.items()))
    if data.left_out:
        lines.append(f"  not taken: {len(data.left_out):,} files that are no images by name")
    return "\n".join(lines)


def sheet(data: Dataset, per_class: int, seed: int) -> Figure:
    """Return a contact sheet: a row of images, drawn at random with `seed`, for each class."""
    rng = np.random.default_rng(seed)
    rows = [
        np.sort(rng.permutation(np.flatnonzero(data.labels == index))[:per_class])
        for index in range(len(data.classes))
    ]
    columns, lines = max([1, *map(len, rows)]), max(1, len(rows))
    # Without pyplot, which would keep the figure.
    figure: Figure = import_silent("matplotlib.figure").Figure(
        figsize=(1.55 * columns + 0.3, 1.8 * lines), dpi=130, layout="constrained"
    )
    import_silent("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    for line, chosen in enumerate(rows):
        for column in range(columns):
            axes = figure.add_subplot(lines, columns, line * columns + column + 1)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if column == 0:
                axes.set_ylabel(data.classes[line], fontsize=9)
            if column < len(chosen):
                axes.imshow(data.read(chosen[column]))
                name = data.samples[chosen[column]].image.rpartition("/")[2][-26:]
                axes.set_xlabel(name, fontsize=5.5, color=MUTED)
    return figure
