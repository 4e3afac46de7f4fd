"""Our own check of a Bundle: what the classes of fhir.resources let pass."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

__all__ = ["check_bundle"]

_THO = "http://terminology.hl7.org/CodeSystem/"
_AIAST = (_THO + "v3-ObservationValue", "AIAST")
_SIGNED = ("final", "amended", "corrected", "appended")

_STATUSES = {
    "Observation": (
        "registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error",
        "unknown",
    ),
    "DiagnosticReport": (
        "registered", "partial", "preliminary", "final", "amended", "corrected", "appended", "cancelled",
        "entered-in-error", "unknown",
    ),
    "Specimen": ("available", "unavailable", "unsatisfactory", "entered-in-error"),
    "Device": ("active", "inactive", "entered-in-error", "unknown"),
}  # fmt: skip
"""The states of FHIR R4, for the resources that have one here."""

_MUST_HAVE_STATUS = ("Observation", "DiagnosticReport")

_VALUES: Mapping[str, frozenset[str]] = {
    "http://loinc.org": frozenset({"5909-7"}),
    "http://dicom.nema.org/resources/ontology/DCM": frozenset({"123110"}),
    _AIAST[0]: frozenset({"AIAST"}),
    _THO + "v2-0074": frozenset({"HM"}),
    _THO + "v2-0487": frozenset({"BLD", "MAR"}),
    _THO + "observation-category": frozenset({"laboratory"}),
    _THO + "provenance-participant-type": frozenset({"author", "verifier"}),
    _THO + "data-absent-reason": frozenset({"unknown", "temp-unknown", "error", "not-performed"}),
}
"""The codes that may stand in a Bundle of ours, by system; our own systems begin with `urn:allkit:`."""

_TO = {
    "subject": ("Patient",),
    "specimen": ("Specimen",),
    "device": ("Device",),
    "performer": ("Practitioner",),
    "resultsInterpreter": ("Practitioner",),
    "result": ("Observation",),
    "target": ("DiagnosticReport", "Observation"),
    "who": ("Device", "Practitioner"),
    "basedOn": ("ServiceRequest",),
    "what": (),
}
"""What a reference may lead to, by the element that holds it; `what` is an identifier only."""

_DAY = r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?"
_MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"
_DATES = {
    "issued": _MOMENT,
    "recorded": _MOMENT,
    "timestamp": _MOMENT,
    "collectedDateTime": f"{_DAY}|{_MOMENT}",
}

_DISEASES = re.compile(r"snomed|icd|sct\b|2\.16\.840\.1\.113883\.6\.(3|90|96|103)\b", re.I)
"""Systems with codes of diseases: SNOMED CT and the editions of ICD, by name or by OID."""


def check_bundle(data: bytes) -> list[str]:
    """Return what is wrong with a Bundle of ours, one sentence each; an empty list where nothing is.

    Checked are the states of resources, the codes against those that we write, that each reference leads
    to a resource of the right kind in the Bundle or is an identifier, that only what a practitioner
    performed is final, that what a device said is marked `AIAST`, stays preliminary and holds no code of
    a disease, and the dates. The types of elements are left to fhir.resources, which does check them. It
    does not replace the validator of HL7.
    """
    try:
        bundle = json.loads(data)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        return [f"It is not JSON in UTF-8: {error}"]
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        return ["It is not a Bundle."]
    return list(_problems(bundle))


def _problems(bundle: dict[str, Any]) -> Iterator[str]:
    if bundle.get("type") != "collection":
        yield f"Bundle.type is {bundle.get('type')!r}, not 'collection'."
    yield from _wrong_dates(bundle, "Bundle")
    entries = bundle.get("entry")
    if not isinstance(entries, list):
        yield "Bundle.entry is no list."
        return
    kinds: dict[str, str] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("resource"), dict):
            yield f"Entry {number} holds no resource."
            return
        resource, url = entry["resource"], str(entry.get("fullUrl"))
        if url != f"urn:uuid:{resource.get('id')}":
            yield f"Entry {number} has the address {url!r}, which is not that of its resource."
        if url in kinds:
            yield f"The address {url!r} stands at two entries."
        kinds[url] = str(resource.get("resourceType"))
    count = list(kinds.values()).count("DiagnosticReport")
    if count != 1:
        yield f"It holds {count} reports, not one."
    for entry in entries:
        yield from _of_resource(entry["resource"], kinds)


def _of_resource(resource: dict[str, Any], kinds: Mapping[str, str]) -> Iterator[str]:
    kind = str(resource.get("resourceType"))
    name = f"{kind} {resource.get('id')}"
    status = resource.get("status")
    known = _STATUSES.get(kind, ())
    if status not in known and (status is not None or kind in _MUST_HAVE_STATUS):
        yield f"{name} has the status {status!r}, which FHIR does not know."
    for path, key, node in _nodes(resource, name):
        yield from _wrong_code(path, key, node)
        yield from _wrong_reference(path, key, node, kinds)
        yield from _wrong_dates(node, path)
        if "dataAbsentReason" in node and any(part.startswith("value") for part in node):
            yield f"{path} has a value and a reason why there is none."
    if kind == "Observation":
        yield from _of_observation(resource, name)
    if status in _SIGNED and kind in _MUST_HAVE_STATUS and not _performed(resource, kinds):
        yield f"{name} is {status}, and no practitioner performed it."


def _of_observation(observation: dict[str, Any], name: str) -> Iterator[str]:
    labels = [
        (label.get("system"), label.get("code"))
        for label in (observation.get("meta") or {}).get("security") or []
    ]
    by_device = "device" in observation
    if by_device != (_AIAST in labels):
        yield f"{name} is marked AIAST, or has a device, but not both."
    if not by_device and _AIAST not in labels:
        return
    if observation.get("status") not in ("preliminary", "entered-in-error"):
        yield f"{name} is an answer of a model, and has the status {observation.get('status')!r}."
    for path, _, node in _nodes(observation, name):
        if "code" in node and _DISEASES.search(str(node.get("system", ""))):
            yield f"{path} is a code of a disease, given by a model."


def _performed(resource: dict[str, Any], kinds: Mapping[str, str]) -> bool:
    performers = [one.get("reference") for one in resource.get("performer") or []]
    return any(kinds.get(address) == "Practitioner" for address in performers)


def _nodes(value: Any, path: str, key: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every object in a resource, with its path and the name of the element that holds it."""
    if isinstance(value, dict):
        yield path, key, value
        for name, part in value.items():
            yield from _nodes(part, f"{path}.{name}", name)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _nodes(part, f"{path}[{number}]", key)


