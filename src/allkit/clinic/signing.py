"""Signatures: what must hold before, what is frozen, and how it is amended or withdrawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from allkit.clinic import jobs
from allkit.clinic.access import READERS, User
from allkit.clinic.cases import SIGNED, move, row_of
from allkit.clinic.models import BENIGN, group_of, malignant
from allkit.clinic.reading import INADEQUATE, OTHER, labels, unread
from allkit.clinic.records import CaseReport, ModelIdentity, ReportKind, sha256_of
from allkit.clinic.reporting import freeze, keep, last_report, readings_hashed, report_of, seconds
from allkit.clinic.reports.pdf import missing_glyphs
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Change, new_id
from allkit.clinic.text import first_of, note
from allkit.clinic.view import CaseView, model_of, recount, view_of
from allkit.errors import AccessError, ClinicError
from allkit.records import CasePrediction, Prediction

__all__ = [
    "Obstacle",
    "Statement",
    "ToSign",
    "draft",
    "gate",
    "reopen",
    "sign",
    "to_sign",
    "withdraw",
]


LETTERS = 10
"""Letters and digits that a comment has at least, where it must say why."""
MALIGNANT = {
    "malignant_answer": "The model accepted a malignant class here",
    "malignant_reading": "Fields were read as malignant here",
}
AGAIN = ("case.reopened", "report.withdrawn", "field.moved", "case.of_other_patient")
"""What in the audit opens a signed case again."""


class Obstacle(str):
    """Why a case may not be signed yet: a sentence, with a fixed word and the values that are in it.

    `code` and `values` are for pages in other languages: `closed` (status), `no_field`, `unsaved`, `running`,
    `unread`, `second`, `with_second`, `refused`, `limits`, `unprintable`, `no_class`, `no_cells`,
    `malignant_answer`, `malignant_reading`, `malignant_unread`, `no_such_field`, `cancelled`.
    """

    code: str
    values: dict[str, Any]

    def __new__(cls, code: str, sentence: str, **values: Any) -> Obstacle:
        """Make one of its word, its sentence and what is in it."""
        made = super().__new__(cls, sentence)
        made.code, made.values = code, values
        return made


@dataclass(frozen=True)
class Statement:
    """What a signer says: the result of the case, a comment, and what they have acknowledged.

    `result` is a class, `other` or `inadequate`. `refused` is how many fields without an answer of the model
    the signer has seen named; `limits_read` says that the limits of the model were read; `unsaved` is how
    many readings the page has not saved yet.
    """

    result: str
    comment: str = ""
    refused: int = 0
    limits_read: bool = False
    unsaved: int = 0


def gate(user: User, case: str, statement: Statement) -> list[Obstacle]:
    """Return why a case may not be signed yet, in sentences; empty where it may."""
    _require_types(statement)
    with user.read(*READERS) as connection:
        return _obstacles(connection, view_of(connection, case), statement)


@dataclass(frozen=True)
class ToSign:
    """What a signer is asked: which results there are, and what is to be acknowledged.

    `refused` is the number of fields without an answer of the model that could be used. `again` is the
    reason for which a signed case was opened again; empty for a first signature.
    """

    results: tuple[str, ...]
    refused: int
    model: ModelIdentity | None
    again: str = ""


def to_sign(user: User, case: str) -> ToSign:
    """Return what a signer of a case is asked."""
    with user.read(*READERS) as connection:
        view = view_of(connection, case)
        before = last_report(connection, case)
        return ToSign(
            labels(connection, case),
            _refused(view),
            view.model,
            again="" if before is None else (_reason(connection, case) or before.reason),
        )


def draft(user: User, case: str, statement: Statement) -> CaseReport:
    """Return the report that a signature would freeze, as a preliminary one, to be looked at before.

    Raises `ClinicError` with all that stands against a signature: before, the report is none.
    """
    _require_types(statement)
    comment = note(statement.comment, "comment")
    with user.read(*READERS) as connection:
        view = view_of(connection, case)
        against = _obstacles(connection, view, statement)
        if against:
            raise ClinicError(f"The case {case} cannot be signed: {' '.join(against)}")
        return _drafted(connection, view, statement.result, comment)


def _drafted(connection: sa.Connection, view: CaseView, result: str, comment: str) -> CaseReport:
    before = last_report(connection, view.id)
    version = {} if before is None else {"version": before.version + 1}
    return report_of(view, result=result, comment=comment, **version)


def _require_types(said: Statement) -> None:
    texts = isinstance(said.result, str) and isinstance(said.comment, str)
    if not texts or not all(isinstance(n, int) for n in (said.refused, said.unsaved)):
        raise ClinicError("A statement is made of texts (result, comment) and whole numbers.")


def _obstacles(connection: sa.Connection, view: CaseView, said: Statement) -> list[Obstacle]:
    if view.status in (*SIGNED, "erased"):
        return [Obstacle("closed", f"The case is {view.status}.", status=view.status)]
    found = []

    def against(code: str, sentence: str, **values: Any) -> None:
        found.append(Obstacle(code, sentence, **values))

    if not view.fields:
        against("no_field", "The case has no field.")
    if n := said.unsaved:
        against("unsaved", f"{n} readings are not saved yet.", n=n)
    if n := jobs.running(connection, view.id):
        against("running", f"{n} jobs of the model still wait or run.", n=n)
    left = unread(view)
    if left:
        names = first_of(left)
        against("unread", f"{len(left)} fields need to be read: {names}.", n=len(left), names=names)
    second = [] if not view.second_wanted else unread(view, second=True)
    if view.second_wanted and (view.second is None or second or not _read(view)):
        against("second", "The second reader has not read the fields.")
    if view.status == "second":
        against("with_second", "The case is with its second reader.")
    n = _refused(view)
    if said.refused != n:
        words = "fields have no answer of the model that could be used; acknowledge that number."
        against("refused", f"{n} {words}", n=n)
    if view.model is not None and not said.limits_read:
        against("limits", "The limits of the model are to be read.")
    # Before a blind reader has read it all, what the model says of the result is not told either.
    if not (view.blind and left):
        found += _of_result(connection, view, said)
    lacking = missing_glyphs(report_of(view, result=said.result, comment=said.comment))
    if lacking:
        characters = " ".join(lacking[:10])
        words = f"The report's font lacks {characters}; remove these or give a font."
        against("unprintable", words, characters=characters)
    return found


def _read(view: CaseView) -> bool:
    return any(field.second is not None for field in view.fields)


def _refused(view: CaseView) -> int:
    answers = [field.answer for field in view.fields if field.answer is not None]
    return sum(answer.verdict in ("refused", "unreadable") for answer in answers)


def _of_result(connection: sa.Connection, view: CaseView, said: Statement) -> list[Obstacle]:
    """Return what is wrong with the result itself: safety comes before everything else."""
    known, result = labels(connection, view.id), said.result
    if result not in known:
        words = f"The result {result[:40]!r} is no class. There are {', '.join(known)}."
        return [Obstacle("no_class", words, result=result[:40])]
    groups = _groups(connection, view)
    group = _group(result, groups)
    told = sum(character.isalnum() for character in said.comment) >= LETTERS
    found = []
    if group == BENIGN and _without_cells(view):
        words = "No white cell was found in any field: the case is inadequate, never benign."
        found.append(Obstacle("no_cells", words))
    code = _malignant(view, groups)
    if code and group in (BENIGN, None) and not told:
        words = f"{MALIGNANT[code]}; the comment must say why the result is {result}."
        found.append(Obstacle(code, words, result=result))
    unseen = [
        f.name
        for f in view.fields
        if f.first is None and f.answer is not None and malignant(f.answer, groups)
    ]
    if unseen and group in (BENIGN, None):
        names, n = first_of(unseen), len(unseen)
        words = f"{n} fields that the model accepted as malignant were read by nobody: {names}."
        found.append(Obstacle("malignant_unread", words, n=n, names=names))
    given = {f.first.label for f in view.fields if f.first is not None}
    given |= {
        str(f.answer.label)
        for f in view.fields
        if f.first is None and f.answer is not None and f.answer.verdict == "accepted"
    }
    if result not in (*given, INADEQUATE) and not told:
        words = f"No field is {result}; the comment must say what the result rests on."
        found.append(Obstacle("no_such_field", words, result=result))
    if view.order_cancelled and not told:
        words = "The order was cancelled; the comment must say why there is a result."
        found.append(Obstacle("cancelled", words))
    return found


def _groups(connection: sa.Connection, view: CaseView) -> dict[str, str]:
    model = model_of(connection, view.id)
    return {} if model is None else jobs.groups_of_model(model)


def _group(label: str, groups: dict[str, str]) -> str | None:
    """Return the group of a class: the model's, or, without a model, by its name; `None` of no class."""
    return None if label in (OTHER, INADEQUATE) else groups.get(label, group_of(label))


