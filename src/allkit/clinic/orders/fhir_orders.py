"""The orders of a FHIR R4 resource: a ServiceRequest, alone or in a Bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from allkit.clinic.orders.checks import NOT_KEPT, checked, day_of, instant_of, kind_of_specimen
from allkit.clinic.records import Identifier, Order, Specimen
from allkit.errors import OrderError

__all__ = ["orders_of_resource"]

Resource = Mapping[str, Any]

ACTIONS: dict[str, Literal["new", "cancel"]] = {"active": "new", "revoked": "cancel"}
INTENTS = {"order", "original-order", "reflex-order", "filler-order", "instance-order"}
NOBODY = {
    "Patient": {"active", "id", "identifier", "implicitRules", "language", "meta", "resourceType"},
}
"""What of a patient says nothing of a person; every other part is named as dropped."""
PERSONS = {
    "ServiceRequest": (
        "contained", "encounter", "insurance", "note", "patientInstruction", "performer", "reasonCode",
        "reasonReference", "requester", "supportingInfo", "text",
    ),
    "Specimen": ("contained", "note", "text"),
}  # fmt: skip
OTHERS = {"Bundle", "MessageHeader", "Patient", "ServiceRequest", "Specimen"}


class _Bundle:
    """The resources of a message, found by their references."""

    def __init__(self, resource: Resource) -> None:
        self.whole = resource
        self.resources: list[Resource] = []
        self._by_reference: dict[str, Resource] = {}
        if resource["resourceType"] != "Bundle":
            self._add(resource, "")
            return
        for entry in _objects(resource, "entry", "Bundle"):
            inner = _object(entry, "resource", "Bundle.entry")
            if inner:
                self._add(inner, _text(entry, "fullUrl", "Bundle.entry"))

    def _add(self, resource: Resource, url: str) -> None:
        kind = _text(resource, "resourceType", "Bundle.entry.resource")
        self.resources.append(resource)
        number = _text(resource, "id", kind)
        # An absolute address may end in the number of a resource of this message and mean one of
        # another server, but not where the message gives its resources no addresses of their own.
        alone = f"/{kind}/{number}" if not url.startswith("http") else ""
        for reference in filter(None, (url, number and f"{kind}/{number}", number and alone)):
            if self._by_reference.setdefault(reference, resource) is not resource:
                raise OrderError("Two resources have one fullUrl or id. Give each its own.")

    def of_kind(self, kind: str) -> list[Resource]:
        return [one for one in self.resources if one.get("resourceType") == kind]

    def find(self, reference: Resource, kind: str, *, inside: Resource) -> Resource | None:
        """Return the resource of a kind that a reference names, here or contained in `inside`."""
        name = _text(reference, "reference", "reference")
        if name.startswith("#"):
            contained = _objects(inside, "contained", str(inside["resourceType"]))
            found = next((one for one in contained if f"#{one.get('id')}" == name), None)
        else:
            found = self._by_reference.get(name) if name else None
            if found is None and name.startswith("http"):
                found = self._by_reference.get("/" + "/".join(name.split("/")[-2:]))
        return found if found is not None and found.get("resourceType") == kind else None


def _object(value: Resource, key: str, where: str) -> Resource:
    found = value.get(key, {})
    if not isinstance(found, dict):
        raise OrderError(f"{where}.{key} is no object. Send it as FHIR R4 says.")
    return found


def _objects(value: Resource, key: str, where: str) -> list[Resource]:
    found = value.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise OrderError(f"{where}.{key} is no list of objects. Send it as FHIR R4 says.")
    return found


def _text(value: Resource, key: str, where: str) -> str:
    found = value.get(key, "")
    if not isinstance(found, str):
        raise OrderError(f"{where}.{key} is no text. Send it as FHIR R4 says.")
    return checked(found, f"{where}.{key}")


def orders_of_resource(resource: Resource) -> tuple[Order, ...]:
    """Return the orders of a ServiceRequest or a Bundle. Raises `OrderError`."""
    bundle = _Bundle(resource)
    requests = bundle.of_kind("ServiceRequest")
    if not requests:
        raise OrderError(
            "The FHIR resource holds no ServiceRequest. Send one, alone or in a Bundle."
        )
    return tuple(_order(bundle, request) for request in requests)


def _order(bundle: _Bundle, request: Resource) -> Order:
    for key in ("modifierExtension", "implicitRules"):
        if request.get(key):
            raise OrderError(
                f"ServiceRequest.{key} changes the meaning in a way that is not known. Send without it."
            )
    if request.get("doNotPerform"):
        raise OrderError("ServiceRequest.doNotPerform is set: it forbids what an order asks for.")
    action = ACTIONS.get(_text(request, "status", "ServiceRequest"))
    if action is None:
        raise OrderError(
            "ServiceRequest.status is neither active nor revoked. Send the order when it is active."
        )
    if _text(request, "intent", "ServiceRequest") not in INTENTS:
        raise OrderError("ServiceRequest.intent names no order. Send the intent order.")
    dropped: dict[str, None] = {}
    subject, patients = _patient(bundle, request, dropped)
    specimen = _specimen(bundle, request, subject, dropped)
    _note(request, dropped)
    dropped |= {
        str(one["resourceType"]): None
        for one in bundle.resources
        if one["resourceType"] not in OTHERS
    }
    message, sender = _sender(bundle)
    return Order(
        number=_number(request),
        patient=patients,
        specimen=specimen,
        placed=instant_of(
            _text(request, "authoredOn", "ServiceRequest"), "ServiceRequest.authoredOn"
        ),
        message=message,
        sender=sender,
        action=action,
        dropped=tuple(dropped),
    )


def _sender(bundle: _Bundle) -> tuple[str, str]:
    """Return the id of the message and its sender, of a Bundle and its MessageHeader."""
    if bundle.whole["resourceType"] != "Bundle":
        return "", ""
    identifier = _object(bundle.whole, "identifier", "Bundle")
    message = _text(identifier, "value", "Bundle.identifier") or _text(bundle.whole, "id", "Bundle")
    head = next(iter(bundle.of_kind("MessageHeader")), {})
    source = _object(head, "source", "MessageHeader")
    sender = _text(source, "name", "MessageHeader.source")
    return message, sender or _text(source, "endpoint", "MessageHeader.source")


def _codes(value: Resource, key: str, where: str) -> list[Resource]:
    return _objects(_object(value, key, where), "coding", f"{where}.{key}")


def _number(request: Resource) -> Identifier:
    """Return the placer's number: the identifier of type PLAC, or the only one."""
    where = "ServiceRequest.identifier"
    several = [one for one in _objects(request, "identifier", "ServiceRequest") if one.get("value")]
    placer = [
        one for one in several
        if any(code.get("code") == "PLAC" for code in _codes(one, "type", where))
    ]  # fmt: skip
    found = placer or several
    if not found:
        raise OrderError(f"{where} is empty. Send the number of the order.")
    if len(found) > 1:
        raise OrderError(f"{where} has {len(found)} numbers. Mark the placer's with the type PLAC.")
    value = _text(found[0], "value", where)
    if not value:
        raise OrderError(f"{where} is empty. Send the number of the order.")
    return Identifier(value, _text(found[0], "system", where))


