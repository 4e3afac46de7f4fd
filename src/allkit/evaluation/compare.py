"""Two models on the same images: whether one is better than the other by more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.evaluation.answers import Answers
from allkit.evaluation.exact import Extent
from allkit.evaluation.intervals import words_of_exact_difference
from allkit.evaluation.result import bootstrap

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """Second minus first, metric by metric, with 95 % intervals of a paired bootstrap over groups.

    `only_first` and `only_second` count the images on which only one model is right. In `allkit evaluate
    MODEL DATA --compare OTHER` the second is MODEL, and the first is OTHER. A difference
    whose interval contains 0 can be chance. Where a difference was the same in every resampled set,
    its interval is an exact one (`allkit.evaluation.intervals`), which `exact` explains by name.
    """

    n: int
    only_first: int
    only_second: int
    differences: dict[str, float]
    intervals: dict[str, list[float]]
    interval_unit: str
    exact: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    def to_text(
        self,
        names: Sequence[str] = ("accuracy", "balanced_accuracy", "ece"),
        *,
        first: str = "the first model",
        second: str = "the second model",
    ) -> str:
        """Return the main differences as lines of text; `first` and `second` name the models."""
        lines = [
            f"right in {second} only: {self.only_second}, in {first} only: {self.only_first}, "
            f"of {self.n} images",
            f"{second} minus {first}:",
        ]
        for name in names:
            if name not in self.differences or name not in self.intervals:
                continue
            low, high = self.intervals[name]
            word = "can be chance" if low <= 0 <= high else "is more than chance"
            beside = f"; {self.exact[name]}" if name in self.exact else ""
            lines.append(
                f"{name.replace('_', ' '):<22}{self.differences[name]:+.3f}   "
                f"({low:+.3f} to {high:+.3f}): {word}{beside}"
            )
        return "\n".join(lines) + "\n"


def compare(
    first: Answers, second: Answers, units: npt.NDArray[np.int64] | None, *, seed: int = 0
) -> Comparison:
    """Compare the answers of two models on the same N images, with the same groups drawn for both."""

    def less(weights: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        one, other = first.metrics(weights), second.metrics(weights)
        return {name: other[name] - value for name, value in one.items()}

    count = len(first.truth)
    once = {name: float(value[0]) for name, value in less(np.ones((1, count))).items()}
    differences = {name: value for name, value in once.items() if not np.isnan(value)}
    intervals = bootstrap(less, count, units, seed)
    extent, other = Extent.of(first, units), Extent.of(second, units)
    extent = replace(extent, accepted=min(extent.accepted, other.accepted))
    exact = extent.exact_differences(differences, intervals)
    unit = "image" if units is None else "group"
    return Comparison(
        n=len(first.truth),
        only_first=int((~first.wrong & second.wrong).sum()),
        only_second=int((first.wrong & ~second.wrong).sum()),
        differences=differences,
        intervals=intervals | exact,
        interval_unit=unit,
        exact={
            name: words_of_exact_difference(
                differences[name], extent.count(name), unit, extent.rest(name)
            )
            for name in exact
        },
    )