def _malignant(view: CaseView, groups: dict[str, str]) -> str:
    """Return what in a case speaks for a malignant class, by its word; empty where nothing does."""
    answers: list[Prediction | CasePrediction] = [f.answer for f in view.fields if f.answer]
    answers += [] if view.slide is None else [view.slide]
    if view.priority or any(malignant(one, groups) for one in answers):
        return "malignant_answer"
    labels_given = [f.first.label for f in view.fields if f.first is not None]
    labels_given += [f.second.label for f in view.fields if f.second is not None]
    if any(_group(label, groups) not in (BENIGN, None) for label in labels_given):
        return "malignant_reading"
    return ""


def _without_cells(view: CaseView) -> bool:
    """Whether the model looked for white cells in every field and found none."""
    answers = [f.answer.white_cells for f in view.fields if f.answer is not None]
    counted = [count for count in answers if count is not None]
    return bool(counted) and all(count == 0 for count in counted)


def sign(user: User, case: str, statement: Statement, *, seen: str | None = None) -> CaseReport:
    """Sign a case and return its frozen report: final, or, where one was signed before, corrected.

    `seen` is the hash of the `draft` that the signer read: where something changed since, nothing is signed.
    Raises `AccessError` where the person is no signer or has not proved anew who they are, and
    `ClinicError` with all that stands against it (`gate`).
    """
    _require_types(statement)
    comment = note(statement.comment, "comment")
    with user.change("signer") as change:
        if not user.has_confirmed(change.connection):
            raise AccessError("Show anew who you are before you sign.")
        view = view_of(change.connection, case)
        against = _obstacles(change.connection, view, statement)
        if against:
            raise ClinicError(f"The case {case} cannot be signed: {' '.join(against)}")
        drafted = _drafted(change.connection, view, statement.result, comment)
        if seen is not None and drafted.sha256 != seen:
            raise ClinicError(
                f"The case {case} changed since its report was shown. Nothing was signed; read it again."
            )
        before = last_report(change.connection, case)
        version = 1 + (
            change.connection.scalar(
                sa.select(sa.func.max(t.signatures.c.version)).where(t.signatures.c.case_id == case)
            )
            or 0
        )
        # What was withdrawn was never valid for whom it is now.
        kind: ReportKind = "final" if before is None else "corrected"
        id, hashed = new_id(), sha256_of(readings_hashed(view))
        change.insert(
            t.signatures,
            id=id,
            case_id=case,
            version=version,
            person_id=user.id,
            at=change.now,
            readings_sha256=hashed,
            result=statement.result,
            comment=comment,
        )
        change.log("signature.made", id, of=case, version=version, readings_sha256=hashed)
        row = row_of(change.connection, case)
        if row.status == "new":
            move(change, row, "reading")
            row = row_of(change.connection, case)
        move(change, row, "signed" if before is None else "amended")
        if row.priority:
            change.update(t.cases, case, priority=0)
            change.log("case.lowered", case, because="signed")
        return freeze(
            change,
            view,
            signature=id,
            kind=kind,
            result=statement.result,
            comment=comment,
            signer=user.person.shown,
            signed_at=seconds(change.now),
            readings_sha256=hashed,
            reason="" if before is None else (_reason(change.connection, case) or before.reason),
        )


