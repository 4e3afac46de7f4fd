"""An R4 Bundle: a collection that says who said what, the model or the reader."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from allkit.clinic.records import (
    CaseReport,
    FieldResult,
    Identifier,
    PersonName,
    SlideResult,
    canonical,
)
from allkit.clinic.reports.codes import (
    AIAST,
    BLOOD_SMEAR,
    MARROW_SMEAR,
    PATTERNS,
    SPECIMENS,
    Code,
)
from allkit.clinic.reports.fhir_check import check_bundle
from allkit.clinic.reports.library import library
from allkit.clinic.reports.wording import RESEARCH_USE, result_sentence, standing
from allkit.errors import AllkitError
from allkit.shown.text import escape, printable

__all__ = ["fhir_of"]

_IDS = uuid.uuid5(uuid.NAMESPACE_URL, "urn:allkit:report")
_HL7 = "http://terminology.hl7.org/CodeSystem/"
_LOCAL = "urn:allkit:observation"
_STATUS: Mapping[str, str] = {
    "preliminary": "preliminary",
    "final": "final",
    "corrected": "corrected",
    "withdrawn": "entered-in-error",
}
_MODEL_STATUS: Mapping[str, str] = {"withdrawn": "entered-in-error"}
"""What the model said stays preliminary for ever, a signature makes the reader's result final, not this;
in a report that is withdrawn it must not be used either."""

_ABSENT = {"refused": "unknown", "unreadable": "error", "review": "unknown", "accepted": "unknown"}
"""Why there is no class, by verdict; without a verdict the model has not been asked."""


def fhir_of(report: CaseReport) -> bytes:
    """Return the report as a Bundle of the type `collection`, JSON in UTF-8 with sorted keys.

    It is FHIR R4 (4.0.1), built with the R4B classes of fhir.resources and passed by `check_bundle`.
    Identifiers of resources follow from the report's, so the same report gives the same bytes. Raises
    `AllkitError` where the report holds what FHIR cannot say, such as a date that is none, or a final
    result that nobody signed, and `ConfigError` where fhir.resources is missing.
    """
    bundles = library("fhir.resources.R4B.bundle")
    try:
        bundle = bundles.Bundle(**_Bundle(report).built())
    except ValueError as error:  # pydantic's error names the place and the value
        raise _refusal(report, str(error)) from error
    data = canonical(json.loads(bundle.model_dump_json())).encode()
    if problems := check_bundle(data):
        raise _refusal(report, "; ".join(problems))
    return data


def _refusal(report: CaseReport, why: str) -> AllkitError:
    return AllkitError(
        f"The report {report.id!r} does not make a valid FHIR Bundle, and was not written: {why[:800]}. "
        "Correct the case and make the report again, or report this as a mistake of allkit."
    )


class _Bundle:
    """The resources of one report, and the references between them."""

    def __init__(self, report: CaseReport) -> None:
        self.report = report
        self.resources: list[tuple[str, dict[str, Any]]] = []

    def built(self) -> dict[str, Any]:
        report = self.report
        self.add("patient", self.patient())
        self.add("specimen", self.specimen())
        for role, who in (("signer", report.signer), ("second", report.second_reader)):
            if who is not None:
                self.add(role, _practitioner(who))
        reader = ["reader", *(f"reader/{f.number}" for f in report.fields if f.reader is not None)]
        self.add("reader", self.by_reader(_about(report), report.result))
        for field in report.fields:
            if field.reader is not None:
                self.add(f"reader/{field.number}", self.read_field(field))
        model = list(self.by_model())
        self.add("report", self.diagnostic_report([*reader, *model]))
        if model:
            self.add("provenance/model", self.provenance(model, model=True))
        if report.signer is not None:
            self.add("provenance/reader", self.provenance(["report", *reader], model=False))
        entries = [{"fullUrl": self.url(role), "resource": made} for role, made in self.resources]
        return {
            "resourceType": "Bundle",
            "type": "collection",
            "id": str(self.uuid("bundle")),
            "identifier": {"system": "urn:allkit:report-sha256", "value": report.sha256},
            "timestamp": report.made_at,
            "entry": entries,
        }

    # ── references ────────────────────────────────────────────────────────────────────────────

    def uuid(self, role: str) -> uuid.UUID:
        return uuid.uuid5(_IDS, f"{self.report.id}/{role}")

    def url(self, role: str) -> str:
        return f"urn:uuid:{self.uuid(role)}"

    def to(self, role: str) -> dict[str, Any]:
        return {"reference": self.url(role)}

    def add(self, role: str, resource: dict[str, Any]) -> None:
        self.resources.append((role, {"id": str(self.uuid(role)), **_without_empty(resource)}))

    # ── who and what ──────────────────────────────────────────────────────────────────────────

    def patient(self) -> dict[str, Any]:
        pseudonym = {"system": "urn:allkit:pseudonym", "value": _exact(self.report.patient)}
        others = [_identifier(one) for one in self.report.patient_identifiers]
        return {"resourceType": "Patient", "identifier": [pseudonym, *others]}

    def specimen(self) -> dict[str, Any]:
        taken = self.report.specimen
        return {
            "resourceType": "Specimen",
            "accessionIdentifier": taken.number and {"value": _exact(taken.number)},
            "type": _concept(SPECIMENS[taken.kind], _HL7 + "v2-0487"),
            "subject": self.to("patient"),
            "collection": taken.collected and {"collectedDateTime": taken.collected},
            "processing": taken.stain and [{"description": _text(f"Stain: {taken.stain}")}],
        }

    def device(self) -> dict[str, Any] | None:
        model = self.report.model
        if model is None:
            return None
        kind = _concept(
            Code("123110", "Artificial Intelligence"),
            "http://dicom.nema.org/resources/ontology/DCM",
        )
        told = {
            "calibrated": ("yes" if model.calibrated else "no",),
            "class": model.classes,
            "limit": model.limits,
        }
        return {
            "resourceType": "Device",
            "identifier": [{"system": "urn:allkit:model-sha256", "value": _exact(model.sha256)}],
            "deviceName": [{"name": _text(model.name), "type": "model-name"}],
            "type": kind,
            "version": [{"value": _text(model.version)}],
            "property": [
                {"type": {"text": name}, "valueCode": [{"text": _text(value)} for value in values]}
                for name, values in told.items()
                if values
            ],
        }

    # ── what was said ─────────────────────────────────────────────────────────────────────────

    def observation(self, code: dict[str, Any], label: str | None, absent: str) -> dict[str, Any]:
        value = None if label is None else _pattern(label)
        return {
            "resourceType": "Observation",
            "category": [_concept(Code("laboratory", "Laboratory"), _HL7 + "observation-category")],
            "code": code,
            "subject": self.to("patient"),
            "specimen": self.to("specimen"),
            "issued": self.report.made_at,
            "valueCodeableConcept": value,
            "dataAbsentReason": None
            if value
            else _concept(Code(absent, ""), _HL7 + "data-absent-reason"),
        }

    def by_reader(
        self, code: dict[str, Any], label: str | None, *parts: dict[str, Any]
    ) -> dict[str, Any]:
        report = self.report
        performers = [self.to("signer")] if report.signer else None
        comment = _string("comment", report.comment) if report.comment and not parts else None
        return self.observation(code, label, "temp-unknown") | {
            "status": _STATUS[report.kind],
            "performer": performers,
            "component": [*([comment] if comment else []), *parts],
        }

    def read_field(self, field: FieldResult) -> dict[str, Any]:
        parts = [*_of_field(field), _string("changed", "yes" if field.changed else "no")]
        if field.why:
            parts.append(_string("why", field.why))
        return self.by_reader(_local("field-reading", "Reading of one field"), field.reader, *parts)

    def by_model(self) -> Iterator[str]:
        """Add the model's observations, with the device that made them, and give their roles."""
        report = self.report
        answered = [field for field in report.fields if field.verdict is not None]
        if report.slide is None and not answered:
            return
        device = self.device()
        if device is None:
            raise _refusal(report, "it shows answers of a model that it does not name")
        self.add("device", device)
        if report.slide is not None:
            self.add("model", self.slide_answer(report.slide))
            yield "model"
        for field in report.fields:
            self.add(f"model/{field.number}", self.field_answer(field))
            yield f"model/{field.number}"

    def model_said(
        self, code: dict[str, Any], label: str | None, verdict: str | None
    ) -> dict[str, Any]:
        absent = _ABSENT.get(verdict, "unknown") if verdict else "not-performed"
        note = f"{RESEARCH_USE}. Preliminary AI answer: it never becomes final."
        if self.report.kind == "withdrawn":
            note += " It belongs to a report that was withdrawn: do not use it."
        return self.observation(code, label, absent) | {
            "meta": {"security": [_coding(AIAST, _HL7 + "v3-ObservationValue")]},
            "status": _MODEL_STATUS.get(self.report.kind, "preliminary"),
            "device": self.to("device"),
            "note": [{"text": note}],
        }

    def number(self, before: str, value: float | None) -> dict[str, Any]:
        """A probability, or a score where the model is not calibrated."""
        calibrated = self.report.model is not None and self.report.model.calibrated
        code = f"{before}{'probability' if calibrated else 'score'}"
        if value is None:
            return _absent(code)
        unit = {"system": "http://unitsofmeasure.org", "code": "1"}
        return {"code": _local(code, code), "valueQuantity": {"value": round(value, 6), **unit}}

    def slide_answer(self, slide: SlideResult) -> dict[str, Any]:
        code = _local("slide-answer", "Preliminary AI answer for the slide")
        label = slide.label if slide.verdict == "accepted" else None
        parts = [
            _string("verdict", slide.verdict),
            self.number("", slide.probability),
            {"code": _local("fields", "fields"), "valueInteger": slide.fields},
            {"code": _local("fields-used", "fields-used"), "valueInteger": slide.used},
        ]
        if slide.coarse:
            parts.append(_string("group", slide.coarse))
            parts.append(self.number("group-", slide.coarse_probability))
            if slide.coarse_verdict:
                parts.append(_string("group-verdict", slide.coarse_verdict))
        parts += [_string("reason", reason) for reason in slide.reasons]
        return self.model_said(code, label, slide.verdict) | {"component": parts}

    def field_answer(self, field: FieldResult) -> dict[str, Any]:
        code = _local("field-answer", "Preliminary AI answer for one field")
        label = field.label if field.verdict == "accepted" else None
        parts = _of_field(field)
        if field.verdict:
            parts.append(_string("verdict", field.verdict))
        parts.append(self.number("", field.probability))
        parts += [_string("reason", reason) for reason in field.reasons]
        return self.model_said(code, label, field.verdict) | {"component": parts}

    # ── the report and where it comes from ────────────────────────────────────────────────────

    def diagnostic_report(self, results: Iterable[str]) -> dict[str, Any]:
        report = self.report
        readers = [self.to("signer")] if report.signer else []
        interpreters = [*readers, *([self.to("second")] if report.second_reader else [])]
        order = report.order and {"type": "ServiceRequest", "identifier": _identifier(report.order)}
        case = {"system": "urn:allkit:case", "value": _exact(report.case)}
        return {
            "resourceType": "DiagnosticReport",
            "identifier": [case, {"system": "urn:allkit:report", "value": _exact(report.id)}],
            "basedOn": order and [order],
            "status": _STATUS[report.kind],
            "category": [_concept(Code("HM", "Hematology"), _HL7 + "v2-0074")],
            "code": _about(report),
            "subject": self.to("patient"),
            "issued": report.made_at,
            "performer": readers,
            "resultsInterpreter": interpreters,
            "specimen": [self.to("specimen")],
            "result": [self.to(role) for role in results],
            "conclusion": _text(f"{result_sentence(report)} {standing(report)}".rstrip()),
        }

    def provenance(self, targets: Iterable[str], *, model: bool) -> dict[str, Any]:
        report = self.report
        agents = [self.agent("author", "device" if model else "signer")]
        if report.signer is not None:
            agents += [self.agent("verifier", "signer")] if model else []
        readings = {"system": "urn:allkit:readings-sha256", "value": report.readings_sha256}
        source = {"role": "source", "what": {"identifier": readings}}
        return {
            "resourceType": "Provenance",
            "target": [self.to(role) for role in targets],
            "recorded": report.made_at if model else report.signed_at or report.made_at,
            "reason": [_concept(AIAST, _HL7 + "v3-ObservationValue")] if model else None,
            "agent": agents,
            "entity": [source] if report.readings_sha256 and not model else None,
        }

    def agent(self, kind: str, role: str) -> dict[str, Any]:
        part = Code(kind, kind.capitalize())
        return {"type": _concept(part, _HL7 + "provenance-participant-type"), "who": self.to(role)}