def _patient(
    bundle: _Bundle, request: Resource, dropped: dict[str, None]
) -> tuple[Resource | None, tuple[Identifier, ...]]:
    """Return the Patient, where it is in the message, and the identifiers."""
    subject = _object(request, "subject", "ServiceRequest")
    patient = bundle.find(subject, "Patient", inside=request)
    if "display" in subject:
        dropped["ServiceRequest.subject.display"] = None
    if patient is not None:
        kept = NOBODY["Patient"]
        dropped |= {f"Patient.{key}": None for key in patient if key not in kept}
        given, where = _objects(patient, "identifier", "Patient"), "Patient.identifier"
    else:
        where = "ServiceRequest.subject.identifier"
        one = _object(subject, "identifier", "ServiceRequest.subject")
        given = [one] if one else []
    found = []
    for one in given:
        kinds = {str(code.get("code")) for code in _codes(one, "type", where)} & NOT_KEPT
        value = _text(one, "value", where)
        if value and kinds:
            dropped[f"{where} ({min(kinds)})"] = None
        elif value and one.get("use") != "old":
            found.append(Identifier(value, _text(one, "system", where)))
    if not found:
        raise OrderError(
            "ServiceRequest.subject leads to no identifier of a patient. Send the Patient in the Bundle, "
            "or the number in subject.identifier."
        )
    return patient, tuple(dict.fromkeys(found))


def _specimen(
    bundle: _Bundle, request: Resource, patient: Resource | None, dropped: dict[str, None]
) -> Specimen | None:
    references = _objects(request, "specimen", "ServiceRequest")
    if len(references) > 1:
        raise OrderError(
            f"ServiceRequest.specimen names {len(references)} specimens. Send an order for each, with its "
            "own number."
        )
    found = bundle.find(references[0], "Specimen", inside=request) if references else None
    if found is None:
        return None
    if found.get("status") == "entered-in-error":
        raise OrderError(
            "Specimen.status is entered-in-error. Send the order with the right specimen."
        )
    whose = _object(found, "subject", "Specimen")
    other = bundle.find(whose, "Patient", inside=request)
    if patient is not None and whose.get("reference") and other is not patient:
        raise OrderError("Specimen.subject is not the patient of the order. Correct one of them.")
    _note(found, dropped)
    collection = _object(found, "collection", "Specimen")
    if "collector" in collection:
        dropped["Specimen.collection.collector"] = None
    period = _object(collection, "collectedPeriod", "Specimen.collection")
    at = _text(collection, "collectedDateTime", "Specimen.collection")
    at = at or _text(period, "start", "Specimen.collection.collectedPeriod")
    accession = _object(found, "accessionIdentifier", "Specimen")
    several = [accession, *_objects(found, "identifier", "Specimen")]
    numbers = [_text(one, "value", "Specimen.identifier") for one in several]
    kind = _kind(found)
    return kind and Specimen(
        kind, day_of(at, "Specimen.collection"), number=next(filter(None, numbers), None)
    )


def _kind(specimen: Resource) -> Literal["blood", "marrow"] | None:
    codes = [_text(one, "code", "Specimen.type") for one in _codes(specimen, "type", "Specimen")]
    kinds = {kind_of_specimen(code, "") for code in codes if code} - {None}
    if not codes:
        text = _text(_object(specimen, "type", "Specimen"), "text", "Specimen.type")
        return kind_of_specimen("", text)
    return kinds.pop() if len(kinds) == 1 else None


def _note(resource: Resource, dropped: dict[str, None]) -> None:
    kind = str(resource["resourceType"])
    dropped |= {f"{kind}.{key}": None for key in PERSONS[kind] if resource.get(key)}
