"""Patients under pseudonyms, and the numbers that other systems gave them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import sqlalchemy as sa

from allkit.clinic.records import Identifier
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Change, new_id
from allkit.clinic.text import identifier, line
from allkit.errors import ClinicError

__all__ = ["forget_patient", "identifiers_of", "known_as", "patient_for", "root_of"]

ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""The letters of pseudonyms: none that is taken for another one."""


def patient_for(change: Change, pseudonym: str | None, given: Sequence[Identifier] = ()) -> str:
    """Return the id of the patient of a pseudonym or of outside identifiers; make one where there is none.

    Identifiers that are new are added. Raises `ClinicError` where they are those of two patients.
    """
    numbers = [identifier(one, "identifier of the patient") for one in given]
    found = {known for one in numbers if (known := known_as(change.connection, one)) is not None}
    if pseudonym is not None:
        name = line(pseudonym, "pseudonym")
        row = change.first(sa.select(t.patients.c.id).where(t.patients.c.pseudonym == name))
        found |= set() if row is None else {root_of(change.connection, row.id)}
    else:
        name = new_pseudonym()
    if len(found) > 1:
        raise ClinicError(
            "The pseudonym and the identifiers belong to different patients. Check the numbers; if it is one "
            "person, join the two patients first (allkit clinic join)."
        )
    id = found.pop() if found else None
    if id is None:
        id = new_id()
        change.insert(t.patients, id=id, pseudonym=name, created=change.now)
        change.log("patient.added", id)
    for one in numbers:
        if known_as(change.connection, one) is None:
            change.insert(
                t.identifiers, id=new_id(), patient_id=id, issuer=one.issuer, value=one.value
            )
            change.log("identifier.added", id)
    return id


def new_pseudonym() -> str:
    """Return a random pseudonym: `P-` and eight letters or digits (40 bits)."""
    return "P-" + "".join(secrets.choice(ALPHABET) for _ in range(8))


def known_as(connection: sa.Connection, given: Identifier) -> str | None:
    """Return the id of the patient to whom an identifier belongs."""
    found: str | None = connection.scalar(
        sa.select(t.identifiers.c.patient_id).where(
            t.identifiers.c.issuer == given.issuer, t.identifiers.c.value == given.value
        )
    )
    return None if found is None else root_of(connection, found)


def root_of(connection: sa.Connection, id: str) -> str:
    """Return the patient that a patient was joined to, or the patient itself."""
    while True:
        joined = connection.scalar(sa.select(t.patients.c.joined_to).where(t.patients.c.id == id))
        if joined is None:
            return id
        id = joined


def identifiers_of(connection: sa.Connection, id: str) -> tuple[Identifier, ...]:
    """Return the outside identifiers of a patient, in a fixed order."""
    rows = connection.execute(
        sa.select(t.identifiers)
        .where(t.identifiers.c.patient_id == id)
        .order_by(t.identifiers.c.issuer, t.identifiers.c.value)
    )
    return tuple(Identifier(row.value, row.issuer) for row in rows)


def forget_patient(change: Change, patient: str | None) -> None:
    """Delete a patient who has no case any more, with what was joined to them.

    One who was joined to another stays, as a name that leads there.
    """
    joined = sa.select(t.patients.c.joined_to).where(t.patients.c.id == patient)
    if change.connection.scalar(joined) is not None:
        return
    if change.first(sa.select(t.cases.c.id).where(t.cases.c.patient_id == patient)) is not None:
        return
    change.connection.execute(t.identifiers.delete().where(t.identifiers.c.patient_id == patient))
    before: list[str | None] = [patient]
    while before:
        ids = change.connection.scalars(
            sa.select(t.patients.c.id).where(t.patients.c.joined_to.in_(before))
        ).all()
        change.connection.execute(
            t.patients.update().where(t.patients.c.id.in_(ids)).values(joined_to=None)
        )
        change.connection.execute(t.patients.delete().where(t.patients.c.id.in_(before)))
        before = [*ids]
