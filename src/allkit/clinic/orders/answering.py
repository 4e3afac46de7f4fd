"""The acknowledgement of an HL7 message, also of one that cannot be read."""

from __future__ import annotations

import re
from typing import Literal

from allkit.clinic.orders.segments import Message, Separators, split_message
from allkit.clinic.records import sha256_of
from allkit.errors import OrderError

__all__ = ["acknowledge"]

VERSION = re.compile(r"2\.\d(\.\d)?")
SHORT, LONG = 80, 250
"""Most characters of MSA-3 and ERR-8 in 2.5."""


def acknowledge(
    message: bytes, *, code: Literal["AA", "AE", "AR"], text: str = "", at: str
) -> bytes:
    """Return the answer to `message`: AA taken, AE failed (send again), AR refused (do not).

    `text` says why, for people; `at` is the time, `2026-01-31T09:15:00Z`. The answer goes back to the
    sender that MSH-3 and MSH-4 name, under the message's own id, in its separators and character set. The
    same arguments give the same bytes. A message without a readable MSH gets an answer with an empty id.
    """
    source = _readable(message)
    head = [_kept(source, number) for number in range(20)]
    marks = source.separators
    version = head[12] if VERSION.fullmatch(head[12]) else "2.5.1"
    trigger = head[9].split(marks.component)[1:2]
    kind = marks.component.join(["ACK", *trigger] + ["ACK"] * bool(trigger))
    msh = [
        "MSH", f"{marks.component}{marks.repetition}{marks.escape}{marks.part}",
        head[5] or "allkit", head[6], head[3], head[4],
        re.sub(r"\D", "", at) + "+0000", "", kind,
        sha256_of(message + f"{code}{at}".encode())[:20],
        head[11] or "P", version, "", "", "", "", "", head[18],
    ]  # fmt: skip
    lines = [msh, ["MSA", code, head[10], marks.escaped(_printable(text)[:SHORT])]]
    if code != "AA" and version in ("2.5", "2.5.1"):
        reason = (
            ["102", "Data type error", "HL70357"]
            if code == "AR"
            else ["207", "Application internal error", "HL70357"]
        )
        err = ["ERR", "", "", marks.component.join(reason), "E", "", "", ""]
        lines.append([*err, marks.escaped(_printable(text)[:LONG])])
    answer = "".join(marks.field.join(line).rstrip(marks.field) + "\r" for line in lines)
    return answer.encode(source.encoding, errors="replace")


def _readable(message: bytes) -> Message:
    """Return the message, or its MSH alone where the rest cannot be read, or an empty one."""
    first = re.split(rb"[\r\n]", message.lstrip(b"\x0b\r\n"), maxsplit=1)[0]
    for data in (message, first):
        try:
            return split_message(data)
        except OrderError:
            continue
    return Message(Separators(), (), "utf-8")


def _kept(message: Message, number: int) -> str:
    """Return a field of MSH to be sent back as it stands, unless it is longer than any honest one."""
    value = message.head.raw(number) if number and message.lines else ""
    return value if len(value) <= 256 and value.isprintable() else ""


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
