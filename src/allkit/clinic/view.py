"""A case as who reads it may see it: its fields, the model's answers, the readings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from allkit.clinic.access import READERS, User
from allkit.clinic.cases import row_of
from allkit.clinic.patients import identifiers_of
from allkit.clinic.records import (
    Identifier,
    ModelIdentity,
    PersonName,
    Specimen,
    canonical,
    sha256_of,
)
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Change
from allkit.clinic.text import without_options
from allkit.errors import ClinicError
from allkit.records import CasePrediction, Cell, Prediction

__all__ = [
    "CaseView",
    "FieldView",
    "Label",
    "answer_of",
    "case_of_field",
    "labels_of",
    "look",
    "open_case",
    "recount",
    "version_of",
    "view_of",
]


@dataclass(frozen=True)
class Label:
    """A reader's class for a field, as it stands: who gave it, why, and whether before seeing the model's."""

    label: str
    person: PersonName
    why: str
    blind: bool
    at: str
    seq: int


@dataclass(frozen=True)
class FieldView:
    """One field of a case.

    `answer` is the model's; `None` where there is none yet, or where it is hidden until the reader has given
    a class (`hidden`). `first` and `second` are the classes of the two readers; a second reader sees the
    first one's only behind an own class.
    """

    id: str
    number: int
    name: str
    sha256: str
    width: int
    height: int
    micrometres_per_pixel: float | None
    stripped: tuple[str, ...]
    answer: Prediction | None = None
    hidden: bool = False
    first: Label | None = None
    second: Label | None = None

    @property
    def needs_reading(self) -> bool:
        """Whether a reader has to look: nobody has, and the model did not accept its own answer."""
        return self.first is None and (self.answer is None or self.answer.verdict != "accepted")


@dataclass(frozen=True)
class CaseView:
    """A case: who and what it is of, its state, its fields, and the model's answer for all of them."""

    id: str
    status: str
    priority: int
    patient: str | None
    identifiers: tuple[Identifier, ...]
    order: Identifier | None
    order_cancelled: bool
    specimen: Specimen
    blind: bool
    second_wanted: bool
    reader: PersonName | None
    second: PersonName | None
    created: str
    changed: str
    fields: tuple[FieldView, ...]
    model: ModelIdentity | None
    slide: CasePrediction | None
    job: Mapping[str, Any] | None
    notes: tuple[tuple[str, PersonName, str, str | None], ...] = ()
    """Notes: (time, who, text, the field's id or `None`)."""


def open_case(user: User, case: str) -> CaseView:
    """Return a case, and note in the audit that it was seen."""
    with user.change(*READERS) as change:
        view = view_of(change.connection, case, viewer=user.id)
        change.log("case.seen", case)
    return view


def look(user: User, case: str, *, polling: bool = False) -> CaseView:
    """Return a case that `open_case` opened before, as it is now; the audit gets no second row of it."""
    with user.read(*READERS, polling=polling) as connection:
        return view_of(connection, case, viewer=user.id)


def view_of(
    connection: sa.Connection, case: str, *, viewer: str | None = None, only: str | None = None
) -> CaseView:
    """Return a case as a person may see it; without `viewer` everything is shown.

    With `only`, the id of a field, its other fields are left out, and the answer for the whole slide.
    """
    row = row_of(connection, case)
    people = {p.id: PersonName(p.name, p.display) for p in connection.execute(sa.select(t.people))}
    rows = _readings(connection, case, only)
    query = sa.select(t.fields).where(t.fields.c.case_id == case).order_by(t.fields.c.number)
    if only is not None:
        query = query.where(t.fields.c.id == only)
    fields = connection.execute(query).all()
    since = {field.id: field.added for field in fields}
    labels = labels_of(rows, since, people)
    model = model_of(connection, case)
    answers = {} if model is None else _answers(connection, case, model.id, only)
    job = connection.execute(
        sa.select(t.jobs).where(t.jobs.c.case_id == case).order_by(t.jobs.c.id.desc()).limit(1)
    ).first()
    views = tuple(_shown(_field(f, answers, labels), row, viewer, people) for f in fields)
    slide = None
    if model is not None and only is None:
        slide = _slide(connection, case, model.id, of=[field.sha256 for field in fields])
    return CaseView(
        id=row.id,
        status=row.status,
        priority=row.priority,
        patient=connection.scalar(
            sa.select(t.patients.c.pseudonym).where(t.patients.c.id == row.patient_id)
        ),
        identifiers=() if row.patient_id is None else identifiers_of(connection, row.patient_id),
        order=None if row.order_number is None else Identifier(row.order_number, row.order_issuer),
        order_cancelled=row.order_state == "cancelled",
        specimen=Specimen(row.specimen, row.collected, row.stain, row.specimen_number),
        blind=row.blind,
        second_wanted=row.second_wanted,
        reader=people.get(row.reader_id),
        second=people.get(row.second_id),
        created=row.created,
        changed=row.changed,
        fields=views,
        model=None if model is None else identity_of(model),
        slide=None if any(view.hidden for view in views) else slide,
        job=None if job is None else dict(job._mapping),
        notes=tuple(
            (r.at, people[r.person_id], r.why, r.field_id) for r in rows if r.kind == "note"
        ),
    )


