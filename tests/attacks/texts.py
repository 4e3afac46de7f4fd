"""Names, labels and errors that harm a spreadsheet, a page or a terminal: harmless in all that is written."""

from __future__ import annotations

import contextlib
import csv
import html.parser
import io
import itertools
import json
import os
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from allkit.cli import progress
from allkit.data.dataset import Dataset
from allkit.data.rows import Sample
from allkit.data.sources import FileSource
from allkit.errors import AllkitError
from allkit.records import CasePrediction, Prediction
from allkit.shown.html import page, paragraph, table
from allkit.volume.tables import encode, row_of
from attacks import Counts, Scale

TITLE = "Formulas and control characters in texts"

BEGINNINGS = (
    "=",
    "+",
    "-",
    "@",
    "＝",
    "＋",
    "－",
    "＠",
    "\t=",
    "\r=",
    "\n=",
    " =",
    "'=",
    "\x1b[2J",
    "\u202e",
)
BODIES = ("cmd|' /C calc'!A0", "1+1", "SUM(A1)", 'HYPERLINK("x")', "")
SIGNS = (
    "\x07",
    "\x08",
    "\x1b]0;x\x07",
    "\x7f",
    "\x85",
    "\x9b2J",
    "\r",
    "\n",
    "\t",
    "\u2028",
    "\u2066",
    "\u200b",
)
PLAIN = (
    "a",
    "Benign",
    "患者 1",
    "пациент",
    "سلام\u200cها",
    "-1.5",
    "12",
    "it's",
    "a=b",
    "<b>x</b>",
    "a|b",
    "a\\x",
)
BYTES = ("a\udcff", "\udc9b2J")


def texts(scale: Scale) -> Iterator[str]:
    yield from PLAIN
    yield from BYTES
    for beginning, body in itertools.product(BEGINNINGS, BODIES):
        yield beginning + body
    for sign in SIGNS:
        yield from (f"a{sign}b", f"{sign}b", f"a{sign}=1+1")
    if scale == "long":
        for number in range(0x1000):
            yield from (f"a{chr(number)}b", f"{chr(number)}=1", f"={chr(number)}1")


def harmless_cell(text: str) -> bool:
    """Whether a cell is computed by no spreadsheet and moves no cursor."""
    with contextlib.suppress(ValueError):
        float(text)
        return True
    risky = (
        text.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
        or text[:1] in "\t\r\n"
    )
    return not (text and risky) and harmless_sign(text)


def harmless_sign(text: str, keep: str = "") -> bool:
    kept = f"\u200c\u200d{keep}"
    bad = ("Cc", "Cs", "Cf", "Zl", "Zp")
    return not any(c not in kept and unicodedata.category(c) in bad for c in text)


def in_answers(text: str) -> bool:
    """Write it as name, error, label, reason and class of an answer, in every form."""
    answer = Prediction(
        text, "review", (text,), label=text, probabilities={text: 1.0}, error=text, reason_codes=("x",),
        prediction_set=(text,), coarse=text,
    )  # fmt: skip
    unit = CasePrediction(
        text, "review", (text,), label=text, probabilities={text: 1.0}, coarse=text
    )
    good = True
    for one in (answer, unit):
        units = one is unit
        row = row_of(one, [text])
        written = encode([row], ".csv", [text], units=units)
        found = list(csv.reader(io.StringIO(written.decode(), newline="")))
        good &= all(harmless_cell(cell) for line in found for cell in line)
        lines = encode([row], ".jsonl", [text], units=units).decode()
        good &= lines.count("\n") == 1 and json.loads(lines) == row
        good &= harmless_sign(lines, "\n")
        if harmless_sign(text) and not units:  # the same file is found again
            name = dict(zip(*found, strict=True))["image"]
            good &= os.path.normpath(name) == os.path.normpath(text)
    return good


def _half(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)


