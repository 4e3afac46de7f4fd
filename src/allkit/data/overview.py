"""What is in a set, in a few lines for a person."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allkit.data.dataset import Dataset

__all__ = ["summary"]


def summary(data: Dataset) -> str:
    """Return images, groups and cases of each class, the parts, and what was not taken."""
    lines = [f"{data.name}: {len(data):,} images"]
    for name in data.classes:
        own = [s for s in data if s.label == name]
        facts = [f"{len(own):>7,} images"]
        for what in ("group", "case"):
            values = {getattr(s, what) for s in own} - {None}
            facts += [f"{len(values):,} {what}{'' if len(values) == 1 else 's'}"] * bool(values)
        lines.append(f"  {name:<20}{', '.join(facts)}")
    if data.has_parts:
        sizes = Counter(s.part or "no part" for s in data)
        lines.append("  parts: " + ", ".join(f"{p} {n:,}" for p, n in sizes.items()))
    if data.left_out:
        lines.append(f"  not taken: {len(data.left_out):,} files that are no images by name")
    return "\n".join(lines)
