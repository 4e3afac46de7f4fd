"""Readings: classes, notes and undoing, in rows that are only ever added.

A client numbers what it sends. What arrives twice under the same number changes nothing, so that a client
that got no answer sends again without harm.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from allkit.clinic.access import READERS, User
from allkit.clinic.cases import SIGNED, move, require_open, row_of
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Change, new_id, setting_of
from allkit.clinic.text import first_of, line, note
from allkit.clinic.view import (
    CaseView,
    FieldView,
    case_of_field,
    model_of,
    recount,
    view_of,
)
from allkit.errors import AccessError, ClinicError, StoreError

__all__ = [
    "INADEQUATE",
    "OTHER",
    "Item",
    "Sent",
    "accept",
    "add_note",
    "finish",
    "hindrance",
    "labels",
    "read_blind",
    "read_many",
    "reads_second",
    "relabel",
    "undo",
    "want_second",
]

INADEQUATE = "inadequate"
"""The class of a field, or of a case, in which nothing can be judged: it is never benign."""
OTHER = "other"
"""The class of what is neither of the model's classes."""
CLASSES = ("Benign", "Early", "Pre", "Pro")
"""The classes of a clinic without a model."""


@dataclass(frozen=True)
class Sent:
    """The number that a client gave to what it sends; each number of a client stands for one thing."""

    client: str
    seq: int

    @classmethod
    def once(cls) -> Sent:
        """Return a number for who sends once and waits for the answer."""
        return cls(new_id(), 0)


def labels(connection: sa.Connection, case: str) -> tuple[str, ...]:
    """Return the classes that a field of a case may be given."""
    model = model_of(connection, case)
    if model is None:
        default = setting_of(connection, "default_model")
        model = connection.execute(sa.select(t.models).where(t.models.c.id == default)).first()
    classes = CLASSES if model is None else tuple(json.loads(model.classes))
    return (*classes, OTHER, INADEQUATE)


def relabel(user: User, field: str, label: str, *, why: str = "", sent: Sent | None = None) -> int:
    """Give a field a class and return the number of the reading.

    `label` is one of `labels`. Where it differs from an answer that the model accepted and that the reader
    has seen, `why` must say the reason. Raises `ClinicError` where the class is not known, the case is
    signed, or the reason is missing, and `AccessError` where the case is another reader's.
    """
    return _add(user, field, sent, kind="label", label=label, why=note(why, "reason"))


def accept(user: User, field: str, *, sent: Sent | None = None) -> int:
    """Give a field the class that the model answered, after having looked at it."""
    return _add(user, field, sent, kind="label", accepting=True)


def undo(user: User, field: str, *, sent: Sent | None = None) -> int:
    """Take back the reader's last class of a field; the one before stands again."""
    return _add(user, field, sent, kind="undo")


def add_note(
    user: User, text: str, *, case: str, field: str | None = None, sent: Sent | None = None
) -> int:
    """Write a note about a case or one of its fields."""
    words = note(text, "note", optional=False)
    return _add(user, field, sent, kind="note", why=words, case=case)


@dataclass(frozen=True)
class Item:
    """One thing that a reader does to a field: `kind` is `label`, `accept`, `undo` or `note`.

    `text` is the reason of a class, or the note. With `accept`, `label` is the class that the reader saw.
    """

    sent: Sent
    kind: str
    field: str
    label: str = ""
    text: str = ""


def read_many(user: User, case: str, items: Sequence[Item]) -> list[str]:
    """Write what a reader did to fields of a case, in order, in one transaction.

    Returns for each item why it was refused, or an empty text where it is kept; one that is refused does
    not hold back the others. When this returns, what is kept is on the disk.
    """
    with user.change(*READERS) as change:
        row_of(change.connection, case)
        errors = []
        for item in items:
            before = change.logged, len(change.rows)
            try:
                with change.connection.begin_nested():
                    _read(change, user, case, item)
                errors.append("")
            except StoreError:
                raise
            except ClinicError as error:
                # The savepoint took back the rows, and so what was noted of them has to go.
                change.logged = before[0]
                del change.rows[before[1] :]
                errors.append(str(error))
        recount(change, case)
    return errors


def _read(change: Change, user: User, case: str, item: Item) -> None:
    reading: dict[str, Any] = {"kind": item.kind}
    if item.kind == "label":
        reading |= {"label": item.label, "why": note(item.text, "reason")}
    elif item.kind == "accept":
        reading = {"kind": "label", "accepting": True, "seen": item.label}
    elif item.kind == "note":
        reading |= {"why": note(item.text, "note", optional=False)}
    elif item.kind != "undo":
        raise ClinicError(
            f"{item.kind[:20]!r} is nothing that is done to a field. Reload the page."
        )
    _take(change, user, item.field, sent=item.sent, case=case, **reading)