def case_of_field(connection: sa.Connection, field: str) -> str:
    """Return the case of a field. Raises `ClinicError` where there is no such field."""
    case: str | None = connection.scalar(
        sa.select(t.fields.c.case_id).where(t.fields.c.id == field)
    )
    if case is None:
        raise ClinicError(f"There is no field {field[:40]!r}. Open the case again.")
    return case


def version_of(connection: sa.Connection, case: str) -> str:
    """Return a text that is another one whenever anything in a case may have changed."""
    parts: list[Any] = [list(row_of(connection, case))]
    for table in (t.jobs, t.readings):
        newest = table.c.id if table is t.jobs else table.c.seq
        query = sa.select(table).where(table.c.case_id == case).order_by(newest.desc()).limit(1)
        row = connection.execute(query).first()
        parts.append(None if row is None else list(row))
    fields = sa.select(sa.func.count(), sa.func.max(t.fields.c.added))
    parts.append(list(connection.execute(fields.where(t.fields.c.case_id == case)).one()))
    return sha256_of(canonical(parts))[:16]


def _field(row: sa.Row[Any], answers: Mapping[str, Prediction], labels: _Labels) -> FieldView:
    return FieldView(
        id=row.id,
        number=row.number,
        name=row.name,
        sha256=row.sha256,
        width=row.width,
        height=row.height,
        micrometres_per_pixel=row.micrometres_per_pixel,
        stripped=tuple(json.loads(row.stripped)),
        answer=answers.get(row.id),
        first=labels.get((row.id, 1)),
        second=labels.get((row.id, 2)),
    )


def _shown(
    field: FieldView, case: sa.Row[Any], viewer: str | None, people: Mapping[str, PersonName]
) -> FieldView:
    """Return a field without what a reader may not see before an own class is given."""
    if viewer is None or case.status in ("signed", "amended"):
        return field
    from dataclasses import replace

    # Where nobody is named as the second reader, it is whoever comes and did not read first.
    free = case.status == "second" and case.second_id is None and viewer != case.reader_id
    reads_second = viewer == case.second_id or free
    own = field.second if reads_second else field.first
    if own is not None:
        return field
    if reads_second:
        return replace(field, first=None, answer=None, hidden=True)
    if case.blind:
        return replace(field, answer=None, hidden=True)
    return field


_Labels = Mapping[tuple[str, int], Label]


def _readings(connection: sa.Connection, case: str, only: str | None = None) -> list[sa.Row[Any]]:
    query = sa.select(t.readings).where(t.readings.c.case_id == case).order_by(t.readings.c.seq)
    if only is not None:
        query = query.where(t.readings.c.field_id == only)
    return list(connection.execute(query))


def standing(
    rows: Iterable[sa.Row[Any]], since: Mapping[str, str]
) -> dict[tuple[str, int], sa.Row[Any]]:
    """Return the reading that stands for each (field, round), from readings in order.

    `since` is when each field came into the case: what was read before it was moved away, and back,
    does not count.
    """
    rows = [row for row in rows if row.at >= since.get(row.field_id, "")]
    undone = {row.undoes for row in rows if row.kind == "undo"}
    return {
        (row.field_id, row.round): row
        for row in rows
        if row.kind == "label" and row.seq not in undone
    }


