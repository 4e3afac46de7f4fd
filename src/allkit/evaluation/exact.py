"""Exact intervals for metrics that were the same in every resampled set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from allkit.evaluation.answers import LEAST, OF_A_CLASS, Answers
from allkit.evaluation.intervals import WIDTH, less_of_classes, possible, widened

__all__ = ["Extent"]

RANGES = {"brier": (0.0, 2.0), "log_loss": (0.0, -math.log(LEAST))}
"""Smallest and largest value of metrics that are not between 0 and 1."""


@dataclass(frozen=True)
class Extent:
    """The number of units on which each metric is based.

    `units` in all, `accepted` with an accepted image, `classes` for each class that has images
    (a unit of several classes in parts), `rarest` in the class that is in the fewest of them, and
    `malignant` in the smaller of the two sides. `size` is the number of classes. `by_class` holds, by
    the name of a metric of one class, the units with an image of that class; for its precision, the
    units with an answer of it.
    """

    units: int
    accepted: int
    classes: tuple[float, ...]
    rarest: int
    malignant: int
    size: int
    by_class: Mapping[str, int]

    @classmethod
    def of(cls, answers: Answers, units: npt.NDArray[np.int64] | None) -> Extent:
        """Count the units `(N,)` of answers; images where there are none."""
        unit = (
            np.arange(len(answers.truth))
            if units is None
            else np.unique(units, return_inverse=True)[1]
        )
        size = len(answers.classes)
        holds = np.zeros((int(unit.max()) + 1, size), dtype=bool)
        holds[unit, answers.truth] = True
        answered = np.zeros_like(holds)
        answered[unit, answers.predicted] = True
        by_class = {
            f"{key} {name}": int((answered if key == "precision" else holds)[:, index].sum())
            for index, name in enumerate(answers.classes)
            for key in OF_A_CLASS
        }
        parts = holds / holds.sum(axis=1, keepdims=True)
        present = holds.any(axis=0)
        accepted = 0 if answers.accepted is None else len(np.unique(unit[answers.accepted]))
        malignant = len(holds)
        if answers.malignant is not None:
            benign = answers.classes.index("Benign")
            other = np.delete(holds, benign, axis=1).any(axis=1)
            malignant = min(int(holds[:, benign].sum()), int(other.sum()))
        return cls(
            units=len(holds),
            accepted=accepted,
            classes=tuple(parts.sum(axis=0)[present].tolist()),
            rarest=int(holds.sum(axis=0)[present].min()),
            malignant=malignant,
            size=size,
            by_class=by_class,
        )

    def count(self, name: str) -> int:
        """Return the number of units on which a metric is based."""
        if name in self.by_class:
            return self.by_class[name]
        if name == "accepted_accuracy":
            return self.accepted
        if name.startswith("malignant_"):
            return self.malignant
        if name.startswith(("macro_", "classwise_")):
            return self.rarest
        return self.units

    def rest(self, name: str) -> str:
        """Return the words after "groups" or "images" that say which units are meant."""
        if name.startswith("malignant_"):
            return " of the rarer side"
        return " of the rarest class" if name.startswith(("macro_", "classwise_")) else ""

    def share(self, name: str) -> float:
        """Return by how much of its range a metric that was always the same may differ.

        A mean over classes other than the recall (F1, areas) is as uncertain as its rarest class.
        """
        if name == "balanced_accuracy":
            return less_of_classes(self.classes)
        share = possible(self.count(name))
        if name == "area_risk_coverage":  # at worst, the errors are the most certain answers
            return min(1.0, share * (1 - math.log(share)))
        return share

    def range(self, name: str) -> tuple[float, float]:
        """Return the smallest and the largest value of a metric."""
        return (0.0, float(self.size)) if name == "set_size" else RANGES.get(name, (0.0, 1.0))

    def exact(
        self, values: Mapping[str, float | None], intervals: Mapping[str, list[float]]
    ) -> dict[str, list[float]]:
        """Return an exact interval for every metric whose interval has no width."""
        exact = {}
        for name, (low, high) in intervals.items():
            value = values.get(name)
            if value is not None and high - low < WIDTH:
                exact[name] = list(widened(value, self.share(name), *self.range(name)))
        return exact

    def exact_differences(
        self, values: Mapping[str, float], intervals: Mapping[str, list[float]]
    ) -> dict[str, list[float]]:
        """Return the same for differences of metrics of two models."""
        exact = {}
        for name, (low, high) in intervals.items():
            if high - low < WIDTH and name in values:
                least, most = self.range(name)
                widest = most - least
                exact[name] = list(widened(values[name], self.share(name), -widest, widest))
        return exact