def _add(
    user: User, field: str | None, sent: Sent | None, *, case: str | None = None, **reading: Any
) -> int:
    with user.change(*READERS) as change:
        seq, of = _take(change, user, field, sent=sent or Sent.once(), case=case, **reading)
        if of is not None:
            recount(change, of)
    return seq


def _take(
    change: Change,
    user: User,
    field: str | None,
    *,
    sent: Sent,
    case: str | None,
    accepting: bool = False,
    seen: str = "",
    **reading: Any,
) -> tuple[int, str | None]:
    """Write one reading, and return its number and its case; no case where it was there already."""
    client = line(sent.client, "name of the client")
    if not isinstance(sent.seq, int) or not 0 <= sent.seq < 2**31:
        raise ClinicError(f"The client's number {sent.seq!r} is none from 0 to {2**31 - 1:,}.")
    known = change.first(
        sa.select(t.readings).where(
            t.readings.c.client == client, t.readings.c.client_seq == sent.seq
        )
    )
    if known is not None:
        _require_same(
            known, user, field, reading if not accepting else reading | {"label": known.label}
        )
        return int(known.seq), None
    of = case if field is None else case_of_field(change.connection, field)
    if of is None or (case is not None and case != of):
        raise ClinicError("The field is not one of this case. Open the case again.")
    if accepting:
        reading["label"] = _answered(change, user, of, str(field))
        if seen and seen != reading["label"]:
            raise ClinicError(
                f"The model says {reading['label']} by now, and not {seen}. Look at the field again."
            )
    seq = _insert(change, user, of, field=field, client=client, client_seq=sent.seq, **reading)
    return seq, of


def _answered(change: Change, user: User, case: str, field: str) -> str:
    """Return the class that a reader sees the model answer for a field."""
    (shown,) = view_of(change.connection, case, viewer=user.id, only=field).fields
    answer = shown.answer
    # What a model says of a field that it refuses is no answer.
    if answer is None or answer.label is None or answer.verdict in ("refused", "unreadable"):
        raise ClinicError(
            f"For the field {shown.name!r} no answer of the model is shown, so there is none to accept. "
            "Give it a class."
        )
    return answer.label


def _require_same(
    known: sa.Row[Any], user: User, field: str | None, reading: dict[str, Any]
) -> None:
    """Raise `ClinicError` where a number of a client came before with something else."""
    same = (known.person_id, known.field_id, known.kind) == (user.id, field, reading["kind"])
    if not same or known.label != reading.get("label") or known.why != reading.get("why", ""):
        raise ClinicError(
            f"The client {known.client!r} sent its number {known.client_seq} before, with something else. "
            "Nothing was changed; reload the page."
        )


def _insert(
    change: Change,
    user: User,
    case: str,
    *,
    field: str | None,
    kind: str,
    client: str,
    client_seq: int,
    label: str | None = None,
    why: str = "",
) -> int:
    row = row_of(change.connection, case)
    require_open(row, "a reading")
    round = _round(change, user, row, taking=kind != "note")
    # Of a note on the whole case no field is looked at; no field has the id "".
    view = view_of(change.connection, case, viewer=user.id, only=field or "")
    shown = view.fields[0] if view.fields else None
    undoes, answer = None, _answer(change, case, field)
    if kind == "label":
        _require_label(change.connection, view, shown, label=str(label), why=why)
    elif kind == "undo":
        undoes = _last(shown, round)
    seq = 1 + (change.connection.scalar(sa.select(sa.func.max(t.readings.c.seq))) or 0)
    change.insert(
        t.readings,
        seq=seq,
        case_id=case,
        field_id=field,
        person_id=user.id,
        round=round,
        kind=kind,
        label=label,
        why=why,
        undoes=undoes,
        blind=bool(shown is not None and shown.hidden),
        answer_id=None if answer is None else answer.id,
        client=client,
        client_seq=client_seq,
        at=change.now,
    )
    detail: dict[str, Any] = {"of": case, "reading": seq, "round": round}
    if kind == "label" and answer is not None:
        detail["overrides"] = answer.label != label
    change.log(f"reading.{kind}", field or case, **detail)
    return seq


def _round(change: Change, user: User, row: sa.Row[Any], *, taking: bool) -> int:
    """Return 1 for the reader of a case and 2 for its second; who reads first becomes the reader."""
    if row.second_id == user.id:
        if row.status != "second" and taking:
            raise ClinicError(f"The first reader of {row.id} has not finished. Wait for the case.")
        return 2
    if not taking:
        return 1
    if row.reader_id is None:
        change.update(t.cases, row.id, reader_id=user.id)
        change.log("case.assigned", row.id, reader_id=user.id)
    elif row.reader_id != user.id and not (row.status == "second" and row.second_id is None):
        raise AccessError(
            f"The case {row.id} is read by somebody else. Take it over first (allkit clinic assign)."
        )
    elif row.reader_id != user.id:
        change.update(t.cases, row.id, second_id=user.id)
        change.log("case.assigned", row.id, second_id=user.id)
        return 2
    if row.status == "new":
        move(change, row, "reading")
    return 1


