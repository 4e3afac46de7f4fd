"""What a kept value of an order has to fulfil, kinds of specimen, and times."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

from allkit.clinic.records import SpecimenKind
from allkit.errors import OrderError

__all__ = ["MAX_LENGTH", "NOT_KEPT", "checked", "day_of", "instant_of", "kind_of_specimen"]

MAX_LENGTH = 256
"""Most characters of an identifier."""
NOT_KEPT = {"SS", "DL", "PPN", "SB", "CC"}
"""Kinds of identifiers (HL7 table 0203) that identify a person everywhere: social security, driving
licence, passport, social beneficiary, bank card."""

CODES: dict[str, SpecimenKind] = dict.fromkeys(("BLD", "BLDA", "BLDC", "BLDV", "WB"), "blood")
CODES |= dict.fromkeys(("BMA", "BMAR", "BMM", "BMR", "MAR", "MARROW"), "marrow")
"""HL7 tables 0070 and 0487, and codes for marrow that laboratories use beside them."""
SNOMED: dict[str, SpecimenKind] = dict.fromkeys(
    ("119297000", "122554006", "122555007", "258580003"), "blood"
)
SNOMED |= {"119359002": "marrow"}
TEXTS: dict[str, SpecimenKind] = dict.fromkeys(
    ("blood", "capillary blood", "peripheral blood", "venous blood", "whole blood"), "blood"
)
TEXTS |= dict.fromkeys(("bone marrow", "bone marrow aspirate", "marrow"), "marrow")
_DIGITS = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)?(\d\d)?(\d\d)?(?:\.\d+)?([+-]\d{4})?", re.ASCII)
_DAY = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:T.*)?", re.ASCII | re.DOTALL)


def checked(value: str, where: str) -> str:
    """Return a value without blanks around it; refuse a long one and one with control characters."""
    value = value.strip(" ")
    if len(value) > MAX_LENGTH:
        raise OrderError(
            f"{where} has {len(value):,} characters; at most {MAX_LENGTH} are taken. Send the "
            "identifier only."
        )
    if not value.isprintable():
        raise OrderError(f"{where} holds control characters. Send it without them.")
    return value


def kind_of_specimen(code: str, text: str) -> SpecimenKind | None:
    """Return blood or marrow by a code of HL7 or SNOMED CT or, without a code, by the text."""
    if code:
        return CODES.get(code.upper()) or SNOMED.get(code)
    return TEXTS.get(text.strip().lower())


def day_of(value: str, where: str) -> str | None:
    """Return the day of a time of HL7 or FHIR as `2026-01-31`; `None` where it says no day."""
    match = _DIGITS.fullmatch(value) or _DAY.fullmatch(value)
    if match is None:
        if re.fullmatch(r"(\d{4}(-?\d\d)?)?", value):
            return None
        raise _bad_time(where)
    try:
        return date(*(int(part) for part in match.groups()[:3])).isoformat()
    except ValueError:
        raise _bad_time(where) from None


def instant_of(value: str, where: str, *, offset: str = "") -> str | None:
    """Return a time as `2026-01-31T09:15:00Z`; `None` without minutes or an offset to UTC.

    `offset` (`+0100`) holds for a time of HL7 that has none.
    """
    match = _DIGITS.fullmatch(value)
    try:
        if match is not None:
            *parts, own = match.groups()
            own = own or offset
            if parts[4] is None or not own:
                day_of(value, where)  # refuses a day that does not exist
                return None
            text = "".join(part or "00" for part in parts) + own
            time = datetime.strptime(text, "%Y%m%d%H%M%S%z")
        elif day_of(value, where) is None or "T" not in value:
            return None
        else:
            time = datetime.fromisoformat(value)
            if time.tzinfo is None:
                return None
        return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        raise _bad_time(where) from None


def _bad_time(where: str) -> OrderError:
    return OrderError(
        f"{where} holds no valid time. Send it as the standard says, or leave it empty."
    )
