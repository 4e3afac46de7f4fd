"""Slides or cases in place of images: the answers for the fields of each, combined to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from allkit.data.dataset import Dataset
from allkit.errors import ConfigError, DatasetError
from allkit.evaluation.judged import Judged
from allkit.records import CasePrediction
from allkit.runtime.answers import answer as as_prediction
from allkit.runtime.cases import combine
from allkit.trust.groups import ClassGroups
from allkit.trust.verdict import CoarseDecision, Decision, Trust, set_table

__all__ = ["UNITS", "JudgedUnits", "Unit", "judge_units", "require_unit"]

Unit = Literal["field", "slide", "case"]
"""What one row of an evaluation is."""
UNITS: tuple[Unit, ...] = ("field", "slide", "case")


@dataclass(frozen=True)
class JudgedUnits:
    """The answers of a model for U units, and the image by which each unit stands in `dataset`.

    `answers` are the combined ones, `judged` the same in the form of an evaluation; a unit for which
    nothing was answered has the mean of the logits of all its fields there. `fields` counts all
    images, `mixed` the units that were left out since their fields have several labels, and
    `unanswered` those without an answer.
    """

    by: Unit
    dataset: Dataset
    judged: Judged
    answers: tuple[CasePrediction, ...]
    fields: int
    mixed: int
    unanswered: int


def require_unit(by: str) -> None:
    """Raise `ConfigError` for what is no unit of an evaluation."""
    if by not in UNITS:
        raise ConfigError(f"There is no evaluation by {by!r}. Give one of: {', '.join(UNITS)}.")


def judge_units(
    dataset: Dataset,
    judged: Judged,
    classes: Sequence[str],
    *,
    by: Unit,
    trust: Trust | None = None,
) -> JudgedUnits:
    """Return the answers for the slides or cases of a set from those for its N images.

    `trust` is that of the model. Raises `DatasetError` when the set has no such column, or a gap in
    it, or when every unit has several labels.
    """
    rows_of: dict[str, list[int]] = {}
    for row, unit in enumerate(_column(dataset, by)):
        rows_of.setdefault(unit, []).append(row)
    whole = {
        unit: rows
        for unit, rows in rows_of.items()
        if len({dataset.samples[row].label for row in rows}) == 1
    }
    if not whole:
        raise DatasetError(
            f"Every {by} of {dataset.name} has fields of several labels, so none can be judged. "
            f"Check the column {by!r}."
        )
    groups = None if trust is None else trust.groups
    answers, table, decisions = [], [], []
    for unit, rows in whole.items():
        fields = [
            as_prediction(
                dataset.samples[row].image,
                judged.probabilities[row],
                judged.decisions[row],
                classes,
                groups=groups,
            )
            for row in rows
        ]
        answer = combine(fields, unit, trust=trust)
        answers.append(answer)
        table.append(_probabilities(answer, judged, rows, classes))
        positions = tuple(classes.index(name) for name in answer.prediction_set)
        coarse = _coarse(answer, table[-1], groups)
        decisions.append(Decision(answer.verdict, answer.reason_codes, positions, coarse))
    sets = None if judged.sets is None else set_table(decisions, len(classes))
    return JudgedUnits(
        by=by,
        dataset=dataset.subset([rows[0] for rows in whole.values()]),
        judged=Judged(np.array(table, dtype=np.float32), decisions, sets),
        answers=tuple(answers),
        fields=sum(len(rows) for rows in whole.values()),
        mixed=len(rows_of) - len(whole),
        unanswered=sum(answer.label is None for answer in answers),
    )


def _coarse(
    answer: CasePrediction, probabilities: Sequence[float], groups: ClassGroups | None
) -> CoarseDecision | None:
    """Return the coarse decision of a unit; one without an answer has the group of its classes."""
    if groups is None or answer.coarse_verdict is None:
        return None
    of_groups = groups.probabilities(np.array([probabilities]))[0]
    best = int(of_groups.argmax())
    if answer.coarse is None or answer.coarse_probability is None:
        return CoarseDecision(best, float(of_groups[best]), "refused", ())
    group = groups.names.index(answer.coarse)
    return CoarseDecision(group, answer.coarse_probability, answer.coarse_verdict, ())


def _column(dataset: Dataset, by: Unit) -> list[str]:
    values = dataset.column(by)
    gaps = sum(value is None for value in values)
    if gaps == len(values):
        further = sorted({name for sample in dataset for name in sample.columns})
        raise DatasetError(
            f"{dataset.name} has no column {by!r}, or nothing in it. Further columns: "
            f"{', '.join(further) or 'none'}."
        )
    if gaps:
        raise DatasetError(
            f"{gaps} of {len(values)} images of {dataset.name} have no {by!r}. Fill the column."
        )
    return [value for value in values if value is not None]


def _probabilities(
    answer: CasePrediction, judged: Judged, rows: Sequence[int], classes: Sequence[str]
) -> list[float]:
    if answer.label is not None:
        return [answer.probabilities[name] for name in classes]
    logs = np.log(np.maximum(judged.probabilities[list(rows)].astype(np.float64), 1e-12))
    mean = np.exp(logs.mean(axis=0))
    return [float(value) for value in mean / mean.sum()]
