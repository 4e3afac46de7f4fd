"""The orders of an HL7 v2 message: ORM^O01 and OML^O21, 2.3 to 2.5.1."""

from __future__ import annotations

from typing import Literal

from allkit.clinic.orders.checks import NOT_KEPT, day_of, instant_of, kind_of_specimen
from allkit.clinic.orders.segments import Message, Segment
from allkit.clinic.records import Identifier, Order, Specimen
from allkit.errors import OrderError

__all__ = ["orders_of_message"]

TYPES = (("ORM", "O01"), ("OML", "O21"))
VERSIONS = ("2.3", "2.3.1", "2.4", "2.5", "2.5.1")
ACTIONS: dict[str, Literal["new", "change", "cancel"]] = {
    "NW": "new",
    "XO": "change",
    "CA": "cancel",
}
KEPT = {"MSH", "PID", "ORC", "OBR", "SPM"}
TECHNICAL = {"SFT", "TQ1", "TQ2", "SAC", "UAC", "DSC"}
"""Segments about programs, times and tubes: not kept, and nothing of a person is in them."""
PERSONS = {
    "ORC": {10, 11, 12, 13, 14, 17, 18, 19, *range(21, 25)},
    "OBR": {10, 13, 16, 17, 28, *range(31, 36), 39, 46},
    "SPM": {14, 16},
}
"""Fields with people, places, telephone numbers or free text."""


def orders_of_message(message: Message) -> tuple[Order, ...]:
    """Return the orders of a message. Raises `OrderError`."""
    head = message.head
    if (head.value(9, 1), head.value(9, 2)) not in TYPES:
        raise OrderError("MSH-9 names another type of message. Send ORM^O01 or OML^O21.")
    if head.value(12) not in VERSIONS:
        raise OrderError(
            f"MSH-12 names a version that is not read. Send one of {', '.join(VERSIONS)}."
        )
    control = head.value(10)
    if not control:
        raise OrderError("MSH-10 is empty. Give each message an id of its own.")
    patients = [segment for segment in message.segments if segment.name == "PID"]
    if len(patients) != 1:
        raise OrderError(
            f"The message has {len(patients)} PID segments. Send the orders of one patient in a message."
        )
    patient, kinds = _patient(patients[0])
    groups = _groups(message)
    dropped = _dropped(message, kinds)
    sender = "/".join(filter(None, (head.value(3), head.value(4))))
    offset = head.value(7)[-5:] if head.value(7)[-5:-4] in ("+", "-") else ""
    return tuple(
        Order(
            number=_number(group),
            patient=patient,
            specimen=_specimen(group),
            placed=instant_of(group[0].value(9), "ORC-9", offset=offset),
            message=control,
            sender=sender,
            action=_action(group[0]),
            dropped=dropped,
        )
        for group in groups
    )


def _patient(segment: Segment) -> tuple[tuple[Identifier, ...], list[str]]:
    """Return the identifiers of PID-3, and where others stood that are not kept."""
    found, dropped = [], []
    for components in segment.repetitions(3):
        value = segment.checked_parts(components, 3, 1)[0]
        kind = segment.checked_parts(components, 3, 5)[0].upper()
        if value and kind in NOT_KEPT:
            dropped.append(f"PID-3 ({kind})")
        elif value:
            found.append(Identifier(value, _issuer(segment.checked_parts(components, 3, 4))))
    if not found:
        raise OrderError(
            "PID-3 holds no identifier of the patient. Send the number of the patient."
        )
    return tuple(dict.fromkeys(found)), dropped


def _issuer(parts: list[str]) -> str:
    """Return the namespace of an HD, or else its universal id."""
    return next((part for part in parts[:2] if part), "")


def _groups(message: Message) -> list[list[Segment]]:
    """Return the segments of each order, beginning with its ORC."""
    groups: list[list[Segment]] = []
    for segment in message.segments:
        if segment.name == "ORC":
            groups.append([segment])
        elif segment.name in ("OBR", "SPM"):
            if not groups:
                raise OrderError(
                    f"{segment.name} stands before any ORC. Begin each order with ORC."
                )
            groups[-1].append(segment)
    if not groups:
        raise OrderError("The message has no ORC segment, so it orders nothing. Send ORC and OBR.")
    return groups


def _only(group: list[Segment], name: str) -> Segment | None:
    found = [segment for segment in group if segment.name == name]
    if len(found) > 1:
        raise OrderError(
            f"One order has {len(found)} {name} segments. Send an order for each, with its own ORC and "
            "its own number."
        )
    return found[0] if found else None


def _action(orc: Segment) -> Literal["new", "change", "cancel"]:
    action = ACTIONS.get(orc.value(1))
    if action is None:
        raise OrderError("ORC-1 asks for something that is not done here. Send NW, XO or CA.")
    return action


def _number(group: list[Segment]) -> Identifier:
    """Return the placer's number with its issuer, from ORC-2 and OBR-2."""
    found = []
    for segment in (group[0], _only(group, "OBR")):
        if segment is not None and segment.value(2):
            issuer = segment.value(2, 2) or segment.value(2, 3)
            found.append(Identifier(segment.value(2), issuer))
    if not found:
        raise OrderError("ORC-2 and OBR-2 are empty. Send the number of the order.")
    if len({identifier.value for identifier in found}) > 1:
        raise OrderError(
            "ORC-2 and OBR-2 hold different numbers of the order. Send the same in both."
        )
    return next((identifier for identifier in found if identifier.issuer), found[0])


def _specimen(group: list[Segment]) -> Specimen | None:
    """Return the specimen of SPM, or of OBR-15 where there is none; `None` of another kind."""
    obr, spm = _only(group, "OBR"), _only(group, "SPM")
    collected = None if obr is None else day_of(obr.value(7), "OBR-7")
    if spm is not None:
        number = spm.value(2, 2) or spm.value(2, 1)
        collected = day_of(spm.value(17), "SPM-17") or collected
        kind = kind_of_specimen(spm.value(4), spm.value(4, 2))
        return kind and Specimen(kind, collected, number=number or None)
    if obr is None:
        return None
    code, text, *_ = [*obr.parts(15), "", ""]
    kind = kind_of_specimen(code, text)
    return kind and Specimen(kind, collected)


def _dropped(message: Message, identifiers: list[str]) -> tuple[str, ...]:
    """Return where identity stood that is not kept: fields, or whole segments."""
    found = dict.fromkeys(identifiers)
    for segment in message.segments:
        if segment.name == "PID":
            found |= dict.fromkeys(f"PID-{n}" for n in segment.held() if n not in (1, 3))
        elif segment.name not in KEPT | TECHNICAL:
            found[segment.name] = None
        else:
            persons = PERSONS.get(segment.name, set())
            found |= dict.fromkeys(f"{segment.name}-{n}" for n in segment.held() if n in persons)
    return tuple(found)
