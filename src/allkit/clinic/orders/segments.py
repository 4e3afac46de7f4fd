"""An HL7 v2 message in its parts: segments, fields, repetitions, components, subcomponents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from allkit.clinic.orders.checks import checked
from allkit.clinic.orders.kinds import UTF_16
from allkit.errors import OrderError

__all__ = ["Message", "Segment", "Separators", "split_message"]

CHARSETS = {"": "utf-8", "ASCII": "utf-8", "UNICODE UTF-8": "utf-8", "UTF-8": "utf-8"}
CHARSETS |= {f"8859/{n}": f"iso8859-{n}" for n in (*range(1, 12), *range(13, 16))}
"""MSH-18 and Python's name. ASCII is part of UTF-8; whether the message keeps to it is looked at."""
_ESCAPE = re.compile(r"[0-9A-Fa-f]+")


@dataclass(frozen=True)
class Separators:
    """The characters that divide a message, as MSH-1 and MSH-2 name them."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    part: str = "&"

    def escaped(self, text: str) -> str:
        """Return a text that can stand in a field."""
        names = {self.escape: "E", self.field: "F", self.component: "S", self.repetition: "R"}
        names |= {self.part: "T", "\r": ".br", "\n": ".br"}
        return "".join(f"{self.escape}{names[c]}{self.escape}" if c in names else c for c in text)


@dataclass(frozen=True)
class Segment:
    """A segment; `fields[1]` is its first field, for MSH the separator itself. Values are raw."""

    name: str
    fields: tuple[str, ...]
    message: Message

    def raw(self, number: int) -> str:
        """Return a field as it stands; `""` where it is absent, empty or an explicit null."""
        value = self.fields[number] if number < len(self.fields) else ""
        return "" if value == '""' else value

    def held(self) -> Iterator[int]:
        """Yield the numbers of the fields that hold something."""
        marks = self.message.separators
        empty = f' "{marks.component}{marks.repetition}{marks.part}'
        return (n for n in range(1, len(self.fields)) if self.fields[n].strip(empty))

    def repetitions(self, number: int) -> list[list[str]]:
        """Return the repetitions of a field, each as its components, raw."""
        marks, value = self.message.separators, self.raw(number)
        return (
            [one.split(marks.component) for one in value.split(marks.repetition)] if value else []
        )

    def value(self, number: int, component: int = 1) -> str:
        """Return a component of the first repetition of a field, checked; `""` where it is absent.

        Subcomponents stay divided; `parts` divides them.
        """
        return self.parts(number, component)[0]

    def parts(self, number: int, component: int = 1) -> list[str]:
        """Return the subcomponents of a component, checked; at least one."""
        several = self.repetitions(number)
        return self.checked_parts(several[0] if several else [], number, component)

    def checked_parts(self, components: list[str], number: int, component: int) -> list[str]:
        """Return the subcomponents of one of `components`, those of a repetition of a field."""
        where = f"{self.name}-{number}"
        value = components[component - 1] if component <= len(components) else ""
        marks = self.message.separators
        parts = [self.message.plain(part, where) for part in value.split(marks.part)]
        return ["" if part == '""' else part for part in parts]


@dataclass(frozen=True)
class Message:
    """An HL7 message. `encoding` is how its bytes were read; `guessed` says that it did not say how."""

    separators: Separators
    lines: tuple[str, ...]
    encoding: str
    guessed: bool = False

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments in their order."""
        field = self.separators.field
        made = []
        for line in self.lines:
            name, *fields = line.split(field)
            first = [name, field] if name == "MSH" else [name]
            made.append(Segment(name, (*first, *fields), self))
        return tuple(made)

    @property
    def head(self) -> Segment:
        """The MSH segment."""
        return self.segments[0]

    def plain(self, raw: str, where: str) -> str:
        """Return a raw value with its escapes resolved, checked. Raises `OrderError`."""
        text = checked(raw, where)
        marks = self.separators
        if marks.escape in text:
            names = {"F": marks.field, "S": marks.component, "R": marks.repetition}
            names |= {"T": marks.part, "E": marks.escape}
            pieces = text.split(marks.escape)
            if len(pieces) % 2 == 0:
                raise OrderError(f"{where} has an escape without its end. Correct the message.")
            for place in range(1, len(pieces), 2):
                pieces[place] = self._escape(pieces[place], names, where)
            text = checked("".join(pieces), where)
        if self.guessed and not text.isascii():
            raise OrderError(
                f"{where} has letters beyond ASCII, but MSH-18 does not say in which character set. Fill "
                "MSH-18 (UNICODE UTF-8)."
            )
        return text

    def _escape(self, text: str, names: dict[str, str], where: str) -> str:
        if text in names:
            return names[text]
        if text[:1] == "X" and len(text) % 2 and _ESCAPE.fullmatch(text[1:]):
            try:
                return bytes.fromhex(text[1:]).decode(self.encoding)
            except UnicodeDecodeError:
                pass
        raise OrderError(f"{where} has an escape that is not known. Send the plain characters.")


