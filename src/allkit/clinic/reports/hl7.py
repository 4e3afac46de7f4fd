"""A version 2.5.1 message ORU^R01."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from allkit.clinic.records import CaseReport, FieldResult, Identifier, PersonName
from allkit.clinic.reports.codes import AIAST, BLOOD_SMEAR, MARROW_SMEAR, SPECIMENS, Code
from allkit.clinic.reports.wording import PRELIMINARY_AI, RESEARCH_USE, slide_sentence, standing
from allkit.errors import AllkitError

__all__ = ["escaped", "hl7_of"]

_RESULT: Mapping[str, str] = {"preliminary": "P", "final": "F", "corrected": "C", "withdrawn": "C"}
"""OBR-25 (table 0123). It has no `withdrawn`; X would say that the order was cancelled, which it was not.
C says that something sent before is corrected, and OBX-11 says how."""

_OBSERVATION: Mapping[str, str] = {
    "preliminary": "P",
    "final": "F",
    "corrected": "C",
    "withdrawn": "W",
}
"""OBX-11 (table 0085) of what the reader said. W: sent before and wrong, for example for another patient."""

_MODEL = "P"
"""OBX-11 of what the model said: preliminary for ever."""

_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}

_OID = re.compile(r"(?:urn:oid:)?([0-2](?:\.(?:0|[1-9]\d*))+)", re.ASCII)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+", re.ASCII)


def hl7_of(
    report: CaseReport,
    *,
    sender: str = "ALLKIT",
    facility: str = "",
    receiver: str = "",
    receiving_facility: str = "",
) -> bytes:
    """Return the report as one message in UTF-8, each segment with a carriage return at its end.

    `sender` and `facility` stand in MSH-3 and MSH-4, `receiver` and `receiving_facility` in MSH-5 and
    MSH-6. The number of the order goes back in ORC-2 and OBR-2 as it came in. The same report gives the
    same bytes. Raises `AllkitError` where a date or a time of the report is none, or where it shows
    answers of a model that it does not name.
    """
    if report.model is None and (report.slide or any(f.verdict for f in report.fields)):
        raise AllkitError(
            f"The report {report.id!r} shows answers of a model that it does not name, so no message was "
            "written. Make the report again."
        )
    header = {
        3: escaped(sender),
        4: escaped(facility),
        5: escaped(receiver),
        6: escaped(receiving_facility),
        7: _time(report, report.made_at),
        9: "ORU^R01^ORU_R01",
        10: report.sha256[:20].upper(),
        11: "P",
        12: "2.5.1",
        18: "UNICODE UTF-8",
    }
    segments = ["MSH|^~\\&" + _segment("", header)[2:], *_about(report), *_observed(report)]
    segments.append(_specimen(report))
    return "".join(f"{segment}\r" for segment in segments).encode()


def escaped(text: str) -> str:
    r"""Return a text with HL7's separators and all control characters as escapes: `a\T\b`, `\X0D\`."""
    return "".join(
        _ESCAPES.get(c) or (f"\\X{ord(c):02X}\\" if c < " " or c == "\x7f" else c) for c in text
    )


