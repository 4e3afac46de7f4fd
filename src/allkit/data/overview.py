"""What is in a set, for a person: a few lines, and a sheet of images."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from allkit.data.dataset import Dataset

__all__ = ["sheet", "summary"]


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
    from allkit.report.pictures import contact_sheet

    rng = np.random.default_rng(seed)
    rows = []
    for index, name in enumerate(data.classes):
        chosen = np.sort(rng.permutation(np.flatnonzero(data.labels == index))[:per_class])
        rows.append((name, [(data.read(i), data.samples[i].image) for i in chosen]))
    return contact_sheet(rows)
