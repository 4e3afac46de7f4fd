"""Whether a file is a message with orders, by its content."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

__all__ = ["MAX_ORDER_BYTES", "UTF_16", "json_resource", "kind_of_message"]

MAX_ORDER_BYTES = 2**20
"""A larger file is no order: the largest that laboratories send have a few kilobytes."""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_HL7 = re.compile(rb"(?:MSH|FHS|BHS)[^A-Za-z0-9\s]")


def kind_of_message(data: bytes) -> Literal["hl7", "fhir"] | None:
    """Return what a message is; JSON has to be whole. Marks of byte order and blanks do not count."""
    head = data[:4096]
    if head.startswith(UTF_16):
        text = head[: len(head) // 2 * 2].decode("utf-16", errors="replace")
        head = text.encode("utf-8", errors="replace")
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip(b"\x0b \t\r\n")
    if _HL7.match(head):
        return "hl7"
    return "fhir" if head.startswith(b"{") and json_resource(data) is not None else None


def json_resource(data: bytes) -> dict[str, Any] | None:
    """Return the JSON object with a `resourceType` that `data` is; `None` where it is none."""
    if len(data) > MAX_ORDER_BYTES:
        return None
    try:
        value = json.loads(data.decode("utf-16" if data.startswith(UTF_16) else "utf-8-sig"))
        json.dumps(value, ensure_ascii=False).encode()  # half of a character cannot be kept
    except (ValueError, RecursionError):  # ValueError: no Unicode, no JSON, a number too long
        return None
    if isinstance(value, dict) and isinstance(value.get("resourceType"), str):
        return value
    return None
