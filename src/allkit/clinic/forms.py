"""What other systems get and send as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from allkit.clinic.cases import SIGNED
from allkit.clinic.exchange import Taken
from allkit.clinic.records import Identifier, Specimen
from allkit.clinic.search import CaseRow
from allkit.clinic.view import CaseView, FieldView, Label
from allkit.errors import ClinicError

__all__ = [
    "Case",
    "CaseList",
    "Error",
    "FieldsTaken",
    "Made",
    "NewCase",
    "OrderOutcome",
    "ReportList",
    "ReportRow",
    "ReportVersion",
    "case_of",
    "field_list",
    "inlined",
    "list_of",
    "parse",
]


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class GivenIdentifier(_Given):
    """A number that another system gave, and who gave it."""

    value: str
    issuer: str = ""

    def record(self) -> Identifier:
        """Return it as the clinic keeps it."""
        return Identifier(self.value, self.issuer)


class GivenSpecimen(_Given):
    """What was taken, when (2026-01-31), its stain and its number."""

    kind: Literal["blood", "marrow"]
    collected: str | None = None
    stain: str | None = None
    number: str | None = None

    def record(self) -> Specimen:
        """Return it as the clinic keeps it."""
        return Specimen(self.kind, self.collected, self.stain, self.number)


class NewCase(_Given):
    """A case to be opened. `patient` is a pseudonym, known or new; never a name."""

    specimen: GivenSpecimen
    order: GivenIdentifier | None = None
    identifiers: list[GivenIdentifier] = []
    patient: str | None = None
    second_reader: bool | None = None
    blind_first: bool | None = None


class Error(BaseModel):
    """Why a request was refused, in a sentence."""

    error: str


class Made(BaseModel):
    """The id of a case that was opened."""

    case: str


class OrderCase(BaseModel):
    """The case of an order, and whether it is new."""

    case: str
    new: bool


class Issue(BaseModel):
    """One remark of an outcome, as in FHIR."""

    severity: str = "information"
    code: str = "informational"
    diagnostics: str


class OrderOutcome(BaseModel):
    """The form of a FHIR OperationOutcome, with the cases beside it."""

    resourceType: Literal["OperationOutcome"] = "OperationOutcome"
    issue: list[Issue]
    cases: list[OrderCase]

    @classmethod
    def of(cls, cases: list[tuple[str, bool]]) -> OrderOutcome:
        """Return the outcome of orders."""
        new = sum(one for _, one in cases)
        words = f"{new} new, {len(cases) - new} known."
        return cls(
            issue=[Issue(diagnostics=words)],
            cases=[OrderCase(case=case, new=one) for case, one in cases],
        )


class Row(BaseModel):
    """A row of a list of cases; `reader` and `review` are for readers only."""

    case: str
    patient: str | None
    order: str | None
    specimen: str
    collected: str | None
    state: str
    urgent: bool
    fields: int
    created: str
    changed: str
    reader: str | None = None
    review: int | None = None


class CaseList(BaseModel):
    """A page of cases; `next` is the `after` of the next one."""

    cases: list[Row]
    next: str | None


class Reading(BaseModel):
    """A reader's class for a field."""

    label: str
    by: str
    why: str
    at: str


class ModelAnswer(BaseModel):
    """What the model says: preliminary for ever, research use, not a diagnosis."""

    status: Literal["preliminary"] = "preliminary"
    verdict: str
    label: str | None
    probability: float | None
    reasons: list[str]


class CaseAnswer(ModelAnswer):
    """What the model says of all fields together, and of how many it rests on."""

    coarse: str | None
    coarse_probability: float | None
    fields: int
    used: int


class Field(BaseModel):
    """A field of a case; the readings are for readers only."""

    field: str
    number: int
    name: str
    sha256: str
    width: int
    height: int
    removed: list[str]
    model: ModelAnswer | None = None
    hidden: bool = False
    reading: Reading | None = None
    second_reading: Reading | None = None


class Job(BaseModel):
    """How far the model is with a case."""

    state: str
    done: int
    total: int
    error: str | None


class Model(BaseModel):
    """The model whose answers a case shows."""

    name: str
    version: str
    sha256: str
    calibrated: bool


class ReportVersion(BaseModel):
    """A signed report: final, corrected or withdrawn."""

    report: str
    version: int
    kind: str
    at: str
    sha256: str


class Case(BaseModel):
    """A case: its state, its fields, and what the model says, which is preliminary."""

    case: str
    state: str
    urgent: bool
    patient: str | None
    identifiers: list[GivenIdentifier]
    order: GivenIdentifier | None
    order_cancelled: bool
    specimen: GivenSpecimen
    created: str
    changed: str
    blind_first: bool
    second_reader: bool
    report: ReportVersion | None
    job: Job | None
    model: Model | None
    answer: CaseAnswer | None
    fields: list[Field]


class ReportRow(ReportVersion):
    """A report that was signed, with its case and the order's number."""

    case: str
    order: GivenIdentifier | None


class ReportList(BaseModel):
    """Reports in the sequence in which they were made; `next` is the `after` to come again with."""

    reports: list[ReportRow]
    next: int


class TakenField(BaseModel):
    """An image that is in the case."""

    field: str
    name: str