def in_split(text: str, folder: Path) -> bool:
    """Write it as name, label, group, case and slide of a set; what is read again is the same."""
    name = text.replace("/", "_") + ".png"
    if "\0" in name or name.startswith("."):
        return True
    (folder / name).write_bytes(b"")
    try:
        samples = [Sample(name, FileSource(folder, name), "Pro", group=text, case=text, slide=text)]
        Dataset(samples).to_csv(folder / "split.csv")
        found = list(csv.reader((folder / "split.csv").open(newline="", encoding="utf-8")))
        (again,) = Dataset.open(folder / "split.csv")
        same = again.group == again.case == again.slide
        none = again.group is None and len(text.strip()) < 2
        one_form = unicodedata.normalize("NFKC", text.strip())  # wide letters are the usual ones
        stripped = again.group in (text.strip(), one_form) or none
        good = same and stripped and os.path.samefile(again.source.path, folder / name)
        return good and all(harmless_cell(cell) for line in found for cell in line)
    finally:
        (folder / name).unlink()


class _Page(html.parser.HTMLParser):
    tags: set[str]

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)


def on_page(text: str) -> bool:
    made = _page_of(text)
    return _tags_in(made) == _tags_in(_page_of("plain")) and harmless_sign(made, "\n\t")


def _page_of(text: str) -> str:
    return page(text, text, [paragraph(text), table([text], [[text, 1.0]])])


def _tags_in(made: str) -> set[str]:
    reader = _Page()
    reader.tags = set()
    reader.feed(made)
    return reader.tags


def on_terminal(text: str, encoding: str) -> bool:
    """Print it as a line, as an error and as JSON, on a terminal or pipe of an encoding."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        progress.ready_streams()
        progress.put(f"{text}\n")
        progress.say(f"Error: {text}")
        progress.put_json({"image": text})
    stream.flush()
    written = stream.buffer.getvalue().decode(encoding)
    value = json.loads(written[written.rindex('{"image') :])
    return harmless_sign(written, "\n\t") and value == {"image": text}


def in_reports(text: str) -> bool:
    """Write it as names, notes and numbers of a report of the clinic, as CSV and as a workbook."""
    import openpyxl

    from allkit.clinic.records import Identifier
    from allkit.clinic.reports.tables import csv_of, xlsx_of
    from clinic_reports import a_field, a_report

    if _half(text):
        return True  # the clinic takes no such text
    report = a_report(
        "final", (a_field(1, name=text, why=text),), patient=text, order=Identifier(text, text), comment=text
    )  # fmt: skip
    found = csv.reader(io.StringIO(csv_of(report).decode(), newline=""))
    good = all(
        harmless_sign(cell, "\n\t") and (harmless_cell(cell.replace("\n", " ").replace("\t", " ")))
        for line in found
        for cell in line
    )
    book = openpyxl.load_workbook(io.BytesIO(xlsx_of(report)))
    kinds = {cell.data_type for sheet in book for row in sheet for cell in row}
    return good and "f" not in kinds


def run(scale: Scale, folder: Path) -> dict[str, Counts]:
    """Write every text everywhere."""
    ways: dict[str, Callable[[str], bool]] = {
        "answers as CSV and JSON Lines": in_answers,
        "tables of a division, read again": lambda text: in_split(text, folder),
        "pages (HTML)": on_page,
        "CSV and Excel of the clinic": in_reports,
    }
    for encoding in ("utf-8", "cp1252", "ascii", "utf-16-le"):
        ways[f"terminal in {encoding}"] = lambda text, e=encoding: on_terminal(text, e)
    lines = {way: Counts() for way in ways}
    every = list(texts(scale))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for way, work in ways.items():
            counts = lines[way]
            slow = work is in_reports
            for text in every[:: 15 if slow and scale == "short" else 1][: 500 if slow else None]:
                try:
                    if work(text):
                        counts.right += 1
                    else:
                        counts.failed.append(f"{text!a} is not harmless")
                except AllkitError as error:
                    if harmless_sign(str(error), "\n\t"):
                        counts.refused += 1
                    else:
                        counts.failed.append(f"{text!a}: an error that holds it raw")
                except Exception as error:  # noqa: BLE001 - what is foreign is counted
                    counts.failed.append(f"{text!a}: {type(error).__name__}: {error!a}"[:200])
    return lines
