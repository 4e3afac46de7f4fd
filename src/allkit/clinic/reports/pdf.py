"""The A4 page for people: what stands in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from allkit.clinic.records import CaseReport, FieldResult
from allkit.clinic.reports import sheet as paper
from allkit.clinic.reports.glyphs import missing_glyphs
from allkit.clinic.reports.sheet import CONTENT, LEFT, Cell, Sheet, Style
from allkit.clinic.reports.wording import (
    GROUP_OPEN,
    MARROW,
    PRELIMINARY_AI,
    RESEARCH_USE,
    UNREAD,
    basis_sentence,
    counts,
    display,
    field_model,
    field_reader,
    identifier,
    kind_words,
    known_group,
    made,
    moment,
    person,
    probability,
    result_words,
    slide_headline,
    slide_sentence,
    standing,
    thumbnail_order,
)
from allkit.errors import AllkitError
from allkit.images.decode import read_image
from allkit.shown.text import shortened

__all__ = ["missing_glyphs", "pdf_of"]

_TITLES = {"blood": "Blood smear report", "marrow": "Bone marrow smear report"}
_KINDS = {
    "preliminary": (146, 84, 0),
    "final": paper.INK,
    "corrected": paper.ACCENT,
    "withdrawn": paper.ALARM,
}
"""No colour here is one of a class: green and red would look like benign and malignant."""
_SMALL = Style(7.5)
_TINY = Style(6.5, colour=paper.GREY)
_LABEL = Style(7.5, colour=paper.GREY)
_HEAD = Style(7, bold=True, colour=paper.GREY)
_THUMBNAILS = 6
_SIDE, _GUTTER = 27.5, 3.0


def pdf_of(
    report: CaseReport,
    *,
    image_of: Callable[[str], bytes],
    fonts: Sequence[str | Path] | None = None,
) -> bytes:
    """Return the report as a PDF: A4, the same bytes for the same report and images.

    `image_of` gives the bytes of an image file by their SHA-256; a file that cannot be had or read
    becomes a box that says so. `fonts` are files (TrueType or OpenType) asked for what DejaVu Sans lacks;
    a character without a glyph is printed as its escape, `\\u4e2d`. Raises `ConfigError` where fpdf2 is
    missing or a font cannot be read.
    """
    sheet = Sheet(fonts, made=made(report), start=lambda page: _running_head(page, report))
    kind = _TITLES[report.specimen.kind]
    sheet.pdf.set_title(f"{kind}, {kind_words(report).lower()}")
    sheet.pdf.set_subject(RESEARCH_USE)
    sheet.pdf.set_creator("allkit")
    sheet.pdf.set_lang("en")
    _result(sheet, report)
    _about(sheet, report)
    _counts(sheet, report)
    _pictures(sheet, report, image_of)
    if report.comment:
        _section(sheet, "Comment of the reader")
        sheet.row(Cell(LEFT, CONTENT, report.comment, Style(9)), gap=2)
    _fields(sheet, report)
    _machine(sheet, report)
    _signature(sheet, report)
    return sheet.finish(lambda page, number, pages: _foot(page, report, f"{number} of {pages}"))


def _running_head(sheet: Sheet, report: CaseReport) -> None:
    if report.kind == "withdrawn":
        sheet.across("WITHDRAWN", (249, 222, 223))
    if len(sheet.pdf.pages) == 1:
        _head(sheet, report)
        return
    left = f"{_TITLES[report.specimen.kind]} · patient {shortened(report.patient, 48)}"
    sheet.put(Cell(LEFT, 125, left, _LABEL), sheet.y)
    right = Style(7.5, bold=True, colour=_KINDS[report.kind])
    sheet.put(Cell(LEFT + 126, 54, kind_words(report), right, align="R"), sheet.y)
    sheet.y += 5
    sheet.rule()
    sheet.y += 3


def _head(sheet: Sheet, report: CaseReport) -> None:
    sheet.put(Cell(LEFT, 112, _TITLES[report.specimen.kind], Style(18, bold=True)), sheet.y)
    sheet.box(LEFT + 126, sheet.y + 0.4, width=54, height=7.6, fill=_KINDS[report.kind])
    words = Style(9.5, bold=True, colour=(255, 255, 255))
    sheet.put(Cell(LEFT + 127, 52, kind_words(report), words, align="C"), sheet.y + 2)
    sheet.y += 10
    version = f"version {report.version}  ·  made {moment(report.made_at)}"
    about = f"Case {shortened(report.case, 40)}  ·  {version}"
    sheet.put(Cell(LEFT, 128, about, _LABEL), sheet.y)
    use = Style(7.5, bold=True, colour=paper.ALARM)
    sheet.put(Cell(LEFT + 129, 51, RESEARCH_USE, use, align="R"), sheet.y)
    sheet.y += 5
    sheet.rule(paper.INK)
    sheet.y += 4


def _section(sheet: Sheet, title: str, room: float = 14.0) -> None:
    sheet.need(room + 8)
    sheet.y += 3
    sheet.put(Cell(LEFT, CONTENT, title, Style(10, bold=True, colour=paper.ACCENT)), sheet.y)
    sheet.y += 6


def _result(sheet: Sheet, report: CaseReport) -> None:
    colour = _KINDS[report.kind]
    top, page = sheet.y, len(sheet.pdf.pages)
    sheet.put(Cell(LEFT + 4, CONTENT, "RESULT OF THE READER", _HEAD), sheet.y)
    sheet.y += 4.6
    sheet.row(Cell(LEFT + 4, CONTENT - 6, result_words(report), Style(13, bold=True)), gap=0.8)
    if text := standing(report):
        sheet.row(Cell(LEFT + 4, CONTENT - 6, text, Style(8.5, bold=True, colour=colour)), gap=0.8)
    if basis := basis_sentence(report):
        sheet.row(Cell(LEFT + 4, CONTENT - 6, basis, Style(9)), gap=0.4)
    if report.signer is not None:
        signed = f"Signed by {person(report.signer)}, {moment(report.signed_at)}"
        sheet.row(Cell(LEFT + 4, CONTENT - 6, signed, _LABEL), gap=0.4)
    if len(sheet.pdf.pages) == page:  # a reason of several pages gets no bar
        sheet.box(LEFT, top, 1.4, sheet.y - top, fill=colour)
    sheet.y += 4


def _about(sheet: Sheet, report: CaseReport) -> None:
    specimen = report.specimen
    left = [("Patient", report.patient)]
    left += [("Identifier", identifier(one)) for one in report.patient_identifiers]
    left += [("Order", identifier(report.order))]
    right = [
        ("Specimen", {"blood": "Peripheral blood", "marrow": "Bone marrow"}[specimen.kind]),
        ("Collected", specimen.collected or "–"),
        ("Stain", specimen.stain or "–"),
        ("Number", specimen.number or "–"),
    ]
    sheet.rule()
    sheet.y += 1.6
    for number in range(max(len(left), len(right))):
        cells = []
        for x, column in ((LEFT, left), (LEFT + 94, right)):
            if number < len(column):
                key, value = column[number]
                bold = key in ("Patient", "Specimen")
                cells += [Cell(x, 22, key, _LABEL), Cell(x + 22, 64, value, Style(8.5, bold))]
        sheet.row(*cells, gap=0.8)
    sheet.y += 0.8
    sheet.rule()


def _counts(sheet: Sheet, report: CaseReport) -> None:
    _section(sheet, "Fields by class", room=30)
    found = counts(report)
    places = ((LEFT + 92, 26), (LEFT + 122, 26), (LEFT + 152, 26))

    def row(name: str, numbers: Sequence[object], style: Style) -> list[Cell]:
        first = Cell(LEFT + 2, 86, name, style)
        columns = zip(places, numbers, strict=True)
        return [first, *(Cell(x, wide, str(n), style, align="R") for (x, wide), n in columns)]

    # What nobody read stands in the row's name: the column of the reader counts readings alone.
    read = [n for n in found if n.name != UNREAD]
    rows = [
        row(display(n.name), [n.model or "–", n.reader or "–", n.changed or "–"], Style(8))
        for n in read
    ]
    if left := sum(n.reader for n in found if n.name == UNREAD):
        rows.append(row(f"Not read by a person: {left}", ["–", "–", "–"], Style(8)))
    sums = [
        sum(n.model for n in found),
        sum(n.reader for n in read),
        sum(n.changed for n in found),
    ]
    rows.append(row("Fields", sums, Style(8.5, bold=True)))
    titles = row("Class", ["Model (AI)", "Reader", "Changed to it"], _HEAD)
    sheet.table(titles, rows, last=True)
    sheet.y += 1


def _pictures(sheet: Sheet, report: CaseReport, image_of: Callable[[str], bytes]) -> None:
    chosen = thumbnail_order(report.fields)[:_THUMBNAILS]
    if not chosen:
        return
    title = f"{len(chosen)} of {len(report.fields)} fields" if len(report.fields) > 1 else "Field"
    _section(sheet, title, room=_SIDE + 14)
    for number, field in enumerate(chosen):
        x = LEFT + number * (_SIDE + _GUTTER)
        _picture(sheet, field, x, image_of)
        read = Style(6.5, bold=True, colour=paper.ALARM) if field.changed else _TINY
        captions = (
            (f"{field.number}  {field.name}", Style(6.5, bold=True)),
            (f"AI: {field_model(field)}", _TINY),
            (f"{'Now:' if field.changed else 'Reader:'} {display(field.reader or '–')}", read),
        )
        for line, (text, style) in enumerate(captions):
            sheet.put(Cell(x, _SIDE, text, style), sheet.y + _SIDE + 0.8 + 3 * line)
    sheet.y += _SIDE + 11


def _picture(sheet: Sheet, field: FieldResult, x: float, image_of: Callable[[str], bytes]) -> None:
    sheet.box(x, sheet.y, width=_SIDE, height=_SIDE, fill=paper.PALE)
    try:
        pixels = read_image(image_of(field.sha256))
    except (AllkitError, OSError, LookupError):
        for line, text in enumerate(("This image", "cannot be read.")):
            sheet.put(
                Cell(x + 1, _SIDE - 2, text, _LABEL, align="C"), sheet.y + _SIDE / 2 - 4 + 4 * line
            )
        return
    sheet.picture(pixels, x, sheet.y, side=_SIDE)


def _fields(sheet: Sheet, report: CaseReport) -> None:
    _section(sheet, "All fields")
    calibrated = report.model is not None and report.model.calibrated
    columns = (
        ("No.", 2, 8, "R"),
        ("Field", 13, 43, "L"),
        ("Model (AI)", 59, 33, "L"),
        ("Probability" if calibrated else "Score", 92, 17, "R"),
        ("Reader", 113, 28, "L"),
        ("Reasons and remarks", 143, 36, "L"),
    )
    heading = [Cell(LEFT + x, wide, title, _HEAD, align=how) for title, x, wide, how in columns]
    rows = []
    for field in report.fields:
        remarks = "; ".join(part for part in (field.why, *field.reasons) if part) or "–"
        texts = (
            str(field.number),
            field.name,
            field_model(field),
            probability(field.probability),
            field_reader(field),
            remarks,
        )
        style = Style(7.5, bold=field.changed)
        rows.append(
            [
                Cell(LEFT + x, wide, text, style if title == "Reader" else _SMALL, align=how)
                for (title, x, wide, how), text in zip(columns, texts, strict=True)
            ]
        )
    if rows:
        sheet.table(heading, rows)
    else:
        sheet.row(Cell(LEFT, CONTENT, "The case has no fields.", _SMALL))
    if not calibrated and report.model is not None:
        note = "This model is not calibrated: a score is no probability."
        sheet.y += 1
        sheet.row(Cell(LEFT, CONTENT, note, _TINY))
    sheet.y += 1


def _pair(sheet: Sheet, key: str, value: str) -> None:
    sheet.row(Cell(LEFT, 32, key, _LABEL), Cell(LEFT + 34, CONTENT - 34, value, _SMALL), gap=0.7)


def _machine(sheet: Sheet, report: CaseReport) -> None:
    _section(sheet, "Model (artificial intelligence)", room=22)
    model, slide = report.model, report.slide
    if slide is not None:
        _pair(sheet, PRELIMINARY_AI, slide_headline(report))
        if slide.coarse:
            sure = probability(slide.coarse_probability)
            told = f"{slide.coarse} ({slide.coarse_verdict or 'no verdict'}), probability {sure}"
            _pair(sheet, "Group of classes", told)
            if slide.verdict == "accepted" and known_group(slide) is None:
                _pair(sheet, "", GROUP_OPEN)
        _pair(sheet, "Class", slide_sentence(slide))
        for reason in slide.reasons:
            _pair(sheet, "Reason", reason)
        _pair(
            sheet,
            "Standing",
            "This answer stays preliminary; it is no part of the reader's result.",
        )
    if model is None:
        _pair(sheet, "Model", "none; no model has answered for this report")
        return
    _pair(sheet, "Model", f"{model.name} {model.version}")
    _pair(sheet, "SHA-256 of the model", model.sha256)
    _pair(sheet, "Classes", ", ".join(map(display, model.classes)))
    if report.specimen.kind == "marrow":
        _pair(sheet, "Marrow", MARROW)
    _pair(sheet, "Calibrated", "yes" if model.calibrated else "no: scores are no probabilities")
    for number, limit in enumerate(model.limits):
        _pair(sheet, "" if number else "Limits", f"– {limit}")


def _signature(sheet: Sheet, report: CaseReport) -> None:
    _section(sheet, "Signature", room=34)
    if report.second_reader is not None:
        kappa = (
            ""
            if report.agreement is None
            else f"; agreement (Cohen's kappa) {report.agreement:.2f}"
        )
        _pair(sheet, "Second reader", person(report.second_reader) + kappa)
    if report.signer is None:
        _pair(sheet, "Signed by", "not signed")
    else:
        _pair(sheet, "Signed by", f"{person(report.signer)}, {moment(report.signed_at)}")
    if report.readings_sha256:
        _pair(sheet, "SHA-256 of readings", report.readings_sha256)
    sheet.need(16)
    sheet.y += 9
    sheet.rule(paper.INK, width=76)
    sheet.rule(paper.INK, x=LEFT + 104, width=76)
    sheet.y += 0.8
    sheet.put(Cell(LEFT, 76, "Signature on paper, where it is asked for", _TINY), sheet.y)
    sheet.put(Cell(LEFT + 104, 76, "Date", _TINY), sheet.y)
    sheet.y += 4


def _foot(sheet: Sheet, report: CaseReport, page: str) -> None:
    sheet.y = 281.5
    sheet.rule()
    bold = Style(6.5, bold=True, colour=paper.ALARM)
    sheet.put(Cell(LEFT, 60, RESEARCH_USE, bold), 282.6)
    middle = f"Report {shortened(report.id, 40)} · version {report.version}"
    sheet.put(Cell(LEFT + 60, 80, middle, _TINY, align="C"), 282.6)
    sheet.put(Cell(LEFT + 140, 40, f"Page {page}", _TINY, align="R"), 282.6)
    sheet.put(Cell(LEFT, CONTENT, f"SHA-256 of this report: {report.sha256}", _TINY), 286)