def _reason(connection: sa.Connection, case: str) -> str:
    """Return the reason for which a case was opened again the last time."""
    found = connection.scalar(
        sa.select(t.reasons.c.why)
        .where(t.reasons.c.case_id == case, t.reasons.c.what.in_(AGAIN))
        .order_by(t.reasons.c.id.desc())
        .limit(1)
    )
    return str(found or "")


def reopen(user: User, case: str, *, why: str) -> None:
    """Open a signed case again, with a reason; its report stays valid until the next is signed."""
    reason = note(why, "reason", optional=False)
    with user.change("signer") as change:
        row = row_of(change.connection, case)
        if row.status not in SIGNED:
            raise ClinicError(
                f"The case {case} is {row.status}, not signed: there is nothing to open again."
            )
        move(change, row, "reading")
        change.log("case.reopened", case, why=reason, case=case)
        recount(change, case)


def withdraw(user: User, case: str, *, why: str) -> CaseReport:
    """Withdraw the report of a case: it must not be used any more, and whoever got it is told so.

    The case is opened again. Raises `ClinicError` where there is no report, or it is withdrawn already.
    """
    reason = note(why, "reason", optional=False)
    with user.change("signer") as change:
        return withdraw_in(change, case, reason)


def withdraw_in(change: Change, case: str, reason: str) -> CaseReport:
    """Withdraw a report within a transaction; see `withdraw`."""
    before = last_report(change.connection, case)
    if before is None or before.kind == "withdrawn":
        raise ClinicError(f"The case {case} has no report that could be withdrawn.")
    row = row_of(change.connection, case)
    # What is withdrawn is what went out: the same patient, the same content.
    report = replace(
        before,
        id=new_id(),
        version=before.version + 1,
        kind="withdrawn",
        made_at=seconds(change.now),
        replaces=before.version,
        reason=reason,
    )
    keep(change, report, signature=None)
    change.log("report.withdrawn", report.id, of=case, why=reason, case=case)
    if row.status in SIGNED:
        move(change, row, "reading")
        recount(change, case)
    return report