def _wrong_code(path: str, key: str, node: dict[str, Any]) -> Iterator[str]:
    system, code = str(node.get("system")), node.get("code")
    if key in ("coding", "security"):
        if system in _VALUES and code not in _VALUES[system]:
            yield f"{path} has the code {code!r}, which we do not write for {system}."
        if system not in _VALUES and not system.startswith("urn:allkit:"):
            yield f"{path} has a code of the system {system!r}, which we do not write."
    if key == "valueQuantity":
        value = node.get("value")
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            yield f"{path} is {value!r}; a probability lies from 0 to 1."
        if (system, code) != ("http://unitsofmeasure.org", "1"):
            yield f"{path} has the unit {code!r}; a probability has the unit '1'."
    if key == "deviceName" and node.get("type") != "model-name":
        yield f"{path} is of the type {node.get('type')!r}, not 'model-name'."
    if key == "entity" and node.get("role") != "source":
        yield f"{path} has the role {node.get('role')!r}, not 'source'."


def _wrong_reference(
    path: str, key: str, node: dict[str, Any], kinds: Mapping[str, str]
) -> Iterator[str]:
    if key not in _TO:
        return
    address = node.get("reference")
    if address is None:
        identifier = node.get("identifier") or {}
        if not identifier.get("value"):
            yield f"{path} refers to nothing: it has neither an address nor an identifier."
        elif key not in ("basedOn", "what"):
            yield f"{path} is an identifier, where a resource of this Bundle must stand."
        elif key == "basedOn" and node.get("type") != "ServiceRequest":
            yield f"{path} is of the type {node.get('type')!r}, not 'ServiceRequest'."
    elif address not in kinds:
        yield f"{path} refers to {address!r}, which is not in this Bundle."
    elif kinds[address] not in _TO[key]:
        yield f"{path} refers to a {kinds[address]}."


def _wrong_dates(node: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, pattern in _DATES.items():
        if name in node and not _is_date(str(node[name]), pattern):
            yield f"{path}.{name} is {node[name]!r}, which is no date."


def _is_date(text: str, pattern: str) -> bool:
    if not re.fullmatch(pattern, text, re.ASCII):
        return False
    whole = text + "-01" * (2 - text.count("-")) if "T" not in text else text
    try:
        datetime.fromisoformat(whole)
    except ValueError:
        return False
    return True