def hindrance(view: CaseView, user: User) -> str:
    """Return in a fixed word why somebody cannot read a case now; empty where they can.

    `signed`, `erased`, `first_reading` (the first reader has not finished), or `other_reader`.
    """
    if view.status == "erased":
        return "erased"
    if view.status in SIGNED:
        return "signed"
    if view.second is not None and view.second.name == user.name:
        return "" if view.status == "second" else "first_reading"
    if view.reader is None or view.reader.name == user.name:
        return ""
    return "" if view.status == "second" and view.second is None else "other_reader"


def reads_second(view: CaseView, user: User) -> bool:
    """Return whether somebody reads a case as its second reader."""
    if view.second is not None:
        return view.second.name == user.name
    return view.status == "second" and view.reader is not None and view.reader.name != user.name


def _require_label(
    connection: sa.Connection, case: CaseView, field: FieldView | None, *, label: str, why: str
) -> None:
    known = labels(connection, case.id)
    if label not in known:
        raise ClinicError(f"{label[:40]!r} is no class here. There are {', '.join(known)}.")
    answer = None if field is None else field.answer
    against = answer is not None and answer.verdict == "accepted" and answer.label != label
    if against and not why:
        raise ClinicError(
            f"The model accepted {answer.label if answer else ''} for this field. Say why it is {label}."
        )


def _last(field: FieldView | None, round: int) -> int:
    own = None if field is None else (field.first if round == 1 else field.second)
    if own is None:
        raise ClinicError("There is no class of yours to take back for this field.")
    return own.seq


def _answer(change: Change, case: str, field: str | None) -> sa.Row[Any] | None:
    """Return the row of the answer that a reading was made beside, seen or not."""
    model = model_of(change.connection, case)
    if model is None or field is None:
        return None
    return change.first(
        sa.select(t.answers).where(t.answers.c.field_id == field, t.answers.c.model_id == model.id)
    )


def finish(user: User, case: str) -> str:
    """Say that a reader has finished; return the new state.

    The first reader's case goes to the second where one is wanted; the second's goes back, for the result.
    Raises `ClinicError` where fields still need to be read.
    """
    with user.change(*READERS) as change:
        row = row_of(change.connection, case)
        require_open(row, "reading")
        view = view_of(change.connection, case)
        second = row.status == "second"
        if _round(change, user, row, taking=True) != (2 if second else 1):
            raise AccessError(f"The case {case} is with its second reader.")
        left = unread(view, second=second)
        if left:
            n = "1 field" if len(left) == 1 else f"{len(left)} fields"
            needs = "needs" if len(left) == 1 else "need"
            raise ClinicError(f"{n} of the case {case} still {needs} to be read: {first_of(left)}.")
        row = row_of(change.connection, case)
        move(change, row, "reading" if second or not row.second_wanted else "second")
        change.log("case.finished", case, round=2 if second else 1)
        return str(row_of(change.connection, case).status)


def unread(view: CaseView, *, second: bool = False) -> list[str]:
    """Return the names of the fields that a reader still has to read.

    The first reader has to read what the model did not accept, and everything where the case is read blind
    first; the second reads all that the first has read.
    """
    if second:
        return [f.name for f in view.fields if f.first is not None and f.second is None]
    return [f.name for f in view.fields if f.needs_reading or (view.blind and f.first is None)]


def want_second(user: User, case: str, wanted: bool) -> None:
    """Say whether an open case is to be read by a second reader.

    Raises `ClinicError` where the second reader has the case or has read in it already.
    """
    with user.change(*READERS, "admin") as change:
        row = row_of(change.connection, case)
        require_open(row, "another reader")
        if row.second_wanted == wanted:
            return
        if not wanted and (row.status == "second" or _was_read(change, case, round=2)):
            raise ClinicError(
                f"The case {case} is with its second reader, or was read by one. It stays so."
            )
        change.update(t.cases, case, second_wanted=wanted, changed=change.now)
        change.log("case.second_wanted", case, wanted=wanted)


def read_blind(user: User, case: str, blind: bool) -> None:
    """Say whether the model's answers are hidden until the reader has given a class.

    Raises `ClinicError` where somebody has read in the case: then it is too late.
    """
    with user.change(*READERS, "admin") as change:
        row = row_of(change.connection, case)
        require_open(row, "reading blind first")
        if row.blind == blind:
            return
        if _was_read(change, case, round=1):
            raise ClinicError(
                f"Somebody has read in the case {case}: whether it is read blind first cannot be changed."
            )
        change.update(t.cases, case, blind=blind, changed=change.now)
        change.log("case.blind", case, blind=blind)
        recount(change, case)


def _was_read(change: Change, case: str, *, round: int) -> bool:
    r = t.readings.c
    query = sa.select(r.seq).where(r.case_id == case, r.round == round, r.kind != "note").limit(1)
    return change.first(query) is not None
