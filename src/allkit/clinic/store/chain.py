"""The audit: rows that each hold the hash of the one before.

A row is never changed or deleted, which the database itself refuses; whoever gets around that breaks
the chain. Rows that were cut off at the end are found by the head of a backup or of an export.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from dataclasses import fields as dataclass_fields
from typing import Any

import sqlalchemy as sa

from allkit.clinic.records import canonical, sha256_of
from allkit.clinic.store import tables as t

__all__ = ["START", "AuditRow", "append", "broken_links", "head", "rows"]

START = "0" * 64
"""What the first row holds in place of the hash of the row before."""
PAGE = 5_000


@dataclass(frozen=True)
class AuditRow:
    """One row: who did what to which object, when; `detail` holds ids, hashes, numbers and fixed words."""

    seq: int
    at: str
    who: str
    what: str
    object: str
    detail: Mapping[str, Any]
    prev: str
    hash: str

    @property
    def expected(self) -> str:
        """The hash that the content of the row has."""
        content = [self.seq, self.at, self.who, self.what, self.object, self.detail, self.prev]
        return sha256_of(canonical(content))


def head(connection: sa.Connection) -> tuple[int, str, str]:
    """Return the number, the hash and the time of the last row; of an empty audit 0, `START` and ""."""
    last = connection.execute(
        sa.select(t.audit.c.seq, t.audit.c.hash, t.audit.c.at)
        .order_by(t.audit.c.seq.desc())
        .limit(1)
    ).first()
    return (0, START, "") if last is None else (last.seq, last.hash, last.at)


def append(
    connection: sa.Connection, now: str, who: str, *, what: str, object: str, **detail: Any
) -> AuditRow:
    """Append a row within a transaction that writes.

    Where the clock went back, the row has the time of the row before, and says so.
    """
    seq, prev, last = head(connection)
    if now < last:
        detail["clock"] = now
        now = last
    row = AuditRow(seq + 1, now, who, what, object=object, detail=detail, prev=prev, hash="")
    row = replace(row, hash=row.expected)
    values = {f.name: getattr(row, f.name) for f in dataclass_fields(row)}
    connection.execute(t.audit.insert().values(values | {"detail": canonical(detail)}))
    return row


def rows(connection: sa.Connection, after: int = 0) -> Iterator[AuditRow]:
    """Yield the rows behind a number, in order; a page of them at a time is in memory."""
    while True:
        page = connection.execute(
            sa.select(t.audit).where(t.audit.c.seq > after).order_by(t.audit.c.seq).limit(PAGE)
        ).all()
        for row in page:
            values = dict(row._mapping)
            yield AuditRow(**values | {"detail": json.loads(values["detail"])})
        if len(page) < PAGE:
            return
        after = page[-1].seq


def broken_links(
    connection: sa.Connection,
    known: Mapping[int, str] | None = None,
    *,
    each: Callable[[AuditRow], None] | None = None,
) -> Iterator[str]:
    """Yield what is wrong with the chain, in words; nothing where it is whole.

    `known` holds hashes that rows had when they were written down elsewhere, by number. `each` is called
    with every row.
    """
    number, prev = 0, START
    missing = dict(known or {})
    for row in rows(connection):
        if row.seq != number + 1:
            yield f"Rows {number + 1} to {row.seq - 1} of the audit are missing."
        if row.prev != prev:
            yield f"Row {row.seq} of the audit does not follow the row before it."
        if row.hash != row.expected:
            yield f"Row {row.seq} of the audit was altered: its hash is not that of its content."
        if row.seq in missing and missing.pop(row.seq) != row.hash:
            yield f"Row {row.seq} of the audit is another one than was written down elsewhere."
        number, prev = row.seq, row.hash
        if each is not None:
            each(row)
    if missing:
        yield f"The audit ends with row {number}, but row {max(missing)} was written down elsewhere."
