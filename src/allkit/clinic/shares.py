"""Shares with their number and interval, and which readings and times a figure is made of."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from allkit.clinic.agreement import wilson
from allkit.clinic.store import tables as t
from allkit.clinic.text import date_of

__all__ = ["TOO_FEW", "Share", "share_of", "standing", "within"]

TOO_FEW = 20
"""Under so many fields no share is given."""


@dataclass(frozen=True)
class Share:
    """`hits` of `n`, as a share from 0 to 1 with the interval of Wilson (95 %).

    Under 20 it says `too_few`, and `share`, `low` and `high` are `None`. The interval takes fields for
    independent of one another, which those of one case are not: it is narrower than it should be.
    """

    hits: int
    n: int
    share: float | None
    low: float | None
    high: float | None
    too_few: bool


def share_of(hits: int, n: int) -> Share:
    """Return a share of a number of fields."""
    if n < TOO_FEW:
        return Share(hits, n, None, low=None, high=None, too_few=True)
    low, high = wilson(hits, n)
    return Share(hits, n, hits / n, low=low, high=high, too_few=False)


def standing() -> sa.Subquery:
    """Return the readings that stand, as a table of a query: for each field and round the last class that
    was not taken back, in the case in which it was read."""
    r = t.readings.c
    undone = sa.select(r.undoes).where(r.kind == "undo", r.undoes.is_not(None))
    # A window, not `seq IN (the last of each)`: both databases then read the table once.
    place = sa.func.row_number().over(
        partition_by=(r.case_id, r.field_id, r.round), order_by=r.seq.desc()
    )
    each = (
        sa.select(t.readings, place.label("place"))
        .where(r.kind == "label", r.seq.not_in(undone))
        .subquery()
    )
    return sa.select(each).where(each.c.place == 1).subquery("standing")


def within(
    column: sa.ColumnElement[str], since: str | None, until: str | None = None
) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that a time lies on the days from `since` to `until` (both included, UTC).

    Days are `2026-01-31`. Raises `ClinicError` for what is no date.
    """
    first, last = date_of(since, "first day"), date_of(until, "last day")
    conditions = [] if first is None else [column >= first]
    if last is not None:
        conditions.append(column < last + "U")  # behind every time of that day: T < U
    return conditions
