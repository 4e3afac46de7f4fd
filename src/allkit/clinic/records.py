"""What travels between the parts of the clinic: orders that come in, reports that go out.

Times are texts in UTC, `2026-01-31T09:15:00Z`; dates of specimens are `2026-01-31`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

__all__ = [
    "STATES",
    "CaseReport",
    "FieldResult",
    "Identifier",
    "ModelIdentity",
    "Order",
    "PersonName",
    "ReportKind",
    "SlideResult",
    "Specimen",
    "SpecimenKind",
    "Status",
    "canonical",
    "sha256_of",
]

Status = Literal["new", "reading", "second", "signed", "amended", "erased"]
"""The state of a case."""
STATES: tuple[Status, ...] = get_args(Status)
SpecimenKind = Literal["blood", "marrow"]
ReportKind = Literal["preliminary", "final", "corrected", "withdrawn"]
"""preliminary: no signature yet. final: the first signed version. corrected: a later signed version.
withdrawn: the version before must not be used (it was sent to the wrong patient, for example)."""


@dataclass(frozen=True)
class Identifier:
    """A number that another system gave, and who gave it (HL7's assigning authority, FHIR's system)."""

    value: str
    issuer: str = ""


@dataclass(frozen=True)
class PersonName:
    """A person of this laboratory: the name they sign in with, and the one that is shown."""

    name: str
    display: str


@dataclass(frozen=True)
class Specimen:
    """What was taken: blood or marrow, its date, its stain, and the number the laboratory gave it."""

    kind: SpecimenKind
    collected: str | None = None
    stain: str | None = None
    number: str | None = None


@dataclass(frozen=True)
class Order:
    """An order as it came in; names, birth dates and addresses are not kept.

    `number` is the placer's order number. `patient` holds identifiers of the patient. `dropped` names
    the parts of the message that hold identity and were not kept (`PID-5`), never their content.
    `message` is the sender's id of the message, by which a resend is recognised; `""` where none.
    `action` is what is asked: a new order, a change, or a cancellation.
    """

    number: Identifier
    patient: tuple[Identifier, ...]
    specimen: Specimen | None = None
    placed: str | None = None
    message: str = ""
    sender: str = ""
    action: Literal["new", "change", "cancel"] = "new"
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelIdentity:
    """The model whose answers a report shows. `sha256` is that of its file or folder."""

    name: str
    version: str
    sha256: str
    calibrated: bool
    classes: tuple[str, ...]
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class SlideResult:
    """The model's answer for all fields of the case together; it stays preliminary for ever.

    `verdict` is accepted, review or refused; `label` its class (`None` without one), `coarse` its group
    of classes. `fields` are the fields of the case and `used` those that the answer rests on.
    """

    verdict: str
    fields: int
    used: int
    label: str | None = None
    probability: float | None = None
    coarse: str | None = None
    coarse_probability: float | None = None
    coarse_verdict: str | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class FieldResult:
    """One field of a case: what the model said and what the reader said.

    `number` counts from 1. `name` is made of it: a file's own name may be a patient's. `sha256` is that of
    the image file in the store. `verdict` is that of the
    model (accepted, review, refused, unreadable), or `None` where no model has answered. `reader` is the
    class, or `inadequate`, that the reader gave; `None` where the reader left the model's answer to stand
    without confirming it. `changed` says that the reader's class differs from the model's, `why` is the
    reader's reason.
    """

    number: int
    name: str
    sha256: str
    verdict: str | None = None
    label: str | None = None
    probability: float | None = None
    reasons: tuple[str, ...] = ()
    reader: str | None = None
    changed: bool = False
    why: str = ""


@dataclass(frozen=True)
class CaseReport:
    """Everything that a report says, frozen when it was made: all formats are made from it alone.

    `result` is the *reader's* result for the case: a class, `inadequate`, or, in a preliminary report,
    `None`. `comment` is the reader's free text. `signer` and `signed_at` are `None` in a preliminary report.
    `readings_sha256` is the hash of the readings that were signed. `reason` says why there is a corrected
    or withdrawn version, `replaces` is the version before. `agreement` is Cohen's kappa with the second
    reader, where there is one. A report holds no name of a patient.
    """

    id: str
    case: str
    version: int
    kind: ReportKind
    made_at: str
    patient: str
    patient_identifiers: tuple[Identifier, ...]
    specimen: Specimen
    fields: tuple[FieldResult, ...]
    order: Identifier | None = None
    result: str | None = None
    comment: str = ""
    model: ModelIdentity | None = None
    slide: SlideResult | None = None
    signer: PersonName | None = None
    signed_at: str | None = None
    readings_sha256: str = ""
    second_reader: PersonName | None = None
    agreement: float | None = None
    reason: str = ""
    replaces: int | None = None

    def to_json(self) -> str:
        """Return the report as canonical JSON: the same report gives the same bytes."""
        return canonical(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> CaseReport:
        """Return the report that `to_json` wrote."""
        values = json.loads(text)
        made: dict[str, Any] = dict(values)
        made["patient_identifiers"] = tuple(
            Identifier(**one) for one in values["patient_identifiers"]
        )
        made["specimen"] = Specimen(**values["specimen"])
        made["fields"] = tuple(
            _with_tuples(FieldResult, one, "reasons") for one in values["fields"]
        )
        made["order"] = values["order"] and Identifier(**values["order"])
        made["model"] = values["model"] and _with_tuples(
            ModelIdentity, values["model"], "classes", "limits"
        )
        made["slide"] = values["slide"] and _with_tuples(SlideResult, values["slide"], "reasons")
        for name in ("signer", "second_reader"):
            made[name] = values[name] and PersonName(**values[name])
        return cls(**made)

    @property
    def sha256(self) -> str:
        """The hash of the canonical JSON, printed on every form of the report."""
        return sha256_of(self.to_json())


def _with_tuples(kind: Any, values: Mapping[str, Any], *lists: str) -> Any:
    return kind(**dict(values) | {name: tuple(values[name]) for name in lists})


def canonical(value: Any) -> str:
    """Return JSON with sorted keys and without blanks: equal values give equal texts."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def sha256_of(text: str | bytes) -> str:
    """Return the SHA-256 of bytes, or of a text in UTF-8, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()
