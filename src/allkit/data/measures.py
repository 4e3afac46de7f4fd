"""What is measured for verdicts on every image of a set: statistics, and whether its cells suffice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from allkit.data.passes import Frame, Measure
from allkit.images.cells import FIRST_FINDER, NO_CELLS, NO_SCALE, shortcomings
from allkit.images.finders import mark_of_finder
from allkit.images.statistics import STATISTICS_VERSION, image_statistics, statistics_at_scale
from allkit.types import Singles

__all__ = ["STATISTICS", "as_reasons", "shortcomings_by", "statistics_by"]


def _statistics(frame: Frame) -> Singles:
    return image_statistics(frame.pixels)


STATISTICS = Measure(f"statistics {STATISTICS_VERSION}", _statistics, cached=True)
"""The statistics `(M,)` float32 of an image (`allkit.images.statistics`)."""


def statistics_by(finder: str) -> Measure:
    """Return the measure of the statistics for a model that looks at cells of this finder.

    They are those at the scale that the finder finds; of the whole image, resized, for a model that
    looks at no cells (`""`), and for the first finder, which knew no other.
    """
    if finder in ("", FIRST_FINDER):
        return STATISTICS

    def take(frame: Frame) -> Singles:
        return statistics_at_scale(frame.cells(finder))

    name = f"statistics {STATISTICS_VERSION} at scale {mark_of_finder(finder)}"
    return Measure(name, take, cached=True)


def shortcomings_by(finder: str) -> Measure:
    """Return the measure that says of what a finder finds whether it suffices.

    `(2,)` float32: 1 where there are no cells, and where they have no scale. See `as_reasons`.
    """

    def take(frame: Frame) -> Singles:
        reasons = shortcomings(frame.cells(finder))
        return np.array([reason in reasons for reason in (NO_CELLS, NO_SCALE)], np.float32)

    return Measure(f"shortcomings/2 {mark_of_finder(finder)}", take, cached=True)


def as_reasons(rows: Sequence[Singles]) -> list[tuple[str, ...]]:
    """Return for every image the reason codes why its cells cannot be judged; empty if they can."""
    return [
        tuple(reason for reason, holds in zip((NO_CELLS, NO_SCALE), row, strict=True) if holds)
        for row in rows
    ]
