"""How the model's answers change from month to month."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import sqlalchemy as sa

from allkit.clinic.intake.incoming import STAIN
from allkit.clinic.shares import TOO_FEW, Share, share_of, within
from allkit.clinic.store import tables as t
from allkit.trust import reasons

__all__ = ["Drift", "drift_of"]

VERDICTS = ("accepted", "review", "refused", "unreadable")
UNFAMILIAR = frozenset({
    reasons.UNLIKE_TRAINING, reasons.UNFAMILIAR_SLIDE, reasons.NOT_A_SMEAR,
})  # fmt: skip
UNUSUAL = frozenset(reasons.UNUSUAL.values())
PAGE = 1_000
NOT_SAID = "(not said)"


@dataclass(frozen=True)
class Drift:
    """The answers of one model in one month (`2026-01`, in UTC, of the answer).

    `verdicts` has a share for each. `ood_median` is the median of how unlike the training images the
    fields are, in the model's own units (higher: more unlike), over the `ood_n` answers that have one;
    `None` under 20. `unfamiliar` is the share of readable fields for which the model said that slide or
    image is unlike its training, or no smear; `unusual` the share with an unusual brightness, colour,
    stain, sharpness or size; `reasons` counts every reason by its code. `without_white_cells` is the share
    in which none was found, of the fields in which they were sought. `stains` counts the cases by the
    stain that was entered. `background` and `cells` are the medians over the fields of what was measured of
    the colours, by no network: optical densities of red, green and blue light (natural logarithm, 0 is
    white) of the background and of the stained cells; `None` under 20.
    """

    month: str
    model: str
    n: int
    verdicts: Mapping[str, Share]
    ood_median: float | None
    ood_n: int
    unfamiliar: Share
    unusual: Share
    without_white_cells: Share
    reasons: Mapping[str, int]
    stains: Mapping[str, int]
    background: tuple[float, ...] | None = None
    cells: tuple[float, ...] | None = None


@dataclass
class _Tally:
    verdicts: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    stains: Counter[str] = field(default_factory=Counter)
    scores: array[float] = field(default_factory=lambda: array("d"))
    colours: list[array[float]] = field(default_factory=lambda: [array("d") for _ in STAIN])
    unfamiliar: int = 0
    unusual: int = 0
    counted: int = 0
    empty: int = 0

    def take(self, verdict: str, answer: Mapping[str, Any], stain: Sequence[float]) -> None:
        for values, value in zip(self.colours, stain, strict=False):
            values.append(value)
        codes = set(answer.get("reason_codes") or ())
        self.verdicts[verdict] += 1
        self.codes.update(codes)
        self.unfamiliar += bool(codes & UNFAMILIAR)
        self.unusual += bool(codes & UNUSUAL)
        score, cells = answer.get("ood_score"), answer.get("white_cells")
        if score is not None:
            self.scores.append(score)
        if cells is not None:
            self.counted += 1
            self.empty += cells == 0

    def row(self, month: str, model: str) -> Drift:
        n = self.verdicts.total()
        readable = n - self.verdicts["unreadable"]
        enough = len(self.scores) >= TOO_FEW
        return Drift(
            month,
            model,
            n=n,
            verdicts={name: share_of(self.verdicts[name], n) for name in VERDICTS},
            ood_median=median(self.scores) if enough else None,
            ood_n=len(self.scores),
            unfamiliar=share_of(self.unfamiliar, readable),
            unusual=share_of(self.unusual, readable),
            without_white_cells=share_of(self.empty, self.counted),
            reasons=dict(self.codes.most_common()),
            stains=dict(sorted(self.stains.items())),
            background=self.colour(0),
            cells=self.colour(3),
        )

    def colour(self, begins: int) -> tuple[float, ...] | None:
        three = self.colours[begins : begins + 3]
        return tuple(median(one) for one in three) if len(three[0]) >= TOO_FEW else None


def drift_of(
    connection: sa.Connection, *, since: str | None = None, until: str | None = None
) -> tuple[Drift, ...]:
    """Return a row for each month and model, in order; one answer at a time is in memory."""
    month = sa.func.substr(t.answers.c.at, 1, 7).label("month")
    days = within(t.answers.c.at, since, until)
    found: dict[tuple[str, str], _Tally] = {}
    rows = connection.execute(
        sa.select(month, t.models.c.sha256, t.answers.c.verdict, t.answers.c.data, t.fields.c.stain)
        .join(t.models, t.models.c.id == t.answers.c.model_id)
        .join(t.fields, t.fields.c.id == t.answers.c.field_id)
        .where(*days)
        .execution_options(yield_per=PAGE)
    )
    for row in rows:
        tally = found.setdefault((row.month, row.sha256), _Tally())
        tally.take(row.verdict, json.loads(row.data), json.loads(row.stain))
    for row in connection.execute(_stains(month, days)):
        found[row.month, row.sha256].stains[row.stain or NOT_SAID] += row.cases
    return tuple(found[key].row(*key) for key in sorted(found))


def _stains(month: sa.ColumnElement[str], days: list[sa.ColumnElement[bool]]) -> sa.Select[Any]:
    each = (
        sa.select(month, t.models.c.sha256, t.cases.c.stain, t.cases.c.id)
        .select_from(t.answers)
        .join(t.models, t.models.c.id == t.answers.c.model_id)
        .join(t.fields, t.fields.c.id == t.answers.c.field_id)
        .join(t.cases, t.cases.c.id == t.fields.c.case_id)
        .where(*days)
        .distinct()
        .subquery()
    )
    keys = (each.c.month, each.c.sha256, each.c.stain)
    return sa.select(*keys, sa.func.count().label("cases")).group_by(*keys)
