"""CSV and Excel of a report, and the list of formats."""

import csv
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import openpyxl
import pytest

from allkit.clinic.records import Identifier
from allkit.clinic.reports.formats import FORMATS, render
from allkit.clinic.reports.tables import csv_of, xlsx_of
from allkit.errors import AllkitError, ConfigError
from allkit.shown.text import guarded
from clinic_reports import HOSTILE, a_field, a_report, png

ROOT = Path(__file__).parents[1]
FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "'=1", "\n=1")


def rows(report):
    text = csv_of(report).decode("utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def sheets(report):
    book = openpyxl.load_workbook(io.BytesIO(xlsx_of(report)))
    return {page.title: [[cell.value for cell in row] for row in page] for page in book}


# ── the formats ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "sr"])
@pytest.mark.parametrize("kind", ["preliminary", "withdrawn"])
def test_every_format_gives_the_same_bytes_again(name, kind):
    report = a_report(kind, 2)
    again = type(report).from_json(report.to_json())
    assert render(report, name, image_of=png) == render(again, name, image_of=png)


def test_the_formats_have_a_suffix_and_a_media_type_each():
    assert list(FORMATS) == ["pdf", "csv", "xlsx", "fhir", "hl7", "sr"]
    assert len({form.suffix for form in FORMATS.values()}) == len(FORMATS)
    assert all(form.suffix.startswith(".") and "/" in form.media_type for form in FORMATS.values())


def test_an_unknown_format_is_answered_with_those_there_are():
    with pytest.raises(AllkitError, match=r"Did you mean 'xlsx'\? The formats are pdf, csv, xlsx"):
        render(a_report(), "xls", image_of=png)


@pytest.mark.parametrize(
    ("name", "module"),
    [("pdf", "fpdf"), ("xlsx", "openpyxl"), ("fhir", "fhir.resources.R4B.bundle")],
)
def test_a_library_that_is_missing_is_named_with_the_command_that_brings_it(
    name, module, monkeypatch
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"pip install 'allkit\[clinic\]'"):
        render(a_report(), name, image_of=png)


SEEDED = """
import hashlib
from allkit.clinic.reports.formats import FORMATS, render
from clinic_reports import a_report, png
for name in FORMATS:
    if name != "sr":
        data = render(a_report("withdrawn", 8), name, image_of=png)
        print(name, hashlib.sha256(data).hexdigest())
"""


@pytest.mark.slow
def test_another_process_in_another_time_zone_gives_the_same_bytes():
    variables = {**os.environ, "PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo"}
    variables["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        [sys.executable, "-c", SEEDED], env=variables, cwd=ROOT, capture_output=True, text=True,
        check=True, timeout=60,
    )  # fmt: skip
    here = {
        name: hashlib.sha256(render(a_report("withdrawn", 8), name, image_of=png)).hexdigest()
        for name in FORMATS
        if name != "sr"
    }
    assert dict(line.split() for line in done.stdout.splitlines()) == here


@pytest.mark.parametrize("name", ["pdf", "xlsx", "fhir", "hl7"])
def test_a_report_whose_time_is_none_is_refused_by_name(name):
    with pytest.raises(AllkitError, match="yesterday"):
        render(a_report(made_at="yesterday"), name, image_of=png)


# ── CSV ───────────────────────────────────────────────────────────────────────────────────────


def test_the_table_has_a_row_for_each_field_and_the_case_on_every_row():
    report = a_report("final", 9)
    found = rows(report)
    assert [row["field"] for row in found] == [str(n) for n in range(1, 10)]
    assert [row["reader_class"] for row in found] == [field.reader for field in report.fields]
    assert [row["model_class"] for row in found] == [field.label or "" for field in report.fields]
    assert {row["result"] for row in found} == {"Pre-B"}
    assert {row["kind"] for row in found} == {"final"}
    assert {row["report_sha256"] for row in found} == {report.sha256}
    assert {row["use"] for row in found} == {"Research use; not a diagnosis"}
    assert found[1]["changed"] == "yes"
    assert found[1]["why"] == "Nucleoli are seen."
    assert float(found[0]["probability"]) == report.fields[0].probability


def test_a_case_without_fields_still_has_its_row():
    (row,) = rows(a_report("preliminary", ()))
    assert row["field"] == ""
    assert row["patient"] == "P-7K4M-22QX"


def test_the_table_is_plain_utf8():
    data = csv_of(a_report(comment="", patient="Ünï 患者"))
    assert not data.startswith(b"\xef\xbb\xbf")
    assert "Ünï 患者" in data.decode("utf-8")


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_computes_nothing_of_a_table(text):
    report = a_report(
        "final", (a_field(1, name=text, why=text),), patient=text, order=Identifier(text, text)
    )
    (row,) = rows(report)
    for column in ("name", "why", "patient", "order", "order_issuer"):
        assert row[column].startswith("'")
        assert row[column][1:] == text.replace("\r", "\n")


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_a_text_holds_the_table_keeps_its_shape(name):
    value = HOSTILE[name]
    found = rows(a_report("final", (a_field(1, name=value), a_field(2)), patient=value))
    assert [row["field"] for row in found] == ["1", "2"]
    assert found[0]["use"] == "Research use; not a diagnosis"
    assert not set(found[0]["name"]) & {"\x00", "\x07", "\x1b", "\r", "\u202e", "\u2066"}


def test_a_text_without_danger_stays_as_it_is():
    assert guarded("smear-1 = good") == "smear-1 = good"


# ── Excel ─────────────────────────────────────────────────────────────────────────────────────


def test_the_workbook_has_a_row_for_each_field_and_a_sheet_with_the_case():
    report = a_report("final", 9)
    found = sheets(report)
    assert list(found) == ["Fields", "Case"]
    assert [row[0] for row in found["Fields"][1:]] == list(range(1, 10))
    assert found["Fields"][1][5] == report.fields[0].probability
    case = {row[0]: row[1] for row in found["Case"]}
    assert case["Use"] == "Research use; not a diagnosis"
    assert (
        case["Result of the reader"]
        == "Blood smear: Pre-B, signed by Dr. M. Curie. 9 fields read by a person."
    )
    assert case["patient"] == report.patient
    assert case["comment"] == report.comment
    assert case["report_sha256"] == report.sha256
    assert case["preliminary AI answer"] == "accepted"


@pytest.mark.parametrize("text", [*FORMULAS, *HOSTILE.values()])
def test_no_cell_of_a_workbook_is_a_formula(text):
    report = a_report(
        "final", (a_field(1, name=text, why=text),), patient=text, order=Identifier(text, text),
        comment=text, result=text,
    )  # fmt: skip
    data = xlsx_of(report)
    book = openpyxl.load_workbook(io.BytesIO(data))
    cells = [cell for page in book for row in page for cell in row if cell.value is not None]
    assert {cell.data_type for cell in cells} <= {"s", "n"}
    assert all(cell.quotePrefix for cell in cells if cell.data_type == "s")
    with zipfile.ZipFile(io.BytesIO(data)) as parts:
        pages = [parts.read(name) for name in parts.namelist() if "/worksheets/" in name]
    assert pages
    assert not any(b"<f>" in page or b"hyperlink" in page for page in pages)


def test_a_text_that_is_too_long_for_excel_is_cut_with_a_remark():
    found = sheets(a_report(comment="y" * 40_000))
    comment = next(row[1] for row in found["Case"] if row[0] == "comment")
    assert comment.endswith("… [cut: 40000 characters; the CSV holds them all]")
    assert len(comment) < 32_767


def test_a_text_that_looks_like_a_character_code_of_excel_stays_a_text():
    data = xlsx_of(a_report(patient="_x0041_"))
    with zipfile.ZipFile(io.BytesIO(data)) as parts:
        assert b"_x005F_x0041_" in parts.read("xl/worksheets/sheet2.xml")


def test_a_workbook_holds_no_time_of_the_clock():
    with zipfile.ZipFile(io.BytesIO(xlsx_of(a_report()))) as parts:
        assert {entry.date_time for entry in parts.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        core = parts.read("docProps/core.xml")
    assert core.count(b"2026-01-31T09:15:00Z") == 2
