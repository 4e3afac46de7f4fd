"""The audit for others: who looks, and in which form it goes out."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import asdict
from typing import Any

from allkit.clinic.access import User
from allkit.clinic.records import canonical
from allkit.clinic.store import chain
from allkit.clinic.store.chain import AuditRow

__all__ = ["event_of", "export_events", "export_lines"]

DCM = "http://dicom.nema.org/resources/ontology/DCM"
KINDS = {
    # what: (code of DICOM's audit messages, its meaning, action of FHIR)
    "case.seen": ("110110", "Patient Record", "R"),
    "case.created": ("110110", "Patient Record", "C"),
    "case.erased": ("110110", "Patient Record", "D"),
    "images.removed": ("110110", "Patient Record", "D"),
    "report.seen": ("110110", "Patient Record", "R"),
    "report.exported": ("110106", "Export", "R"),
    "audit.exported": ("110101", "Audit Log Used", "R"),
    "order.received": ("110107", "Import", "C"),
    "field.added": ("110107", "Import", "C"),
    "person.added": ("110136", "Security Roles Changed", "C"),
    "person.changed": ("110136", "Security Roles Changed", "U"),
    "key.added": ("110137", "User Security Attributes Changed", "C"),
    "key.revoked": ("110137", "User Security Attributes Changed", "U"),
    "model.added": ("110131", "Software Configuration", "C"),
    "model.default": ("110131", "Software Configuration", "U"),
    "setting.changed": ("110129", "Security Configuration", "U"),
}
"""What stands in the audit, by the codes of DICOM PS3.15 that FHIR's AuditEvent uses."""
OTHERS = ("110110", "Patient Record", "U")


def export_lines(user: User, after: int = 0) -> Generator[str, None, None]:
    """Yield the rows of the audit behind a number as JSON, one a line; the export itself is noted."""
    for row in _rows(user, after):
        yield canonical(asdict(row)) + "\n"


def export_events(user: User, after: int = 0) -> Generator[str, None, None]:
    """Yield the rows of the audit as AuditEvents of FHIR R4, one a line."""
    from fhir.resources.R4B.auditevent import AuditEvent

    for row in _rows(user, after):
        event = AuditEvent.model_validate(event_of(row))
        yield canonical(json.loads(event.model_dump_json(exclude_none=True))) + "\n"


def _rows(user: User, after: int) -> Generator[AuditRow, None, None]:
    with user.change("admin") as change:
        change.log("audit.exported", "audit", after=after)
    with user.read("admin") as connection:
        yield from chain.rows(connection, after)


def event_of(row: AuditRow) -> dict[str, Any]:
    """Return a row as the content of an AuditEvent: ids and hashes, no name of a patient."""
    code, meaning, action = KINDS.get(row.what, OTHERS)
    return {
        "resourceType": "AuditEvent",
        "id": f"audit-{row.seq}",
        "type": {"system": DCM, "code": code, "display": meaning},
        "subtype": [{"system": "urn:allkit:audit", "code": row.what}],
        "action": action,
        "recorded": row.at,
        "outcome": "0",
        "agent": [
            {
                "who": {"identifier": {"system": "urn:allkit:person", "value": row.who}},
                "requestor": True,
            }
        ],
        "source": {"observer": {"display": "allkit"}},
        "entity": [
            {
                "what": {"identifier": {"system": "urn:allkit:object", "value": row.object}},
                "detail": [
                    {
                        "type": name,
                        "valueString": value if isinstance(value, str) else canonical(value),
                    }
                    for name, value in [*row.detail.items(), ("prev", row.prev), ("hash", row.hash)]
                    if value not in ("", None)
                ],
            }
        ],
    }
