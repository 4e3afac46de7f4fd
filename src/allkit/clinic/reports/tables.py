"""CSV and Excel: one row a field, and the case."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from allkit.clinic.records import CaseReport, FieldResult
from allkit.clinic.reports.library import library
from allkit.clinic.reports.wording import (
    RESEARCH_USE,
    counts,
    identifier,
    made,
    person,
    result_sentence,
    standing,
)
from allkit.shown.text import guarded, printable

__all__ = ["csv_of", "xlsx_of"]

_LONGEST = 32_000
"""Characters of a cell in Excel: it takes 32,767, and openpyxl cuts without a word."""

Value = str | int | float | None

_FIELDS = (
    "field", "name", "image_sha256", "model_verdict", "model_class", "probability", "model_reasons",
    "reader_class", "changed", "why",
)  # fmt: skip
_CASE = (
    "report", "version", "kind", "made_at", "case", "patient", "order", "order_issuer", "specimen",
    "collected", "stain", "specimen_number", "result", "signed_by", "signed_at", "model",
    "model_version", "model_sha256", "calibrated", "report_sha256", "use",
)  # fmt: skip


def csv_of(report: CaseReport) -> bytes:
    """Return the report as CSV: UTF-8 without a byte-order mark, CRLF, one row a field.

    The columns of the case stand on every row, so that tables of many cases can be joined; a case without
    fields has one row. A text that a spreadsheet would compute has an apostrophe in front, see `guarded`.
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow((*_FIELDS, *_CASE))
    case = _case_values(report)
    for row in [_field_values(field) for field in report.fields] or [(None,) * len(_FIELDS)]:
        writer.writerow([_in_csv(value) for value in (*row, *case)])
    return file.getvalue().encode()


def _in_csv(value: Value) -> Value:
    return guarded(value) if isinstance(value, str) else value


def _field_values(field: FieldResult) -> tuple[Value, ...]:
    return (
        field.number, field.name, field.sha256, field.verdict, field.label, field.probability,
        "; ".join(field.reasons), field.reader, _yes(field.changed), field.why,
    )  # fmt: skip


def _case_values(report: CaseReport) -> tuple[Value, ...]:
    specimen, order, model = report.specimen, report.order, report.model
    return (
        report.id, report.version, report.kind, report.made_at, report.case, report.patient,
        order.value if order else None, order.issuer if order else None, specimen.kind,
        specimen.collected, specimen.stain, specimen.number, report.result,
        report.signer.name if report.signer else None, report.signed_at,
        model.name if model else None, model.version if model else None,
        model.sha256 if model else None, _yes(model.calibrated) if model else None, report.sha256,
        RESEARCH_USE,
    )  # fmt: skip


def _yes(said: bool) -> str:
    return "yes" if said else "no"


# ── Excel ─────────────────────────────────────────────────────────────────────────────────────


def xlsx_of(report: CaseReport) -> bytes:
    """Return the report as a workbook with the sheets Fields and Case.

    Every text is a text cell that stays one when it is edited: nothing is computed. A text of more than
    32,000 characters is cut with a remark; the CSV holds it whole. The same report gives the same bytes.
    Raises `ConfigError` where openpyxl is missing, and `AllkitError` where the time of the report is none.
    """
    openpyxl, styles = library("openpyxl"), library("openpyxl.styles")
    book = openpyxl.Workbook()
    time = made(report).astimezone(UTC).replace(tzinfo=None)
    book.properties.creator, book.properties.title = "allkit", RESEARCH_USE
    book.properties.created = book.properties.modified = time
    fields, case = book.active, book.create_sheet("Case")
    fields.title = "Fields"
    bold = styles.Font(bold=True)
    wrapped = styles.Alignment(wrap_text=True, vertical="top")

    def fill(page: Any, rows: Sequence[Sequence[Value]], widths: Sequence[int]) -> None:
        for number, row in enumerate(rows, start=1):
            for column, value in enumerate(row, start=1):
                cell = page.cell(row=number, column=column)
                if isinstance(value, str):
                    cell.value = _in_excel(value)
                    cell.data_type = "s"  # else a text that begins with = is a formula
                    cell.quotePrefix = True
                elif value is not None:
                    cell.value = value
                cell.alignment = wrapped
        for column, width in enumerate(widths, start=1):
            page.column_dimensions[openpyxl.utils.get_column_letter(column)].width = width

    table = [_FIELDS, *(_field_values(field) for field in report.fields)]
    fill(fields, table, (7, 30, 20, 14, 16, 11, 34, 16, 9, 34))
    for cell in fields[1]:
        cell.font = bold
    fields.freeze_panes = "A2"
    fill(case, list(_about(report)), (26, 20, 20, 20))
    for row in case.iter_rows(max_col=1):
        row[0].font = bold
    file = io.BytesIO()
    book.save(file)
    return _timeless(file.getvalue(), time)


def _about(report: CaseReport) -> Iterator[tuple[Value, ...]]:
    yield ("Use", RESEARCH_USE)
    yield ("Result of the reader", result_sentence(report))
    yield ("Standing", standing(report) or "the first signed version")
    yield from zip(_CASE[:-1], _case_values(report)[:-1], strict=True)
    for one in report.patient_identifiers:
        yield ("patient identifier", identifier(one))
    yield ("comment", report.comment)
    yield ("reason", report.reason)
    yield ("replaces version", report.replaces)
    yield ("second reader", person(report.second_reader))
    yield ("agreement (Cohen's kappa)", report.agreement)
    yield ("readings_sha256", report.readings_sha256)
    yield from _of_the_model(report)
    yield ("Class", "Model (AI)", "Reader", "Changed to it")
    for count in counts(report):
        yield tuple(count)


def _of_the_model(report: CaseReport) -> Iterator[tuple[Value, ...]]:
    if report.slide is not None:
        slide = report.slide
        yield ("preliminary AI answer", slide.verdict, slide.label, slide.probability)
        yield ("fields it rests on", slide.used, "of", slide.fields)
        yield ("group of classes", slide.coarse_verdict, slide.coarse, slide.coarse_probability)
        yield from (("reason of the model", reason) for reason in slide.reasons)
    if report.model is not None:
        yield from (("limit of the model", limit) for limit in report.model.limits)


def _in_excel(text: str) -> str:
    shown = printable(text)
    if len(shown) > _LONGEST:
        shown = f"{shown[:_LONGEST]}… [cut: {len(shown)} characters; the CSV holds them all]"
    # The format reads _x0041_ as a character's number.
    return re.sub(r"_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", shown)


def _timeless(book: bytes, time: datetime) -> bytes:
    """The same workbook with the report's time where the library writes the clock's."""
    stamp = time.isoformat(timespec="seconds") + "Z"
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "docProps/core.xml":
                data = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + stamp.encode(), data)
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 0  # else the bytes tell the operating system
            new.writestr(entry, data)
    return file.getvalue()
