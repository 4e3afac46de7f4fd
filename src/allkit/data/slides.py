"""The slides of a set: which image was acquired on which, and what is known of each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from allkit.data.rows import Sample
from allkit.types import Ints

__all__ = [
    "SLIDE_SOURCE",
    "SUGGESTED",
    "are_suggested",
    "known_names",
    "names_of",
    "number_of_each_class",
    "numbers_of",
    "sentence_on",
]

SLIDE_SOURCE = "slide_source"
"""The column of a table that says where its column `slide` comes from."""
SUGGESTED = "suggested"
"""The value of `slide_source` where slides are a guess of `allkit check`."""


def names_of(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return the names of the known slides, sorted."""
    return tuple(sorted({s.slide for s in samples if s.slide is not None}))


def numbers_of(samples: Sequence[Sample]) -> Ints:
    """Return `(N,)` int64: the position of each image's slide in `names_of`; -1 where unknown."""
    position = {name: number for number, name in enumerate(names_of(samples))}
    numbers = [-1 if s.slide is None else position[s.slide] for s in samples]
    return np.array(numbers, dtype=np.int64)


def number_of_each_class(samples: Sequence[Sample], classes: Sequence[str]) -> dict[str, int]:
    """Return on how many known slides each class was seen, for the classes that have images."""
    slides: dict[str, set[str]] = {}
    for sample in samples:
        if sample.label is not None:
            slides.setdefault(sample.label, set()).update([sample.slide] if sample.slide else [])
    return {name: len(slides[name]) for name in classes if name in slides}


def are_suggested(samples: Sequence[Sample]) -> bool:
    """Return whether any slide is a guess, by the column `slide_source`."""
    return any(s.slide and s.columns.get(SLIDE_SOURCE) == SUGGESTED for s in samples)


def known_names(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return the names of the slides, without those that are only suggested."""
    return names_of([s for s in samples if s.columns.get(SLIDE_SOURCE) != SUGGESTED])


def sentence_on(samples: Sequence[Sample]) -> str | None:
    """Return what the slides of a set do not allow to be said; `None` where all are known."""
    unknown = sum(s.slide is None for s in samples)
    if unknown:
        grouped = any(s.group is not None or s.case is not None for s in samples)
        whose = f"The slides of {unknown:,} of {len(samples):,} images are unknown"
        return (
            f"{'The slides are unknown' if unknown == len(samples) else whose}, so each "
            f"{'group' if grouped else 'image'} stands for a slide, and nothing is known about "
            f"unseen slides. Give a column `slide`, or --slide; `allkit check` suggests slides."
        )
    if are_suggested(samples):
        return (
            "The slides are suggestions of `allkit check`, not known ones: what is said about "
            "unseen slides is true only if they are right."
        )
    return None
