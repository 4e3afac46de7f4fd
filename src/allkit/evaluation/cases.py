"""Whole cases: the fields of one patient combined to one answer, and the metrics of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.data.dataset import Dataset
from allkit.runtime.answers import answer as as_prediction
from allkit.runtime.cases import combine
from allkit.trust.verdict import Decision, Trust

__all__ = ["metrics_of_cases"]


def metrics_of_cases(
    dataset: Dataset,
    probabilities: npt.NDArray[np.float32],
    decisions: Sequence[Decision],
    classes: Sequence[str],
    *,
    trust: Trust | None = None,
) -> dict[str, Any]:
    """Return the metrics of whole cases under `cases`; empty for a set without cases.

    `probabilities` `(N, K)` and `decisions` are a model's answers on the N images of the set, and
    `trust` is that of the model. A case whose images have several labels is left out and counted.
    """
    groups = None if trust is None else trust.groups
    rows_of: dict[str, list[int]] = {}
    for index, sample in enumerate(dataset):
        if sample.case is not None:
            rows_of.setdefault(sample.case, []).append(index)
    right, mixed, silent = [], 0, 0
    verdicts = {"accepted": 0, "review": 0, "refused": 0}
    for case, rows in rows_of.items():
        labels = {dataset.samples[row].label for row in rows}
        if len(labels) > 1:
            mixed += 1
            continue
        fields = [
            as_prediction(
                dataset.samples[row].image,
                probabilities[row],
                decisions[row],
                classes,
                groups=groups,
            )
            for row in rows
        ]
        answer = combine(fields, case, trust=trust)
        hit = answer.label in labels
        right.append(hit)
        verdicts[answer.verdict] += 1
        silent += answer.verdict == "accepted" and not hit
    if not right:
        return {}
    return {
        "cases": {
            "n": len(right),
            "accuracy": float(np.mean(right)),
            "verdicts": verdicts,
            "silent_errors": silent,
            "mixed_labels": mixed,
        }
    }