class RefusedFile(BaseModel):
    """A file that was not taken, and why; `code` is a stable word for programs."""

    name: str
    error: str
    code: str


class Elsewhere(BaseModel):
    """An image that other cases hold as well."""

    name: str
    cases: list[str]


class FieldsTaken(BaseModel):
    """What became of each file; `error` where none was taken.

    `elsewhere` names images that other cases hold as well: somebody has mixed up patients.
    """

    added: list[TakenField]
    again: list[TakenField]
    refused: list[RefusedFile]
    elsewhere: list[Elsewhere]
    error: str | None = None


def parse(data: bytes) -> NewCase:
    """Return the case that a body asks for. Raises `ClinicError` with the first thing that is wrong."""
    try:
        return NewCase.model_validate_json(data)
    except ValidationError as error:
        raise ClinicError(sentence(error.errors(include_url=False, include_input=False))) from None


def sentence(errors: list[Any]) -> str:
    """Return the first of pydantic's errors as a sentence that quotes no value."""
    where = ".".join(str(part)[:40] for part in errors[0]["loc"])
    what = str(errors[0]["msg"])[:160]
    return f"{where or 'The body'} is wrong: {what}. See /openapi.json."


def inlined(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a model in one piece, for a body that is read by hand."""
    schema = model.model_json_schema()
    parts: Mapping[str, Any] = schema.pop("$defs", {})

    def whole(value: Any) -> Any:
        if isinstance(value, list):
            return [whole(one) for one in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return whole(parts[value["$ref"].rpartition("/")[2]])
        return {key: whole(one) for key, one in value.items()}

    made: dict[str, Any] = whole(schema)
    return made


def list_of(rows: tuple[CaseRow, ...], after: str | None, *, reads: bool) -> CaseList:
    """Return a page of cases, for a reader or for a machine."""
    made = [
        Row(
            case=row.id,
            patient=row.pseudonym,
            order=row.order,
            specimen=row.specimen,
            collected=row.collected,
            state=row.status,
            urgent=row.priority > 0,
            fields=row.fields,
            created=row.created,
            changed=row.changed,
            reader=row.reader if reads else None,
            review=row.review if reads else None,
        )
        for row in rows
    ]
    return CaseList(cases=made, next=after)


def case_of(view: CaseView, report: ReportVersion | None, *, reads: bool) -> Case:
    """Return a case, for a reader or for a machine.

    A machine gets no readings, and, where the case is read blind first, nothing of the model before
    the signature: it could show that to the reader.
    """
    covered = not reads and view.blind and view.status not in SIGNED
    slide, order, taken = view.slide, view.order, view.specimen
    answer = None
    if slide is not None and not covered:
        answer = CaseAnswer(
            verdict=slide.verdict,
            label=slide.label,
            probability=slide.probability,
            reasons=list(slide.reasons),
            coarse=slide.coarse,
            coarse_probability=slide.coarse_probability,
            fields=slide.fields,
            used=slide.used,
        )
    job, model = view.job, view.model
    return Case(
        case=view.id,
        state=view.status,
        urgent=view.priority > 0 and not covered,
        patient=view.patient,
        identifiers=[GivenIdentifier(value=n.value, issuer=n.issuer) for n in view.identifiers],
        order=None if order is None else GivenIdentifier(value=order.value, issuer=order.issuer),
        order_cancelled=view.order_cancelled,
        specimen=GivenSpecimen(
            kind=taken.kind, collected=taken.collected, stain=taken.stain, number=taken.number
        ),
        created=view.created,
        changed=view.changed,
        blind_first=view.blind,
        second_reader=view.second_wanted,
        report=report,
        job=job and Job(**{name: job[name] for name in Job.model_fields}),
        model=model and Model(**{name: getattr(model, name) for name in Model.model_fields}),
        answer=answer,
        fields=[_field(field, reads=reads, covered=covered) for field in view.fields],
    )


def _field(field: FieldView, *, reads: bool, covered: bool) -> Field:
    said = None if covered else field.answer
    return Field(
        field=field.id,
        number=field.number,
        name=field.name,
        sha256=field.sha256,
        width=field.width,
        height=field.height,
        removed=list(field.stripped),
        model=said
        and ModelAnswer(
            verdict=said.verdict,
            label=said.label,
            probability=said.probability,
            reasons=list(said.reasons),
        ),
        hidden=field.hidden or covered,
        reading=_reading(field.first) if reads else None,
        second_reading=_reading(field.second) if reads else None,
    )


def _reading(label: Label | None) -> Reading | None:
    if label is None:
        return None
    return Reading(label=label.label, by=label.person.name, why=label.why, at=label.at)


def field_list(taken: Taken) -> FieldsTaken:
    """Return what became of the files; `error` where none was taken."""
    added, again = (
        [TakenField(field=one.field, name=one.name) for one in several]
        for several in (taken.added, taken.again)
    )
    refused = [
        RefusedFile(name=one.name, error=one.message, code=one.code) for one in taken.refused
    ]
    none = None if added or again else "None of the files was taken; `refused` says why of each."
    elsewhere = [Elsewhere(name=name, cases=list(cases)) for name, cases in taken.elsewhere]
    return FieldsTaken(added=added, again=again, refused=refused, elsewhere=elsewhere, error=none)
