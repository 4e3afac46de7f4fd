"""How the model and the readers do in this clinic: overrides, calibration, agreement, drift.

Every share has its number of fields and its interval, and under 20 fields says "too few" instead. What is
erased is in no figure any more, also not in those of former months.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Literal

import sqlalchemy as sa

from allkit.clinic.access import READERS, User
from allkit.clinic.cases import SIGNED
from allkit.clinic.drift import Drift, drift_of
from allkit.clinic.reading import INADEQUATE, OTHER
from allkit.clinic.resampling import Pairs, kappa_by_cases
from allkit.clinic.shares import TOO_FEW, Share, share_of, standing, within
from allkit.clinic.store import tables as t
from allkit.errors import ClinicError

__all__ = [
    "NOTES",
    "Agreement",
    "Band",
    "Calibration",
    "Drift",
    "Override",
    "Overrides",
    "Quality",
    "agreement",
    "calibration",
    "drift",
    "overrides",
    "refusals",
    "summary",
]

SEES = (*READERS, "admin")
By = Literal["class", "month"]
BANDS = ((0.99, 1.0), (0.95, 0.99), (0.9, 0.95), (0.8, 0.9), (0.0, 0.8))
PAGE = 1_000
SEED = 0
NOTES = (
    "A reader who sees the model's answer agrees with it more easily than one who reads blind; the two are "
    "counted apart.",
    "Readers may leave what the model accepted unread. Such fields are in no figure of overrides or "
    "calibration, so these show mostly the fields that were hard for the model.",
    "The reader's class is taken for the truth; it may be wrong, above all where it was given beside the "
    "model's.",
    "Intervals of shares take fields for independent; the fields of one case are alike, so that the true "
    "intervals are wider. The interval of kappa takes whole cases.",
    "A change from month to month may come from other patients, another stain, another microscope or another "
    "model: the figures do not say which.",
)
"""What the figures do not say."""


@dataclass(frozen=True)
class Override:
    """How often the reader gave another class than one model's answers.

    `of` is the model's class or the month of the reading (`2026-01`, UTC); `verdict` is accepted or review;
    `blind` says that the reader had not seen the answer. `unclassed` of those `changed` were called `other`
    or `inadequate`.
    """

    model: str
    of: str
    verdict: str
    blind: bool
    changed: Share
    unclassed: int
    cases: int


@dataclass(frozen=True)
class Overrides:
    """Overrides `by` class or month. `left_out` counts the fields that were read where the model had no
    answer (`none`), or none that could be used (`refused`, `unreadable`)."""

    by: By
    rows: tuple[Override, ...]
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class Band:
    """One model's answers with a probability from `low` to `high`, 0 to 1, and whether they were right.

    `mean` is the mean probability: a calibrated model is `right` as often as that. `blind` are those of
    them that were read blind.
    """

    model: str
    low: float
    high: float
    mean: float
    right: Share
    blind: Share
    cases: int


@dataclass(frozen=True)
class Calibration:
    """The bands of calibrated models in signed cases. `left_out` counts the answers that are in no band:
    `not_calibrated`, `refused`, `unreadable`, `unread` by a person, or called `inadequate`."""

    rows: tuple[Band, ...]
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class Agreement:
    """How far first and second readers agree, over `n` fields of `cases` cases that both have read.

    `kappa` is Cohen's, −1 to 1, of all pairs of readers together; `low` and `high` its 95 % interval by
    drawing cases (`resampling`). Each may be `None`: under 20 fields (`too_few`), or where it is not
    defined. `same` is the plain share of equal classes. `other` and `inadequate` are classes here.
    """

    n: int
    cases: int
    kappa: float | None
    low: float | None
    high: float | None
    same: Share
    too_few: bool


@dataclass(frozen=True)
class Quality:
    """All figures of a clinic at one moment, with what they do not say (`notes`)."""

    at: str
    overrides_by_class: Overrides
    overrides_by_month: Overrides
    calibration: Calibration
    agreement: Agreement
    drift: tuple[Drift, ...]
    notes: tuple[str, ...] = NOTES

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values, ready for JSON."""
        return asdict(self)


def overrides(
    user: User, *, by: By = "class", since: str | None = None, until: str | None = None
) -> Overrides:
    """Return how often the first reader's standing class differs from the answer that stood then.

    `since` and `until` are days of the reading (`2026-01-31`, both included, UTC). Needs the role reader,
    signer or admin. Raises `ClinicError` for another `by` or what is no date.
    """
    with user.read(*SEES) as connection:
        return _overrides(connection, by, since=since, until=until)