def labels_of(
    rows: Iterable[sa.Row[Any]], since: Mapping[str, str], people: Mapping[str, PersonName]
) -> _Labels:
    """Return the class that stands for each (field, round); see `standing`."""
    return {
        key: Label(
            row.label, people[row.person_id], row.why, blind=row.blind, at=row.at, seq=row.seq
        )
        for key, row in standing(rows, since).items()
    }


def model_of(connection: sa.Connection, case: str) -> sa.Row[Any] | None:
    """Return the row of the model whose answers a case shows: that of its newest answer, or `None`."""
    newest = (
        sa.select(t.answers.c.model_id)
        .join(t.fields, t.fields.c.id == t.answers.c.field_id)
        .where(t.fields.c.case_id == case)
        .order_by(t.answers.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return connection.execute(sa.select(t.models).where(t.models.c.id == newest)).first()


def identity_of(row: sa.Row[Any]) -> ModelIdentity:
    """Return the identity of a model from its row; its limits are those for readers.

    Advice for whoever trains a model is no part of them, on no page and in no report.
    """
    return ModelIdentity(
        row.name,
        row.version,
        row.sha256,
        calibrated=row.calibrated,
        classes=tuple(json.loads(row.classes)),
        limits=tuple(map(without_options, json.loads(row.limits))),
    )


def _answers(
    connection: sa.Connection, case: str, model: str, only: str | None
) -> dict[str, Prediction]:
    query = (
        sa.select(t.answers.c.field_id, t.answers.c.data)
        .join(t.fields, t.fields.c.id == t.answers.c.field_id)
        .where(t.fields.c.case_id == case, t.answers.c.model_id == model)
    )
    if only is not None:
        query = query.where(t.answers.c.field_id == only)
    rows = connection.execute(query)
    return {row.field_id: answer_of(row.data) for row in rows}


def answer_of(data: str) -> Prediction:
    """Return the answer for a field that was written as JSON."""
    values = json.loads(data)
    for name in ("reasons", "reason_codes", "prediction_set"):
        values[name] = tuple(values[name])
    values["cells"] = tuple(Cell(**cell) for cell in values["cells"])
    return Prediction(**values)


def _slide(
    connection: sa.Connection, case: str, model: str, *, of: Sequence[str]
) -> CasePrediction | None:
    """Return the newest answer of a model for the fields that a case has now; for others there is none."""
    s = t.slide_answers.c
    data = connection.scalar(
        sa.select(s.data)
        .where(s.case_id == case, s.model_id == model, s.fields_sha256 == fields_hash(of))
        .order_by(s.id.desc())
        .limit(1)
    )
    if data is None:
        return None
    values = json.loads(data)
    for name in ("reasons", "reason_codes", "refused", "unreadable", "prediction_set"):
        values[name] = tuple(values[name])
    return CasePrediction(**values)


def fields_hash(hashes: Iterable[str]) -> str:
    """Return the hash of the images that an answer for all fields rests on, in any order."""
    return sha256_of(canonical(sorted(hashes)))


def recount(change: Change, case: str) -> None:
    """Write anew how many fields of a case nobody has read and no model accepted."""
    run = change.connection.execute
    model = model_of(change.connection, case)
    accepted = sa.and_(
        t.answers.c.field_id == t.fields.c.id,
        t.answers.c.model_id == (None if model is None else model.id),
        t.answers.c.verdict == "accepted",
    )
    rows = run(
        sa.select(t.fields.c.id, t.fields.c.added, t.answers.c.id.label("answer"))
        .outerjoin(t.answers, accepted)
        .where(t.fields.c.case_id == case)
    ).all()
    since = {row.id: row.added for row in rows}
    read = {
        field
        for field, number in standing(_readings(change.connection, case), since)
        if number == 1
    }
    blind = change.connection.scalar(sa.select(t.cases.c.blind).where(t.cases.c.id == case))
    # Read blind, every field is to be read: how many the model accepted would tell what it says.
    review = sum((bool(blind) or row.answer is None) and row.id not in read for row in rows)
    change.update(t.cases, case, review=review, changed=change.now)
