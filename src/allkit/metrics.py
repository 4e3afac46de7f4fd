"""Figures of merit, from true and predicted classes and probabilities; numpy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Evaluation", "evaluate"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

RESAMPLES = 1000


@dataclass(frozen=True)
class Evaluation:
    """What a model did on a labelled set. Every image counts, whatever its verdict.

    `confusion` is `(K, K)` counts, rows true and columns predicted, in the order of `classes`.
    `intervals` are 95 % percentile intervals of a bootstrap over groups (over images where
    nothing is known about groups, which `interval_unit` says). `ece` is the expected calibration
    error over 15 bins of equal mass. A class without images has support 0 and is left out of the
    averages. `notes` are cautions that belong beside the figures wherever they are shown.
    """

    classes: tuple[str, ...]
    n: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    per_class: dict[str, dict[str, float | int | None]]
    confusion: list[list[int]]
    ece: float | None
    intervals: dict[str, list[float]]
    interval_unit: str
    verdicts: dict[str, int]
    accepted_accuracy: float | None
    silent_error_rate: float
    notes: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values, in the form of `allkit evaluate --json`."""
        values = {
            name: getattr(self, name) for name in self.__dataclass_fields__ if name != "extra"
        }
        values["classes"] = list(self.classes)
        values["notes"] = list(self.notes)
        return values | self.extra


def evaluate(
    truth: Ints,
    probabilities: npt.NDArray[np.floating[Any]],
    classes: Sequence[str],
    *,
    verdicts: Sequence[str],
    units: Ints | None,
    notes: Sequence[str] = (),
    extra: dict[str, Any] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Return the figures for N images: `truth` `(N,)`, `probabilities` `(N, K)`.

    `units` `(N,)` numbers the groups to resample; `None` resamples images.
    """
    predicted = probabilities.argmax(axis=1)
    matrix = confusion(truth, predicted, len(classes))
    accepted = np.array([verdict == "accepted" for verdict in verdicts])
    wrong = predicted != truth
    scores: dict[str, Callable[[npt.NDArray[np.float64]], float]] = {
        "accuracy": accuracy,
        "balanced_accuracy": balanced_accuracy,
        "macro_f1": macro_f1,
    }
    return Evaluation(
        classes=tuple(classes),
        n=len(truth),
        accuracy=accuracy(matrix),
        balanced_accuracy=balanced_accuracy(matrix),
        macro_f1=macro_f1(matrix),
        per_class={name: _per_class(matrix, i) for i, name in enumerate(classes)},
        confusion=matrix.astype(int).tolist(),
        ece=calibration_error(truth, probabilities),
        intervals=_bootstrap(truth, predicted, len(classes), units, scores, seed),
        interval_unit="image" if units is None else "group",
        verdicts={name: list(verdicts).count(name) for name in ("accepted", "review", "refused")},
        accepted_accuracy=float((~wrong)[accepted].mean()) if accepted.any() else None,
        silent_error_rate=float((accepted & wrong).mean()),
        notes=tuple(notes),
        extra=extra or {},
    )


def confusion(truth: Ints, predicted: npt.NDArray[np.integer[Any]], classes: int) -> Floats:
    """Return `(K, K)` counts, rows true, columns predicted."""
    matrix = np.zeros((classes, classes))
    np.add.at(matrix, (truth, predicted), 1)
    return matrix


def accuracy(matrix: Floats) -> float:
    """Return the share of images on the diagonal."""
    return float(np.trace(matrix) / matrix.sum())


def balanced_accuracy(matrix: Floats) -> float:
    """Return the mean recall over the classes that have images."""
    support = matrix.sum(axis=1)
    present = support > 0
    return float((np.diag(matrix)[present] / support[present]).mean())


def macro_f1(matrix: Floats) -> float:
    """Return the mean F1 score over the classes that have images."""
    support, answers = matrix.sum(axis=1), matrix.sum(axis=0)
    present = support > 0
    return float((2 * np.diag(matrix)[present] / (support + answers)[present]).mean())


def _per_class(matrix: Floats, index: int) -> dict[str, float | int | None]:
    hit, support, answers = matrix[index, index], matrix[index].sum(), matrix[:, index].sum()
    return {
        "precision": float(hit / answers) if answers else None,
        "recall": float(hit / support) if support else None,
        "f1": float(2 * hit / (support + answers)) if support else None,
        "support": int(support),
    }


def calibration_error(
    truth: Ints, probabilities: npt.NDArray[np.floating[Any]], bins: int = 15
) -> float:
    """Return the expected calibration error of the top class, over bins of equal mass.

    The mean over bins, weighted by their size, of |accuracy − mean confidence|; adaptive bins
    after Nguyen & O'Connor 2015, since a good model fills equal-width bins at one end only.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == truth
    order = np.argsort(confidence, kind="stable")
    gaps = [
        len(part) * abs(correct[part].mean() - confidence[part].mean())
        for part in np.array_split(order, min(bins, len(order)))
    ]
    return float(sum(gaps) / len(truth))


def _bootstrap(
    truth: Ints,
    predicted: npt.NDArray[np.integer[Any]],
    classes: int,
    units: Ints | None,
    scores: dict[str, Callable[[Floats], float]],
    seed: int,
) -> dict[str, list[float]]:
    """Resample whole groups; each group enters with its own confusion matrix."""
    unit = np.arange(len(truth)) if units is None else np.unique(units, return_inverse=True)[1]
    count = int(unit.max()) + 1
    parts = np.zeros((count, classes, classes))
    np.add.at(parts, (unit, truth, predicted), 1)
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in scores}
    for _ in range(RESAMPLES):
        weight = np.bincount(rng.integers(count, size=count), minlength=count)
        matrix = np.tensordot(weight, parts, axes=1)
        for name, score in scores.items():
            drawn[name].append(score(matrix))
    return {
        name: [float(value) for value in np.percentile(values, [2.5, 97.5])]
        for name, values in drawn.items()
    }