def _free(text: str) -> str:
    """A formatted text (FT): line feeds as the command `.br`."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\\.br\\".join(escaped(line) for line in lines)


def _segment(name: str, fields: Mapping[int, str]) -> str:
    """The fields by their numbers, with nothing behind the last one that holds something."""
    filled = [number for number, value in fields.items() if value]
    return "|".join([name, *(fields.get(n, "") for n in range(1, max(filled, default=0) + 1))])


def _coded(code: Code, system: str) -> str:
    return f"{escaped(code.value)}^{escaped(code.words)}^{system}"


# ── patient, order, specimen ──────────────────────────────────────────────────────────────────


def _about(report: CaseReport) -> Iterator[str]:
    identifiers = [_identifier(one, inner="&", before="^^^") for one in report.patient_identifiers]
    identifiers.append(f"{escaped(report.patient)}^^^ALLKIT^ANON")
    # PID-5 must not be empty; S is a name that was coded so that nobody knows whose it is.
    yield _segment("PID", {1: "1", 3: "~".join(identifiers), 5: "^^^^^^S"})
    placer = _identifier(report.order, inner="^", before="^") if report.order else ""
    filler = f"{escaped(report.case)}^ALLKIT"
    yield _segment("ORC", {1: "RE", 2: placer, 3: filler})
    signer = report.signer
    yield _segment(
        "OBR",
        {
            1: "1",
            2: placer,
            3: filler,
            4: _subject(report),
            7: _time(report, report.specimen.collected),
            22: _time(report, report.made_at),
            24: "HM",
            25: _RESULT[report.kind],
            32: f"{escaped(signer.name)}&{escaped(signer.display)}" if signer else "",
        },
    )
    version = f"Report {report.id}, version {report.version}, SHA-256 {report.sha256}."
    yield from _notes(f"{RESEARCH_USE}.", version, standing(report))


def _identifier(one: Identifier, *, inner: str, before: str) -> str:
    """A number with who gave it: a name, an OID or an address, each where HL7 has its place."""
    return f"{escaped(one.value)}{before}{_authority(one.issuer, inner)}".rstrip("^&")


def _authority(issuer: str, inner: str) -> str:
    if found := _OID.fullmatch(issuer):
        return inner.join(("", found[1], "ISO"))
    if _URI.fullmatch(issuer):
        return inner.join(("", escaped(issuer), "URI"))
    return escaped(issuer)


def _specimen(report: CaseReport) -> str:
    taken = report.specimen
    number = f"^{escaped(taken.number)}" if taken.number else ""
    return _segment(
        "SPM",
        {
            1: "1",
            2: number,
            4: _coded(SPECIMENS[taken.kind], "HL70487"),
            14: escaped(f"Stain: {taken.stain}") if taken.stain else "",
            17: _time(report, taken.collected),
        },
    )


# ── what was said ─────────────────────────────────────────────────────────────────────────────


def _observed(report: CaseReport) -> Iterator[str]:
    for number, (fields, notes) in enumerate((*_by_reader(report), *_by_model(report)), start=1):
        yield _segment("OBX", {1: str(number), **fields})
        yield from _notes(*notes)


Observed = tuple[dict[int, str], Sequence[str]]


def _by_reader(report: CaseReport) -> Iterator[Observed]:
    said = {
        11: _OBSERVATION[report.kind],
        16: _person(report.signer),
        19: _time(report, report.signed_at),
    }
    result = {2: "CWE", 3: _subject(report), 4: "1", 5: _class(report.result)}
    yield result | said, (report.comment,)
    code = _coded(Code("field-reading", "Reading of one field"), "L")
    for field in report.fields:
        if field.reader is not None:
            read = {2: "CWE", 3: code, 4: str(field.number), 5: _class(field.reader)}
            changed = "Changed by the reader." if field.changed else ""
            yield read | said, (f"Field: {field.name}", changed, field.why)


def _subject(report: CaseReport) -> str:
    """What the report and the reader's result are about; LOINC's code is of blood only."""
    if report.specimen.kind == "blood":
        return _coded(BLOOD_SMEAR, "LN")
    return _coded(MARROW_SMEAR, "L")


def _by_model(report: CaseReport) -> Iterator[Observed]:
    model, slide = report.model, report.slide
    if model is None:
        return
    said = {
        11: "W" if report.kind == "withdrawn" else _MODEL,
        17: _coded(AIAST, "L"),
        18: escaped(model.sha256),
    }
    warning = f"{PRELIMINARY_AI}. {RESEARCH_USE}."
    if report.kind == "withdrawn":
        warning += " It belongs to a report that was withdrawn: do not use it."
    sure = "probability" if model.calibrated else "score"
    yield _text("model", "1", f"{model.name} {model.version}") | said, (warning, *model.limits)
    if slide is not None:
        label = slide.label if slide.verdict == "accepted" else None
        notes = (warning, slide_sentence(slide), *slide.reasons)
        yield _answer("slide-answer", f"{PRELIMINARY_AI} for the slide", "1", label) | said, notes
        yield _text("slide-verdict", "1", slide.verdict) | said, ()
        yield from _number(f"slide-{sure}", "1", slide.probability, said)
        if slide.coarse:
            words = f"{slide.coarse} ({slide.coarse_verdict or 'no verdict'})"
            yield _text("slide-group", "1", words) | said, ()
            yield from _number(f"slide-group-{sure}", "1", slide.coarse_probability, said)
    for field in report.fields:
        yield from _field(field, said, sure, warning)


def _field(field: FieldResult, said: dict[int, str], sure: str, warning: str) -> Iterator[Observed]:
    part = str(field.number)
    label = field.label if field.verdict == "accepted" else None
    answer = _answer("field-answer", f"{PRELIMINARY_AI} for one field", part, label)
    yield answer | said, (warning, f"Field: {field.name}", *field.reasons)
    yield _text("field-verdict", part, field.verdict or "no answer") | said, ()
    yield _text("field-image-sha256", part, field.sha256) | said, ()
    yield from _number(f"field-{sure}", part, field.probability, said)


def _answer(code: str, words: str, part: str, label: str | None) -> dict[int, str]:
    return {2: "CWE", 3: _coded(Code(code, words), "L"), 4: part, 5: _class(label)}


def _text(code: str, part: str, value: str) -> dict[int, str]:
    return {2: "ST", 3: _coded(Code(code, code), "L"), 4: part, 5: escaped(value)}


def _number(code: str, part: str, value: float | None, said: dict[int, str]) -> Iterator[Observed]:
    if value is not None:
        number = f"{value:.6f}".rstrip("0").rstrip(".")
        yield {2: "NM", 3: _coded(Code(code, code), "L"), 4: part, 5: number} | said, ()


def _class(label: str | None) -> str:
    """A class as a coded value of our own (table `L`), or nothing."""
    return "" if label is None else _coded(Code(label, label), "L")


def _notes(*texts: str) -> Iterator[str]:
    for number, text in enumerate((text for text in texts if text), start=1):
        yield _segment("NTE", {1: str(number), 2: "L", 3: _free(text)})


def _person(who: PersonName | None) -> str:
    return "" if who is None else f"{escaped(who.name)}^{escaped(who.display)}"


def _time(report: CaseReport, time: str | None) -> str:
    """`20260131091500+0000` for a time in UTC, `20260131` for a date, nothing for nothing."""
    if not time:
        return ""
    day, second = r"\d{4}-\d\d-\d\d", r"T\d\d:\d\d:\d\d(\.\d+)?Z"
    with suppress(ValueError):  # the 31st of February has the form of a date
        datetime.fromisoformat(time)
        if re.fullmatch(day, time, re.ASCII):
            return time.replace("-", "")
        if re.fullmatch(day + second, time, re.ASCII):
            return re.sub(r"[-:T]", "", time[:19]) + "+0000"
    raise AllkitError(
        f"The report {report.id!r} holds the time {time!r}, which a message cannot carry. Expected is a "
        "date such as 2026-01-31 or a time in UTC such as 2026-01-31T09:15:00Z. Correct the case."
    )
