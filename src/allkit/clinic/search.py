"""Finding cases: by the beginning of a number, and by what a list is filtered for."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from allkit.clinic.access import READERS, User
from allkit.clinic.patients import identifiers_of
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Change
from allkit.clinic.text import date_of, line
from allkit.errors import ClinicError

__all__ = ["CaseRow", "Filter", "Page", "counts", "find", "previous", "resolve", "write_terms"]

TERM = 64
PAGE = 50
MANY = 20_000
"""From so many terms on cases are looked at in their order."""
FEW = 200
"""Up to so many, they are looked at one by one."""


@dataclass(frozen=True)
class Filter:
    """What a list of cases is filtered for; what is `None` or empty does not matter.

    `text` is the beginning of the pseudonym, an order or specimen number, an identifier, or of any part of
    these behind a mark ("00417" finds "LAB-2026-00417"). `reader` is the id of a person. `since` and
    `until` are dates (both included) of the day on which a case was opened, in UTC. `review` says whether
    fields still need to be read.
    """

    text: str = ""
    status: tuple[str, ...] = ()
    specimen: str | None = None
    reader: str | None = None
    since: str | None = None
    until: str | None = None
    urgent: bool | None = None
    review: bool | None = None


@dataclass(frozen=True)
class CaseRow:
    """One row of a list of cases.

    `review` counts the fields that nobody has read and that no model accepted.
    """

    id: str
    pseudonym: str | None
    order: str | None
    specimen: str
    collected: str | None
    status: str
    priority: int
    reader: str | None
    created: str
    changed: str
    fields: int
    review: int
    cancelled: bool


@dataclass(frozen=True)
class Page:
    """Rows of a list, and where the next page begins (`None` at the end)."""

    rows: tuple[CaseRow, ...]
    next: str | None


def words(value: str) -> set[str]:
    """Return the terms under which a number is found: the whole, and each end of it behind a mark."""
    text = unicodedata.normalize("NFKC", value).casefold().strip()
    starts = [0, *(match.end() for match in re.finditer(r"[\W_]+", text))]
    return {text[start:][:TERM] for start in starts if text[start:]}


def write_terms(change: Change, case: str) -> None:
    """Write the terms of a case anew."""
    row = change.first(
        sa.select(t.cases, t.patients.c.pseudonym)
        .join(t.patients, t.patients.c.id == t.cases.c.patient_id)
        .where(t.cases.c.id == case)
    )
    change.connection.execute(t.terms.delete().where(t.terms.c.case_id == case))
    if row is None:
        return
    numbers = [row.pseudonym, row.order_number, row.specimen_number]
    numbers += [one.value for one in identifiers_of(change.connection, row.patient_id)]
    found = set().union(*(words(number) for number in numbers if number))
    change.connection.execute(
        t.terms.insert(), [{"term": term, "case_id": case} for term in sorted(found)]
    )


def find(
    user: User,
    wanted: Filter | None = None,
    *,
    after: str | None = None,
    limit: int = PAGE,
    polling: bool = False,
) -> Page:
    """Return a page of cases, the urgent ones first, then the oldest; `after` is the `next` of a page.

    Erased cases are shown only where `status` asks for them. `polling` is for a list that refreshes itself.
    """
    wanted = wanted or Filter()
    with user.read(*READERS, "admin", "system", polling=polling) as connection:
        return _page(connection, wanted, after, limit)


def _page(connection: sa.Connection, wanted: Filter, after: str | None, limit: int) -> Page:
    conditions = _conditions(connection, wanted)
    begins = None if after is None else _place(after)
    found: list[tuple[int, str, str]] = []
    # One query for each priority and state, in each of which an index has the order that is wanted.
    for priority in (1, 0):
        if len(found) > limit or (begins is not None and priority > begins[0]):
            continue
        rows: list[tuple[int, str, str]] = []
        for state in wanted.status or (None,):
            query = sa.select(t.cases.c.priority, t.cases.c.created, t.cases.c.id)
            query = query.where(t.cases.c.priority == priority, *conditions)
            query = query.where(
                t.cases.c.status != "erased" if state is None else t.cases.c.status == state
            )
            if begins is not None and begins[0] == priority:
                query = query.where(sa.tuple_(t.cases.c.created, t.cases.c.id) > begins[1:])
            query = query.order_by(t.cases.c.created, t.cases.c.id).limit(limit + 1)
            rows += [tuple(row) for row in connection.execute(query)]
        found += sorted(rows, key=lambda row: row[1:])
    ids = [id for _, _, id in found[:limit]]
    last = None
    if len(found) > limit:
        last = "|".join(map(str, found[limit - 1]))
    return Page(_rows(connection, ids), last)


def _conditions(connection: sa.Connection, wanted: Filter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.text.strip():
        line(wanted.text[:TERM], "text to search for", optional=True)
        term = unicodedata.normalize("NFKC", wanted.text).casefold().strip()[:TERM]
        conditions.append(_begins(connection, term))
    if wanted.specimen is not None:
        conditions.append(t.cases.c.specimen == wanted.specimen)
    if wanted.reader is not None:
        conditions.append(
            (t.cases.c.reader_id == wanted.reader) | (t.cases.c.second_id == wanted.reader)
        )
    if wanted.urgent is not None:
        conditions.append(t.cases.c.priority > 0 if wanted.urgent else t.cases.c.priority == 0)
    if wanted.review is not None:
        conditions.append(t.cases.c.review > 0 if wanted.review else t.cases.c.review == 0)
    since, until = date_of(wanted.since, "first day"), date_of(wanted.until, "last day")
    if since is not None:
        conditions.append(t.cases.c.created >= since)
    if until is not None:
        conditions.append(t.cases.c.created < until + "U")  # behind every time of that day: T < U
    return conditions


def _begins(connection: sa.Connection, term: str) -> sa.ColumnElement[bool]:
    """Return the condition that a term of a case begins so; by a range, as LIKE does not use the index
    everywhere.

    Few cases are found by their terms, and so many that each page has some by looking at case after case.
    """
    terms = t.terms.c
    within = (terms.term >= term) & (terms.term < term + "\U0010ffff")
    some = sa.select(terms.case_id).where(within).limit(MANY).subquery()
    count: int = connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0
    if count == MANY:
        return sa.exists().where(terms.case_id == t.cases.c.id, within)
    if count <= FEW:
        return t.cases.c.id.in_(connection.scalars(sa.select(terms.case_id).where(within)).all())
    return t.cases.c.id.in_(sa.select(terms.case_id).where(within))


def _place(after: str) -> tuple[int, str, str]:
    # Digits alone: `isdigit` also takes "²", of which there is no number.
    found = re.fullmatch(r"([01])\|([0-9TZ:.-]{1,40})\|([0-9A-Z]{26})", after)
    if found is None:
        raise ClinicError(f"{after[:60]!r} is no place in a list. Begin again without it.")
    return int(found[1]), found[2], found[3]


def _rows(connection: sa.Connection, ids: list[str]) -> tuple[CaseRow, ...]:
    number = (
        sa.select(sa.func.count())
        .select_from(t.fields)
        .where(t.fields.c.case_id == t.cases.c.id)
        .scalar_subquery()
    )
    query = (
        sa.select(t.cases, t.patients.c.pseudonym, t.people.c.name.label("who"), number.label("n"))
        .outerjoin(t.patients, t.patients.c.id == t.cases.c.patient_id)
        .outerjoin(t.people, t.people.c.id == t.cases.c.reader_id)
        .where(t.cases.c.id.in_(ids))
    )
    by_id = {row.id: _row(row) for row in connection.execute(query)}
    return tuple(by_id[id] for id in ids)


def _row(row: sa.Row[Any]) -> CaseRow:
    return CaseRow(
        id=row.id,
        pseudonym=row.pseudonym,
        order=row.order_number,
        specimen=row.specimen,
        collected=row.collected,
        status=row.status,
        priority=row.priority,
        reader=row.who,
        created=row.created,
        changed=row.changed,
        fields=row.n,
        review=row.review,
        cancelled=row.order_state == "cancelled",
    )


def counts(user: User, *, polling: bool = False) -> dict[str, int]:
    """Return how many cases there are in each state; `polling` is for a page that refreshes itself."""
    with user.read(*READERS, "admin", polling=polling) as connection:
        rows = connection.execute(
            sa.select(t.cases.c.status, sa.func.count().label("n")).group_by(t.cases.c.status)
        )
        return {row.status: row.n for row in rows}


def previous(user: User, case: str) -> tuple[CaseRow, ...]:
    """Return the other cases of the patient of a case, the newest first."""
    with user.read(*READERS) as connection:
        patient = connection.scalar(sa.select(t.cases.c.patient_id).where(t.cases.c.id == case))
        rows = connection.scalars(
            sa.select(t.cases.c.id)
            .where(t.cases.c.patient_id == patient, t.cases.c.id != case)
            .order_by(t.cases.c.created.desc())
        )
        return _rows(connection, list(rows))


def resolve(user: User, text: str, *, whole: bool = False) -> str:
    """Return the id of the one case that a text names: its id, an order number, or what finds it alone.

    With `whole` the beginning of a number is not enough, as for what cannot be undone.

    Raises `ClinicError` where it names none or several.
    """
    with user.read(*READERS, "admin", "system") as connection:
        wanted = text.strip()
        if connection.scalar(sa.select(t.cases.c.id).where(t.cases.c.id == wanted.upper())):
            return wanted.upper()
        exact = connection.scalars(
            sa.select(t.cases.c.id).where(t.cases.c.order_number == wanted)
        ).all()
        if len(exact) == 1:
            return str(exact[0])
        page = (
            _page(connection, Filter(text=wanted), None, 5)
            if wanted and not whole
            else Page((), None)
        )
    if len(page.rows) == 1:
        return page.rows[0].id
    if not page.rows:
        raise ClinicError(f"No case is found by {text[:40]!r}. List them with: allkit clinic list")
    raise ClinicError(
        f"{text[:40]!r} finds several cases: {', '.join(row.id for row in page.rows)}. Give one of these."
    )