# ── parts ─────────────────────────────────────────────────────────────────────────────────────


def _practitioner(who: PersonName) -> dict[str, Any]:
    return {
        "resourceType": "Practitioner",
        "identifier": [{"system": "urn:allkit:person", "value": _exact(who.name)}],
        "name": [{"text": _text(who.display)}],
    }


def _identifier(one: Identifier) -> dict[str, Any]:
    """The issuer is the system where it is an address, and else the words of who assigned it."""
    value = {"value": _exact(one.value)}
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:\S+", one.issuer):
        return {"system": one.issuer, **value}
    return value | ({"assigner": {"display": _text(one.issuer)}} if one.issuer else {})


def _of_field(field: FieldResult) -> list[dict[str, Any]]:
    return [
        {"code": _local("field", "field"), "valueInteger": field.number},
        _string("field-name", field.name),
        _string("image-sha256", field.sha256),
    ]


def _coding(code: Code, system: str) -> dict[str, Any]:
    return {"system": system, "code": code.value, **({"display": code.words} if code.words else {})}


def _concept(code: Code, system: str) -> dict[str, Any]:
    return {"coding": [_coding(code, system)]}


def _about(report: CaseReport) -> dict[str, Any]:
    """What the report and the reader's result are about; LOINC's code is of blood only."""
    if report.specimen.kind == "blood":
        return _concept(BLOOD_SMEAR, "http://loinc.org")
    return _local(*MARROW_SMEAR)


def _local(code: str, words: str) -> dict[str, Any]:
    return {"coding": [_coding(Code(code, words), _LOCAL)]}


def _pattern(label: str) -> dict[str, Any]:
    """A class under our own names: a code may hold single blanks only."""
    code = " ".join(_text(label).split())
    return {"coding": [{"system": PATTERNS, "code": code}], "text": _text(label)}


def _string(code: str, value: str) -> dict[str, Any]:
    return {"code": _local(code, code), "valueString": _text(value)} if value else _absent(code)


def _absent(code: str) -> dict[str, Any]:
    why = _concept(Code("unknown", ""), _HL7 + "data-absent-reason")
    return {"code": _local(code, code), "dataAbsentReason": why}


def _exact(text: str) -> str:
    """An identifier as it is, but for the control characters that JSON of FHIR may not hold."""
    if not text.strip():
        return "".join(escape(c) for c in text) or "-"
    return "".join(escape(c) if c < " " and c not in "\t\n\r" else c for c in text)


def _text(text: str) -> str:
    return _exact(printable(text))


def _without_empty(resource: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if value not in (None, [], "")}