def calibration(user: User, *, since: str | None = None, until: str | None = None) -> Calibration:
    """Return how often calibrated answers were right in signed cases, by their probability.

    The days are those of the signature. The classes of the first reader decide; `other` is never right.
    """
    with user.read(*SEES) as connection:
        return _calibration(connection, since=since, until=until)


def agreement(
    user: User, *, since: str | None = None, until: str | None = None, seed: int = SEED
) -> Agreement:
    """Return Cohen's kappa between first and second readers; the days are those of the second reading.

    The same `seed` gives the same interval.
    """
    with user.read(*SEES) as connection:
        return _agreement(connection, since=since, until=until, seed=seed)


def drift(user: User, *, since: str | None = None, until: str | None = None) -> tuple[Drift, ...]:
    """Return the model's verdicts, reasons and familiarity by month; the days are those of the answer."""
    with user.read(*SEES) as connection:
        return drift_of(connection, since=since, until=until)


def refusals(user: User) -> dict[str, Share]:
    """Return for each model, by its id, how many fields of this laboratory it refused: all times together.

    Files that could not be read count as refused. A model that has answered nothing has no entry.
    """
    refused = _number(t.answers.c.verdict.in_(("refused", "unreadable")))
    with user.read(*SEES) as connection:
        rows = connection.execute(
            sa.select(
                t.answers.c.model_id,
                sa.func.sum(refused).label("hits"),
                sa.func.count().label("n"),
            ).group_by(t.answers.c.model_id)
        )
        return {row.model_id: share_of(row.hits, row.n) for row in rows}


def summary(user: User, *, since: str | None = None, until: str | None = None) -> Quality:
    """Return all figures, as they were at one moment."""
    days = {"since": since, "until": until}
    with user.read(*SEES) as connection:
        return Quality(
            at=user.store.now(),
            overrides_by_class=_overrides(connection, "class", **days),
            overrides_by_month=_overrides(connection, "month", **days),
            calibration=_calibration(connection, **days),
            agreement=_agreement(connection, **days, seed=SEED),
            drift=drift_of(connection, **days),
        )


def _overrides(
    connection: sa.Connection, by: By, *, since: str | None, until: str | None
) -> Overrides:
    if by not in ("class", "month"):
        raise ClinicError(f"Overrides are counted by class or month, not by {by[:40]!r}.")
    read, a = standing(), t.answers.c
    r = read.c
    of = a.label if by == "class" else sa.func.substr(r.at, 1, 7)
    each = (
        sa.select(
            t.models.c.sha256,
            of.label("of"),
            a.verdict,
            r.blind,
            r.case_id,
            _number(r.label != a.label).label("changed"),
            _number((r.label != a.label) & r.label.in_((OTHER, INADEQUATE))).label("unclassed"),
        )
        .select_from(read)
        # What was read before a field was moved to another case does not stand there.
        .join(t.fields, (t.fields.c.id == r.field_id) & (t.fields.c.case_id == r.case_id))
        .outerjoin(t.answers, a.id == r.answer_id)
        .outerjoin(t.models, t.models.c.id == a.model_id)
        .where(r.round == 1, *within(r.at, since, until))
        .subquery()
    )
    keys = (each.c.sha256, each.c.of, each.c.verdict, each.c.blind)
    found = connection.execute(
        sa.select(
            *keys,
            sa.func.count().label("n"),
            sa.func.sum(each.c.changed).label("changed"),
            sa.func.sum(each.c.unclassed).label("unclassed"),
            sa.func.count(each.c.case_id.distinct()).label("cases"),
        )
        .group_by(*keys)
        .order_by(*keys)
    )
    rows, left_out = [], dict.fromkeys(("none", "refused", "unreadable"), 0)
    for row in found:
        if row.verdict in ("accepted", "review"):
            changed = share_of(row.changed, row.n)
            rows.append(
                Override(
                    row.sha256,
                    row.of,
                    row.verdict,
                    blind=row.blind,
                    changed=changed,
                    unclassed=row.unclassed,
                    cases=row.cases,
                )
            )
        else:
            left_out[row.verdict or "none"] += row.n
    return Overrides(by, tuple(rows), left_out)


