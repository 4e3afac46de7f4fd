"""An overview of a set: a few lines of text, and a sheet of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from allkit.data.left_out import left_out_text, whys_of
from allkit.data.rows import Sample
from allkit.data.slides import are_suggested, number_of_each_class
from allkit.telemetry import import_silent
from allkit.types import Pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["sheet", "summary"]

MUTED = "#7b8794"


def summary(
    name: str, samples: Sequence[Sample], classes: Sequence[str], left_out: Sequence[str]
) -> str:
    """Return images, groups and cases of each class, the parts, and the files not used."""
    lines = [f"{name}: {len(samples):,} images"]
    for label in (*classes, *([] if all(s.label for s in samples) else [None])):
        members = [s for s in samples if s.label == label]
        facts = [f"{len(members):>7,} images"]
        for what in ("group", "case", "slide"):
            values = {getattr(s, what) for s in members} - {None}
            facts += [f"{len(values):,} {what}{'' if len(values) == 1 else 's'}"] * bool(values)
        lines.append(f"  {label or 'no label':<20}{', '.join(facts)}")
    if any(s.part is not None for s in samples):
        sizes = Counter(s.part or "no part" for s in samples)
        lines.append("  parts: " + ", ".join(f"{p} {n:,}" for p, n in sizes.items()))
    if all(s.slide is not None for s in samples):
        counts = number_of_each_class(samples, classes)
        source = " by the suggested slides" if are_suggested(samples) else ""
        lines += [
            f"  {label} was seen on one slide only{source}: nothing is known about it on other slides"
            for label, count in counts.items()
            if count == 1
        ]
    if left_out:
        lines.append(f"  not taken: {left_out_text(whys_of(left_out))}")
    return "\n".join(lines)


def sheet(
    samples: Sequence[Sample],
    classes: Sequence[str],
    read: Callable[[int], Pixels],
    *,
    per_class: int,
    seed: int,
) -> Figure:
    """Return a contact sheet: a row of images, drawn at random with `seed`, for each class."""
    rng = np.random.default_rng(seed)
    of_class = [[i for i, s in enumerate(samples) if s.label == name] for name in classes]
    rows = [np.sort(rng.permutation(np.array(i, dtype=int))[:per_class]) for i in of_class]
    columns, lines = max([1, *map(len, rows)]), max(1, len(rows))
    # Without pyplot, which would keep the figure.
    figure: Figure = import_silent("matplotlib.figure").Figure(
        figsize=(1.55 * columns + 0.3, 1.8 * lines), dpi=130, layout="constrained"
    )
    import_silent("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    for line, positions in enumerate(rows):
        for column in range(columns):
            axes = figure.add_subplot(lines, columns, line * columns + column + 1)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if column == 0:
                axes.set_ylabel(classes[line], fontsize=9)
            if column < len(positions):
                index = int(positions[column])
                axes.imshow(read(index))
                name = samples[index].image.rpartition("/")[2][-26:]
                axes.set_xlabel(name, fontsize=5.5, color=MUTED)
    return figure