def split_message(data: bytes) -> Message:
    """Return one HL7 message, also in an MLLP frame, in its parts. Raises `OrderError`."""
    if data.startswith(UTF_16):
        raise OrderError(
            "The message is in UTF-16. Send it in UTF-8, with UNICODE UTF-8 in MSH-18."
        )
    data = data.removeprefix(b"\xef\xbb\xbf").strip(b"\x0b\x1c \t\r\n")
    if b"\0" in data:
        raise OrderError("The message holds NUL characters. Send it without them.")
    if data.startswith((b"FHS", b"BHS")) or len(re.findall(rb"(?:^|[\r\n])MSH", data)) > 1:
        raise OrderError("This is a batch of several messages. Send each message by itself.")
    if not data.startswith(b"MSH") or len(data) < 9:
        raise OrderError("The message has no MSH segment at its beginning. Send a whole message.")
    separators = _separators(data)
    encoding, guessed = _encoding(data, separators)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise OrderError(
            f"The message is not in the character set that MSH-18 names ({encoding}). Correct MSH-18."
        ) from None
    lines = [line for line in re.split(r"\r\n|\r|\n", text) if line.strip()]
    for number, line in enumerate(lines, 1):
        if not re.match(rf"[A-Z][A-Z0-9]{{2}}(?:{re.escape(separators.field)}|$)", line):
            raise OrderError(
                f"Line {number} of the message begins with no name of a segment. Line ends inside of a "
                "field have to be escaped."
            )
    return Message(separators, tuple(lines), encoding, guessed)


def _separators(data: bytes) -> Separators:
    field = data[3:4].decode("latin-1")
    marks = data[4:].split(data[3:4], 1)[0].decode("latin-1")
    every = field + marks
    if (
        len(marks) not in (4, 5)  # the fifth, of 2.7, marks a truncation
        or len(set(every)) < len(every)
        or any(c.isalnum() or not c.isascii() or not c.isprintable() or c == " " for c in every)
    ):
        raise OrderError(
            "MSH-1 and MSH-2 do not name five different separators. Send the usual ones: MSH|^~\\&|."
        )
    component, repetition, escape, part = list(marks[:4])
    return Separators(field, component, repetition, escape, part=part)


def _encoding(data: bytes, separators: Separators) -> tuple[str, bool]:
    """Return Python's name of the encoding, and whether it is a guess."""
    fields = re.split(rb"[\r\n]", data, maxsplit=1)[0].split(separators.field.encode())
    named = fields[17].split(separators.repetition.encode())[0] if len(fields) > 17 else b""
    name = named.decode("latin-1").strip().upper()
    if name not in CHARSETS:
        raise OrderError("MSH-18 names a character set that is not known. Use UNICODE UTF-8.")
    if name in ("", "ASCII") and not data.isascii():
        return "latin-1", True  # names may have any letters, as they are dropped
    return CHARSETS[name], False
