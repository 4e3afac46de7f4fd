"""When an image, a case or a number turned out to belong to somebody else.

Each of these has a reason and is in the audit. A report that went out under a wrong identity is withdrawn;
where nothing but the patient changed, the same signed result goes out again under the right one, and where
the fields changed the case is opened again and waits for a new signature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from allkit.clinic.access import READERS, User
from allkit.clinic.cases import SIGNED, move, raise_priority, row_of
from allkit.clinic.fields import next_number
from allkit.clinic.jobs import enqueue, groups_of_model
from allkit.clinic.models import malignant
from allkit.clinic.patients import forget_patient, identifiers_of, patient_for, root_of
from allkit.clinic.records import CaseReport, Identifier, sha256_of
from allkit.clinic.reporting import keep, last_report, seconds
from allkit.clinic.search import write_terms
from allkit.clinic.signing import withdraw_in
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Change, new_id
from allkit.clinic.text import line, note
from allkit.clinic.view import answer_of, recount
from allkit.errors import ClinicError

__all__ = ["Reissued", "join_patients", "move_field", "part_patients", "reassign"]


@dataclass(frozen=True)
class Reissued:
    """What became of the reports of a case: those that were made, withdrawn ones first, and whether it now
    waits for a new signature."""

    case: str
    reports: tuple[CaseReport, ...]
    to_sign: bool = False


def move_field(user: User, field: str, *, to: str, why: str) -> list[Reissued]:
    """Put a field into another case. Answers go with it, readings do not: it is read anew there.

    A signed case on either side has its report withdrawn and is opened again, which needs a signer.
    Raises `ClinicError` where the image is in the other case already.
    """
    reason = note(why, "reason", optional=False)
    with user.change(*READERS) as change:
        found = change.first(sa.select(t.fields).where(t.fields.c.id == field))
        if found is None:
            raise ClinicError(f"There is no field {field[:40]!r}. Open the case again.")
        target = row_of(change.connection, to)
        if target.status == "erased":
            raise ClinicError(f"The case {to} was erased.")
        if found.case_id == to:
            raise ClinicError(f"The field is in the case {to} already.")
        same = sa.select(t.fields.c.id).where(
            t.fields.c.case_id == to, t.fields.c.sha256 == found.sha256
        )
        if change.first(same) is not None:
            raise ClinicError(f"The case {to} has the same image already. Nothing was changed.")
        number = next_number(change, to)
        change.update(t.fields, field, case_id=to, number=number, added=change.now)
        for case in (found.case_id, to):
            change.log("field.moved", field, why=reason, case=case, of=found.case_id, to=to)
        made = [_opened_again(user, change, case, reason) for case in (found.case_id, to)]
        _raise_with(change, field, to)
        for case in (found.case_id, to):
            enqueue(change, case)
            recount(change, case)
        return made


def _raise_with(change: Change, field: str, case: str) -> None:
    """Bring a case to the top into which a field was moved that a model accepted as malignant."""
    rows = change.connection.execute(
        sa.select(t.answers.c.data, t.models)
        .join(t.models, t.models.c.id == t.answers.c.model_id)
        .where(t.answers.c.field_id == field)
    ).all()
    if any(malignant(answer_of(row.data), groups_of_model(row)) for row in rows):
        raise_priority(change, row_of(change.connection, case), "accepted malignant field")


def _opened_again(user: User, change: Change, case: str, reason: str) -> Reissued:
    """Withdraw what was signed of a case whose fields changed, and open it again."""
    if row_of(change.connection, case).status not in SIGNED:
        return Reissued(case, ())
    user.require(change.connection, "signer")
    before = last_report(change.connection, case)
    if before is not None and before.kind != "withdrawn":
        return Reissued(case, (withdraw_in(change, case, reason),), to_sign=True)
    move(change, row_of(change.connection, case), "reading")
    return Reissued(case, (), to_sign=True)


def reassign(
    user: User, case: str, *, patient: str, identifiers: Sequence[Identifier] = (), why: str
) -> Reissued:
    """Give a case to another patient, known or new, by pseudonym.

    A signed report is withdrawn from the wrong patient and made again for the right one: the same result
    under the same signature.
    """
    reason = note(why, "reason", optional=False)
    with user.change(*READERS) as change:
        to = patient_for(change, patient, identifiers)
        return _given_to(user, change, case, to=to, reason=reason)


def _given_to(user: User, change: Change, case: str, *, to: str, reason: str) -> Reissued:
    row = row_of(change.connection, case)
    if row.status == "erased":
        raise ClinicError(f"The case {case} was erased.")
    if row.patient_id == to:
        raise ClinicError(f"The case {case} is of this patient already.")
    before = last_report(change.connection, case)
    went_out = before is not None and before.kind != "withdrawn"
    if went_out:
        user.require(change.connection, "signer")
    change.update(t.cases, case, patient_id=to, changed=change.now)
    write_terms(change, case)
    forget_patient(change, row.patient_id)
    change.log(
        "case.of_other_patient",
        case,
        why=reason,
        case=case,
        patient_before=row.patient_id,
        patient=to,
    )
    if before is None or not went_out:
        return Reissued(case, ())
    signed = row.status in SIGNED
    withdrawn = withdraw_in(change, case, reason)
    if not signed:  # it was opened again before: what comes is signed anew
        return Reissued(case, (withdrawn,), to_sign=True)
    pseudonym = change.connection.scalar(
        sa.select(t.patients.c.pseudonym).where(t.patients.c.id == to)
    )
    again = replace(
        before,
        id=new_id(),
        version=withdrawn.version + 1,
        kind="corrected",
        made_at=seconds(change.now),
        patient=str(pseudonym),
        patient_identifiers=identifiers_of(change.connection, to),
        replaces=withdrawn.version,
        reason=reason,
    )
    signature = change.connection.scalar(
        sa.select(t.reports.c.signature_id).where(t.reports.c.id == before.id)
    )
    keep(change, again, signature=signature)
    move(change, row_of(change.connection, case), "amended")
    return Reissued(case, (withdrawn, again))


def join_patients(user: User, pseudonym: str, *, into: str, why: str) -> list[Reissued]:
    """Make one patient of two, who are the same person: the cases and numbers of the first go to the second.

    The first pseudonym is still found, and leads to the second. Reports that went out under the first are
    withdrawn and made again.
    """
    reason = note(why, "reason", optional=False)
    with user.change(*READERS) as change:
        gone, stays = (_patient(change, name) for name in (pseudonym, into))
        if gone == stays:
            raise ClinicError(f"{pseudonym} and {into} are one patient already.")
        # The words go with the cases, with which they are erased.
        change.log("patient.joined", gone, to=stays, why_sha256=sha256_of(reason))
        change.connection.execute(
            t.identifiers.update()
            .where(t.identifiers.c.patient_id == gone)
            .values(patient_id=stays)
        )
        change.update(t.patients, gone, joined_to=stays)
        cases = _cases(change, gone)
        made = [_given_to(user, change, case, to=stays, reason=reason) for case in cases]
        for case in _cases(change, stays):
            write_terms(change, case)
        return made


def part_patients(
    user: User,
    pseudonym: str,
    *,
    cases: Sequence[str],
    to: str | None = None,
    identifiers: Sequence[Identifier] = (),
    why: str,
) -> list[Reissued]:
    """Make two patients of one: some of the cases, and the numbers that are named, go to another patient.

    `to` is the pseudonym of that patient, known or new; without it a new one is made.
    """
    reason = note(why, "reason", optional=False)
    with user.change(*READERS) as change:
        of = _patient(change, pseudonym)
        theirs = _cases(change, of)
        foreign = [case for case in cases if case not in theirs]
        if foreign or not cases:
            raise ClinicError(
                f"{', '.join(foreign) or 'No case'} is of {pseudonym}. Name cases of that patient."
            )
        for number in identifiers:
            removed = change.connection.execute(
                t.identifiers.delete().where(
                    t.identifiers.c.patient_id == of,
                    t.identifiers.c.issuer == number.issuer,
                    t.identifiers.c.value == number.value,
                )
            )
            if not removed.rowcount:
                raise ClinicError(f"{number.value[:40]!r} is no number of {pseudonym}.")
        other = patient_for(change, to, identifiers)
        if other == of:
            raise ClinicError(f"{to} is the same patient. Give the pseudonym of another one.")
        change.log("patient.parted", of, to=other, why_sha256=sha256_of(reason))
        made = [_given_to(user, change, case, to=other, reason=reason) for case in cases]
        for case in _cases(change, of):
            write_terms(change, case)
        return made


def _patient(change: Change, pseudonym: str) -> str:
    name = line(pseudonym, "pseudonym")
    id = change.connection.scalar(sa.select(t.patients.c.id).where(t.patients.c.pseudonym == name))
    if id is None:
        raise ClinicError(f"There is no patient {name[:40]!r}. Find the case: allkit clinic list")
    return root_of(change.connection, id)


def _cases(change: Change, patient: str) -> list[str]:
    return list(
        change.connection.scalars(
            sa.select(t.cases.c.id).where(t.cases.c.patient_id == patient).order_by(t.cases.c.id)
        )
    )
