"""Erasing a case: its images, readings and reports go; the audit keeps ids and hashes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from allkit.clinic.access import User
from allkit.clinic.cases import row_of
from allkit.clinic.patients import forget_patient
from allkit.clinic.records import sha256_of
from allkit.clinic.store import tables as t
from allkit.clinic.store.engine import named_failures
from allkit.clinic.store.store import Change
from allkit.clinic.text import note
from allkit.errors import ClinicError

__all__ = ["Erased", "erase", "sweep", "unused"]


@dataclass(frozen=True)
class Erased:
    """What was erased: how many fields and reports, and the backups that still hold the case."""

    fields: int
    reports: int
    backups: tuple[str, ...]


def erase(user: User, case: str, *, why: str) -> Erased:
    """Erase a case for good. One that was signed is erased by an admin only; both need a reason.

    Raises `AccessError` and `ClinicError`. The reason is not kept in words: it could name the patient.
    """
    reason = note(why, "reason", optional=False)
    with user.change("reader", "signer", "admin") as change:
        row = row_of(change.connection, case)
        if row.status == "erased":
            raise ClinicError(f"The case {case} was erased before.")
        reports = _ids(change, t.reports, t.reports.c.case_id == case)
        if reports:
            user.require(change.connection, "admin")
        fields = change.connection.execute(
            sa.select(t.fields.c.id, t.fields.c.sha256).where(t.fields.c.case_id == case)
        ).all()
        held = _backups(change, row.created)
        maps = _maps(change, [f.id for f in fields])
        erased = _delete(change, case, [f.id for f in fields], reports)
        files = unused(change, {f.sha256 for f in fields} | maps)
        forget_patient(change, row.patient_id)
        change.log(
            "case.erased",
            case,
            why_sha256=sha256_of(reason),
            fields=len(fields),
            reports=len(reports),
            images=sorted(files),
            erased=erased,
        )
    # Only now: were the rows not gone, a file that they name must be there. What a process that is killed
    # here leaves behind, `sweep` removes.
    sweep(user, files)
    _forget_journal(user)
    return Erased(len(fields), len(reports), held)


def _ids(change: Change, table: sa.Table, where: sa.ColumnElement[bool]) -> list[str]:
    return list(change.connection.scalars(sa.select(table.c.id).where(where)))


def _maps(change: Change, fields: list[str]) -> set[str]:
    """Return the hashes of the maps that explain answers for fields: they show where cells are."""
    e = t.explanations.c
    found = sa.select(e.map_sha256).where(e.field_id.in_(fields), e.map_sha256.is_not(None))
    return set(change.connection.scalars(found))


def _backups(change: Change, created: str) -> tuple[str, ...]:
    rows = change.connection.scalars(
        sa.select(t.backups.c.path).where(t.backups.c.at >= created).order_by(t.backups.c.at)
    )
    return tuple(rows)


def _delete(
    change: Change, case: str, fields: list[str], reports: list[str]
) -> dict[str, list[str]]:
    """Delete all rows of a case but its own; return the keys of those that are never changed otherwise."""
    run = change.connection.execute
    change.insert(t.erasing, case_id=case)
    run(t.deliveries.delete().where(t.deliveries.c.report_id.in_(reports)))
    r = t.readings.c
    kept = {
        # Also what was read of a field before it was moved here from another case.
        t.readings: (r.case_id == case) | r.field_id.in_(fields),
        t.answers: t.answers.c.field_id.in_(fields),
        **{
            table: table.c.case_id == case
            for table in (t.slide_answers, t.reports, t.signatures, t.reasons)
        },
    }
    erased = {}
    for table, where in kept.items():
        (key,) = table.primary_key.columns
        erased[table.name] = [
            str(one) for one in change.connection.scalars(sa.select(key).where(where))
        ]
        run(table.delete().where(where))
    explained = t.explanations.c.field_id.in_(fields)
    erased[t.explanations.name] = _ids(change, t.explanations, explained)
    run(t.explanations.delete().where(explained))
    for other in (t.jobs, t.terms, t.fields):
        run(other.delete().where(other.c.case_id == case))
    for row in run(sa.select(t.messages).where(t.messages.c.case_id == case)).all():
        mine = (t.messages.c.sender == row.sender) & (t.messages.c.control == row.control)
        run(t.messages.update().where(mine).values(control=sha256_of(row.control)))
    change.update(
        t.cases,
        case,
        status="erased",
        patient_id=None,
        order_number=None,
        order_issuer=None,
        specimen_number=None,
        collected=None,
        stain=None,
        priority=0,
        review=0,
        changed=change.now,
    )
    run(t.erasing.delete().where(t.erasing.c.case_id == case))
    return erased


def unused(change: Change, hashes: set[str]) -> set[str]:
    """Delete the rows of files that nothing shows any more, of some hashes; return their hashes."""
    users = (t.fields.c.sha256, t.explanations.c.map_sha256, t.references.c.sha256)
    still: set[str] = set()
    for column in users:
        still |= set(change.connection.scalars(sa.select(column).where(column.in_(hashes))))
    gone = hashes - still
    change.connection.execute(t.blobs.delete().where(t.blobs.c.sha256.in_(gone)))
    return gone


def sweep(user: User, hashes: Iterable[str] | None = None) -> int:
    """Remove image files that no row names, of some hashes or of all; return how many.

    What killed processes left half written goes too. In a transaction that writes: who adds an image
    writes its file anew where its row is missing.
    """
    with user.change("reader", "signer", "admin", "system") as change:
        known = set(change.connection.scalars(sa.select(t.blobs.c.sha256)))
        lost = [
            h for h in (user.store.blobs.there() if hashes is None else hashes) if h not in known
        ]
        for sha256 in lost:
            user.store.blobs.remove(sha256)
        user.store.blobs.clear_parts()
        if lost:
            change.log("images.removed", "images", images=sorted(lost))
    return len(lost)


def _forget_journal(user: User) -> None:
    """Empty SQLite's journal, which holds former pages; within the database they are overwritten."""
    engine = user.store.engine
    if engine.dialect.name != "sqlite":
        return
    with named_failures():
        raw = engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            raw.close()