def _number(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.case((condition, 1), else_=0)


def _calibration(connection: sa.Connection, *, since: str | None, until: str | None) -> Calibration:
    read, a = standing(), t.answers.c
    r = read.c
    signed = (
        sa.select(t.signatures.c.case_id, sa.func.max(t.signatures.c.at).label("at"))
        .group_by(t.signatures.c.case_id)
        .subquery()
    )
    state = sa.case(
        (a.verdict.in_(("refused", "unreadable")), a.verdict),
        (t.models.c.calibrated.is_(False), "not_calibrated"),
        (r.label.is_(None), "unread"),
        (r.label == INADEQUATE, INADEQUATE),
        else_="judged",
    )
    band = sa.case(*((a.probability >= low, i) for i, (low, _) in enumerate(BANDS)))
    each = (
        sa.select(
            t.models.c.sha256,
            state.label("state"),
            band.label("band"),
            a.probability,
            t.cases.c.id,
            _number(r.label == a.label).label("right"),
            _number(r.blind.is_(True)).label("blind"),
            _number(r.blind.is_(True) & (r.label == a.label)).label("blind_right"),
        )
        .select_from(t.cases)
        .join(signed, signed.c.case_id == t.cases.c.id)
        .join(t.fields, t.fields.c.case_id == t.cases.c.id)
        .join(t.answers, a.field_id == t.fields.c.id)
        .join(t.models, t.models.c.id == a.model_id)
        .outerjoin(
            read,
            (r.field_id == t.fields.c.id) & (r.case_id == t.cases.c.id) & (r.round == 1),
        )
        .where(t.cases.c.status.in_(SIGNED), *within(signed.c.at, since, until))
        .subquery()
    )
    sums = [sa.func.sum(each.c[name]).label(name) for name in ("right", "blind", "blind_right")]
    keys = (each.c.sha256, each.c.state, each.c.band)
    found = connection.execute(
        sa.select(
            *keys,
            sa.func.count().label("n"),
            sa.func.avg(each.c.probability).label("mean"),
            sa.func.count(each.c.id.distinct()).label("cases"),
            *sums,
        )
        .group_by(*keys)
        .order_by(*keys)
    )
    rows = []
    left_out = dict.fromkeys(("not_calibrated", "refused", "unreadable", "unread", INADEQUATE), 0)
    for row in found:
        if row.state != "judged":
            left_out[row.state] += row.n
            continue
        low, high = BANDS[row.band]
        rows.append(
            Band(
                row.sha256,
                low,
                high,
                mean=row.mean,
                right=share_of(row.right, row.n),
                blind=share_of(row.blind_right, row.blind),
                cases=row.cases,
            )
        )
    return Calibration(tuple(rows), left_out)


def _agreement(
    connection: sa.Connection, *, since: str | None, until: str | None, seed: int
) -> Agreement:
    read = standing()
    r, both = read.c, (read.c.case_id, read.c.field_id)
    first, second = (sa.func.max(sa.case((r.round == i, r.label))) for i in (1, 2))
    second_at = sa.func.max(sa.case((r.round == 2, r.at)))
    each = (
        sa.select(*both, first.label("first"), second.label("second"), second_at.label("at"))
        .join(t.fields, (t.fields.c.id == r.field_id) & (t.fields.c.case_id == r.case_id))
        .group_by(*both)
        .subquery()
    )
    keys = (each.c.case_id, each.c.first, each.c.second)
    rows = connection.execute(
        sa.select(*keys, sa.func.count().label("n"))
        .where(each.c.first.is_not(None), each.c.second.is_not(None))
        .where(*within(each.c.at, since, until))
        .group_by(*keys)
        .order_by(each.c.case_id)
        .execution_options(yield_per=PAGE)
    )
    cases = Counter(_by_case(rows))
    n = same = 0
    for kind, number in cases.items():
        n += number * sum(count for _, _, count in kind)
        same += number * sum(count for a, b, count in kind if a == b)
    too_few = n < TOO_FEW
    value, ends = (None, None) if too_few else kappa_by_cases(cases, seed=seed)
    return Agreement(
        n,
        cases.total(),
        value,
        low=None if ends is None else ends[0],
        high=None if ends is None else ends[1],
        same=share_of(same, n),
        too_few=too_few,
    )


def _by_case(rows: Iterable[sa.Row[Any]]) -> Iterable[Pairs]:
    for _, found in groupby(rows, key=lambda row: row.case_id):
        yield tuple(sorted((row.first, row.second, row.n) for row in found))
