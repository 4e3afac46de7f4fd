"""Fields of one slide, case or folder: one answer for each such unit, as they come."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from allkit.records import CasePrediction, Prediction
from allkit.runtime.cases import combine
from allkit.trust.verdict import Trust

__all__ = ["combine_units"]


def combine_units(
    answers: Iterator[Prediction], units: Iterable[tuple[str, int]], trust: Trust | None = None
) -> Iterator[CasePrediction]:
    """Yield one answer for each unit `(name, number of fields)`, whose fields follow one another.

    The answers of one unit at a time are in memory. `trust` is that of the model that answered.
    """
    for name, size in units:
        yield combine(list(itertools.islice(answers, size)), name, trust=trust)
