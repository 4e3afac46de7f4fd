"""The answers of a model on a labelled set, and every metric of them under any weighting.

A bootstrap draws groups with replacement, which gives each image a whole-number weight. All
metrics are therefore computed for many weightings at once, `(R, N)`, and returned as `(R,)`
float64, NaN where a metric is not defined.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.types import Doubles, Ints

__all__ = ["OF_A_CLASS", "Answers", "Ranking", "rates"]

Bools = npt.NDArray[np.bool_]

BINS = 15
OF_A_CLASS = ("recall", "precision", "f1")
"""The metrics of a single class that get an interval."""
SPECIFICITY = 0.95
LEAST = 1e-12
"""Smaller probabilities count as this in the log loss."""


@dataclass(frozen=True)
class Ranking:
    """A yes-or-no question: images in the order of falling score, and which are positive.

    `runs` are the positions of the first image of every run of equal scores; a threshold can lie behind
    each run.
    """

    order: Ints
    positive: Bools
    runs: Ints

    @classmethod
    def of(cls, score: npt.NDArray[np.floating[Any]], positive: Bools) -> Ranking:
        """Return the ranking of N images by `score` `(N,)`."""
        order = np.argsort(-score, kind="stable")
        ordered = score[order]
        runs = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        return cls(order, positive[order], runs)

    def counts(self, weights: Doubles) -> tuple[Doubles, Doubles]:
        """Return true and false positives at every possible threshold, `(R, T)` each."""
        more_hits, more_misses = self._steps(weights)
        return np.cumsum(more_hits, axis=1), np.cumsum(more_misses, axis=1)

    def _steps(self, weights: Doubles) -> tuple[Doubles, Doubles]:
        """Return how many true and false positives each threshold adds, `(R, T)` each."""
        ordered = weights[:, self.order]
        more_hits = ordered * self.positive
        more_misses = np.subtract(ordered, more_hits, out=ordered)
        if len(self.runs) == len(self.order):
            return more_hits, more_misses
        return np.add.reduceat(more_hits, self.runs, 1), np.add.reduceat(more_misses, self.runs, 1)

    def metrics(self, weights: Doubles) -> dict[str, Doubles]:
        """Return area under ROC, average precision, and sensitivity at 95 % specificity."""
        more_hits, more_misses = self._steps(weights)
        hits, misses = np.cumsum(more_hits, axis=1), np.cumsum(more_misses, axis=1)
        positive, negative = hits[:, -1], misses[:, -1].copy()
        rows = np.arange(len(weights))
        # Both only grow, so the thresholds that are allowed come first.
        allowed = misses <= (1 - SPECIFICITY + 1e-12) * negative[:, None]
        number = np.count_nonzero(allowed, axis=1)
        found = np.where(number > 0, hits[rows, number - 1], 0)
        # Counts are whole numbers: their sums are exact, and divided last.
        below = 2 * _dot(hits, more_misses) - _dot(more_hits, more_misses)
        misses += hits
        precision = np.divide(hits, np.maximum(misses, 1e-12, out=misses), out=misses)
        with np.errstate(divide="ignore", invalid="ignore"):
            area = below / (2 * positive * negative)
            average = _dot(more_hits, precision) / positive
            sensitivity = found / positive
        both_sides = (positive > 0) & (negative > 0)
        return {
            "roc_auc": np.where(both_sides, area, np.nan),
            "average_precision": np.where(both_sides, average, np.nan),
            "sensitivity_at_specificity": np.where(both_sides, sensitivity, np.nan),
        }


@dataclass(frozen=True)
class Answers:
    """The answers of a model on N images.

    `truth` `(N,)` are the positions of the true classes, `probabilities` `(N, K)`; `accepted`
    `(N,)` is `None` where verdicts cannot be judged; `sets` `(N, K)` says which classes are in
    the prediction sets, `None` without calibration.
    """

    classes: tuple[str, ...]
    truth: Ints
    probabilities: Doubles
    accepted: Bools | None
    sets: Bools | None = None

    @cached_property
    def predicted(self) -> Ints:
        """`(N,)` position of the most probable class."""
        best: Ints = self.probabilities.argmax(axis=1)
        return best

    @cached_property
    def confidence(self) -> Doubles:
        """`(N,)` its probability."""
        highest: Doubles = self.probabilities.max(axis=1)
        return highest

    @cached_property
    def wrong(self) -> Bools:
        """`(N,)` whether it is not the true class."""
        result: Bools = self.predicted != self.truth
        return result

    @cached_property
    def rankings(self) -> list[Ranking]:
        """For each class: is an image of this class?"""
        return [
            Ranking.of(self.probabilities[:, i], self.truth == i) for i in range(len(self.classes))
        ]

    @cached_property
    def malignant(self) -> Ranking | None:
        """Is an image of any class but Benign? `None` where the classes are others."""
        if "Benign" not in self.classes or len(self.classes) < 2:
            return None
        benign = self.classes.index("Benign")
        return Ranking.of(1 - self.probabilities[:, benign], self.truth != benign)

    @cached_property
    def _by_confidence(self) -> Ints:
        return np.argsort(-self.confidence, kind="stable")

    def confusion(self, weights: Doubles) -> Doubles:
        """Return `(R, K, K)` counts, rows true, columns predicted."""
        size = len(self.classes)
        cells = np.eye(size * size)[self.truth * size + self.predicted]
        matrix: Doubles = (weights @ cells).reshape(-1, size, size)
        return matrix

    def metrics(self, weights: Doubles) -> dict[str, Doubles]:
        """Return all metrics that are a single number, by name."""
        return self._metrics(weights, self.per_class(weights))

    def with_classes(self, weights: Doubles) -> dict[str, Doubles]:
        """Return the same, and of each class recall, precision and F1 as `recall CLASS`."""
        per_class = self.per_class(weights)
        of_classes = {
            f"{key} {name}": row[key] for name, row in per_class.items() for key in OF_A_CLASS
        }
        return of_classes | self._metrics(weights, per_class)

    def _metrics(
        self, weights: Doubles, per_class: dict[str, dict[str, Doubles]]
    ) -> dict[str, Doubles]:
        total = weights.sum(axis=1)
        nothing = np.full(len(weights), np.nan)

        def mean(values: npt.NDArray[Any] | None) -> Doubles:
            return nothing if values is None else (weights @ values.astype(np.float64)) / total

        rows = np.arange(len(self.truth))
        true_p = self.probabilities[rows, self.truth]
        squares = (self.probabilities**2).sum(axis=1) - 2 * true_p + 1
        sizes = None if self.sets is None else self.sets.sum(axis=1)
        accepted = mean(self.accepted)
        silent = mean(None if self.accepted is None else self.accepted & self.wrong)
        answered, risk = self.risk_coverage(weights)
        classes = list(per_class.values())
        with np.errstate(divide="ignore", invalid="ignore"):
            accepted_accuracy = 1 - silent / accepted
        of_each_class = [
            self.calibration_error(weights, self.probabilities[:, i], self.truth == i)
            for i in range(len(self.classes))
        ]
        result = {
            "accuracy": mean(~self.wrong),
            "balanced_accuracy": _mean([v["recall"] for v in classes]),
            "macro_f1": _mean([v["f1"] for v in classes]),
            "macro_specificity": _mean(
                [np.where(np.isnan(v["recall"]), np.nan, v["specificity"]) for v in classes]
            ),
            "macro_roc_auc": _mean([v["roc_auc"] for v in classes]),
            "macro_average_precision": _mean([v["average_precision"] for v in classes]),
            "ece": self.calibration_error(weights, self.confidence, ~self.wrong),
            "classwise_ece": _mean(of_each_class),
            "brier": mean(squares),
            "log_loss": mean(-np.log(np.maximum(true_p, LEAST))),
            "area_risk_coverage": (np.diff(answered, axis=1, prepend=0) * risk).sum(axis=1),
            "accepted_share": accepted,
            "accepted_accuracy": accepted_accuracy,
            "silent_error_rate": silent,
            "set_coverage": mean(None if self.sets is None else self.sets[rows, self.truth]),
            "set_size": mean(sizes),
            "empty_sets": mean(None if sizes is None else sizes == 0),
        }
        if self.malignant is not None:
            malignant = self.malignant.metrics(weights)
            result |= {f"malignant_{name}": value for name, value in malignant.items()}
        return result

    def per_class(self, weights: Doubles) -> dict[str, dict[str, Doubles]]:
        """Return the metrics of each class against the others, by class and name."""
        matrix = self.confusion(weights)
        total = matrix.sum(axis=(1, 2))
        result = {}
        for index, name in enumerate(self.classes):
            hit, support = matrix[:, index, index], matrix[:, index].sum(axis=1)
            answers = matrix[:, :, index].sum(axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                values = {
                    "precision": hit / answers,
                    "recall": hit / support,
                    "specificity": 1 - (answers - hit) / (total - support),
                    "f1": np.where(support > 0, 2 * hit / (support + answers), np.nan),
                    "support": support,
                }
                values |= self.rankings[index].metrics(weights)
                if self.sets is not None:
                    covered = (self.truth == index) & self.sets[:, index]
                    values["set_coverage"] = (weights @ covered.astype(np.float64)) / support
            result[name] = values
        return result

    def calibration_error(self, weights: Doubles, score: Doubles, hit: Bools) -> Doubles:
        """Return the mean gap between `score` and the share of hits, over bins of equal mass.

        Adaptive bins after Nguyen & O'Connor 2015: with bins of equal width a good model would fill
        only those at one end.
        """
        order = np.argsort(score, kind="stable")
        ordered = weights[:, order]
        starts, total = _bins(ordered)
        # |mean score − share of hits| times the mass is |sum of scores − number of hits|.
        ordered *= (score - hit)[order]
        gaps: Doubles = np.abs(_sums(ordered, starts)).sum(axis=1) / total
        return gaps

    @staticmethod
    def reliability(
        weights: Doubles, score: Doubles, hit: Bools
    ) -> tuple[Doubles, Doubles, Doubles]:
        """Return, for each of 15 bins, `(R, 15)`: sum of scores, number of hits, mass."""
        order = np.argsort(score, kind="stable")
        ordered = weights[:, order]
        starts, _ = _bins(ordered)
        scores, hits = _sums(ordered * score[order], starts), _sums(ordered * hit[order], starts)
        return scores, hits, _sums(ordered, starts)

    def risk_coverage(self, weights: Doubles) -> tuple[Doubles, Doubles]:
        """Return the share answered and the share of errors in it, most certain images first."""
        ordered = weights[:, self._by_confidence]
        answered = np.cumsum(ordered, axis=1)
        wrong = np.cumsum(ordered * self.wrong[self._by_confidence], axis=1)
        return answered / answered[:, -1:], wrong / np.maximum(answered, 1e-12)


def _bins(ordered: Doubles) -> tuple[Ints, Doubles]:
    """Return the first image of each of 15 bins of equal mass, `(R, 15)`, and the mass of all, `(R,)`.

    `ordered` `(R, N)` are whole numbers. An image is in the bin in which the mass of those before it
    ends.
    """
    before = np.cumsum(ordered, axis=1)
    total = before[:, -1].copy()
    before -= ordered
    # All rows as one that only grows, so that it is searched once.
    apart = (total.max() + 1) * np.arange(len(ordered))[:, None]
    before += apart
    bounds = np.ceil(np.arange(BINS) * total[:, None] / BINS) + apart
    starts = np.searchsorted(before.ravel(), bounds.ravel()).reshape(bounds.shape)
    return starts, total


def _sums(values: Doubles, starts: Ints) -> Doubles:
    """Return the sums of the values `(R, N)` from each of `starts` `(R, B)` up to the next, `(R, B)`."""
    flat = np.append(values.ravel(), 0.0)  # a bin may begin behind the last image
    sums = np.add.reduceat(flat, starts.ravel()).reshape(starts.shape)
    ends = np.append(starts.ravel()[1:], values.size).reshape(starts.shape)
    return np.where(ends > starts, sums, 0.0)  # of an empty bin there is its first image


def _dot(first: Doubles, second: Doubles) -> Doubles:
    """Return the sum of the products of each row, `(R,)`."""
    return np.asarray(np.einsum("ij,ij->i", first, second))


def rates(ranking: Ranking) -> dict[str, list[float]]:
    """Return the points of the ROC and PR curves, at most about 200."""
    hits, misses = (values[0] for values in ranking.counts(np.ones((1, len(ranking.order)))))
    if not hits[-1] or not misses[-1]:
        return {"fpr": [], "tpr": [], "precision": []}
    keep = np.unique(np.linspace(0, len(hits) - 1, 200).astype(int))
    return {
        "fpr": [float(v) for v in (misses / misses[-1])[keep]],
        "tpr": [float(v) for v in (hits / hits[-1])[keep]],
        "precision": [float(v) for v in (hits / (hits + misses))[keep]],
    }


def _mean(values: list[Doubles]) -> Doubles:
    """Return the mean over the classes for which the metric is defined."""
    table = np.stack(values)
    defined = ~np.isnan(table)
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Doubles = np.where(defined, table, 0).sum(axis=0) / defined.sum(axis=0)
    return result
