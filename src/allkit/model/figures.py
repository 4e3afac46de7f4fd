"""What a model keeps of its validation, checked before it is shown: metrics, counts, curves, words.

What a description holds beyond it is let pass, if it is plain: later versions may say more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from allkit.runtime.fields import Flag, Name, Number, Share, Text, Whole, shortened

__all__ = ["require_figures"]

SHARES = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "macro_specificity",
    "macro_roc_auc",
    "macro_average_precision",
    "ece",
    "classwise_ece",
    "area_risk_coverage",
    "set_coverage",
    "empty_sets",
    "accepted_share",
    "accepted_accuracy",
    "silent_error_rate",
    "malignant_roc_auc",
    "malignant_average_precision",
    "malignant_sensitivity_at_specificity",
)
"""Metrics that lie between 0 and 1, where they are known."""
NUMBERS = ("brier", "log_loss", "set_size")
VERDICTS = ("accepted", "review", "refused")
MOST_POINTS = 100_000

_Interval = Annotated[tuple[Number, ...], Field(min_length=2, max_length=2)]
_Point = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e-6, le=1 + 1e-6)]
"""A share, which may be rounded to a little beside it."""
_Points = Annotated[tuple[_Point, ...], Field(max_length=MOST_POINTS)]
_Matrix = tuple[tuple[Whole, ...], ...]
_Metrics = dict[Name, Number | None]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Reliability(_Part):
    confidence: Annotated[_Points, Field(min_length=1)]
    accuracy: _Points

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.confidence) != len(self.accuracy):
            raise ValueError("confidence and accuracy are of different lengths")
        return self


class _Curves(_Part):
    reliability: _Reliability
    risk_coverage: dict[Name, _Points] = {}
    per_class: dict[Name, dict[Name, _Points] | None] = {}
    malignant: dict[Name, _Points] | None = None


class _OfClass(_Part):
    precision: Share | None
    recall: Share | None
    f1: Share | None
    support: Whole
    specificity: Share | None = None
    roc_auc: Share | None = None
    average_precision: Share | None = None
    sensitivity_at_specificity: Share | None = None


class _Fold(_Part):
    n: Whole
    accuracy: Share
    ece: Share
    brier: Number
    log_loss: Number
    reliability: _Reliability


class _Coarse(_Part):
    groups: Annotated[tuple[Name, ...], Field(min_length=2)]
    n: Whole
    accuracy: Share
    balanced_accuracy: Share
    confusion: _Matrix
    verdicts: dict[Name, Whole] = {}
    accepted_accuracy: Share | None = None
    silent_error_rate: Share | None = None


class _Probe(_Part):
    name: Name | None
    balanced_accuracy: Share | None = None
    interval: _Interval | None = None
    chance: Share | None = None


class _Figures(_Part):
    classes: tuple[Name, ...]
    n: Whole
    accuracy: Share
    per_class: dict[Name, _OfClass]
    confusion: _Matrix
    intervals: dict[Name, _Interval | None]
    interval_unit: Name
    notes: tuple[Text, ...]
    protocol: Text
    units: Whole = 0
    by: Name = "image"
    fields: Whole = 0
    ece: Share | None
    exact: dict[Name, Text] = {}
    class_intervals: dict[Name, dict[Name, _Interval | None]] = {}
    verdicts: dict[Name, Whole] = {}
    curves: _Curves | None = None
    folds: tuple[_Fold, ...] = ()
    coarse: _Coarse | None = None
    shortcut_probe: _Probe | None = None
    drawn: Flag = False


def require_figures(values: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Raise `ValueError`, by the name of the field, where figures of a validation can be none.

    `classes` are those of the model; the figures must be of the same, in the same order.
    """
    try:
        found = _Figures.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "missing":
            raise ValueError(f"{shortened(where)}: {message}") from None
        raise ValueError(
            f"{shortened(where)} = {shortened(first.get('input'))}: {message}"
        ) from None
    for name in (*SHARES, *NUMBERS):
        _require_number(name, values.get(name), name in SHARES)
    _require_classes(found, tuple(classes))


def _require_number(name: str, value: Any, share: bool) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is {shortened(value)}, not a number")
    if share and not 0 <= value <= 1:
        raise ValueError(f"{name} is {shortened(value)}, not between 0 and 1")


def _require_classes(found: _Figures, classes: tuple[str, ...]) -> None:
    if found.classes != classes:
        raise ValueError("classes are not those of the model, in their order")
    if tuple(found.per_class) != classes:
        raise ValueError("per_class is not of the model's classes, in their order")
    _require_square("confusion", found.confusion, len(classes))
    if sum(map(sum, found.confusion)) != found.n:
        raise ValueError(f"confusion does not add up to n = {found.n}")
    if found.coarse is not None:
        _require_square("coarse.confusion", found.coarse.confusion, len(found.coarse.groups))
        _require_verdicts("coarse.verdicts", found.coarse.verdicts)
        if found.coarse.verdicts and found.coarse.silent_error_rate is None:
            raise ValueError("coarse.silent_error_rate is not there, and coarse.verdicts are")
    _require_verdicts("verdicts", found.verdicts)
    probe = found.shortcut_probe
    if probe is not None and probe.name is not None:
        lacking = [
            n for n in ("balanced_accuracy", "interval", "chance") if getattr(probe, n) is None
        ]
        if lacking:
            raise ValueError(f"shortcut_probe lacks {lacking[0]}")


def _require_square(name: str, matrix: _Matrix, side: int) -> None:
    if len(matrix) != side or any(len(row) != side for row in matrix):
        raise ValueError(f"{name} is not {side} rows of {side} counts")


def _require_verdicts(name: str, verdicts: Mapping[str, int]) -> None:
    lacking = [verdict for verdict in VERDICTS if verdict not in verdicts]
    if verdicts and lacking:
        raise ValueError(f"{name} lacks {lacking[0]!r}")
