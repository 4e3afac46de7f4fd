"""The one page for the bench as a PDF, made from the page of the documentation that says the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from allkit.clinic.reports.sheet import (
    ACCENT,
    ALARM,
    CONTENT,
    GREY,
    INK,
    LEFT,
    Cell,
    Sheet,
    Style,
)
from workplace.texts import texts

__all__ = ["bench_sheet", "page_of"]

APP = Path(__file__).parent
NAMES = {"en": "bench-sheet.md", "de": "bench-sheet.de.md"}
MADE = datetime(2026, 1, 1, tzinfo=UTC)
"""Stands in the file in place of the day, so that the same page gives the same bytes."""
TEXT, HEAD = Style(8.9), Style(7.6, bold=True, colour=GREY)
FIRST = Style(8.9, bold=True)
GAP = 4.0
WIDTHS = {2: (0.3, 0.7), 3: (0.25, 0.39, 0.36), 4: (0.13, 0.4, 0.1, 0.37)}
"""Shares of the width that the columns of a table get, by their number."""

Row = list[str]
Block = str | list[Row]


def page_of(language: str) -> str:
    """Return the page as Markdown; in English where there is none in a language."""
    name = NAMES.get(language, NAMES["en"])
    # In a package the pages lie beside the texts; in a copy of the repository they are the docs'.
    places = (APP / "texts" / name, APP.parents[1] / "docs" / "how-to" / name)
    return next(path for path in places if path.exists()).read_text("utf-8")


def bench_sheet(language: str) -> bytes:
    """Return the page for the bench as a PDF of one sheet of A4."""
    say = texts(language if language in NAMES else "en")
    sheet = Sheet(None, made=MADE, start=lambda page: None)
    sheet.pdf.set_lang(say.language)
    sheet.pdf.set_creator("allkit")
    for block in blocks_of(page_of(language)):
        if isinstance(block, list):
            _table(sheet, block)
        elif block.startswith("# "):
            sheet.pdf.set_title(block[2:])
            sheet.put(Cell(LEFT, CONTENT, block[2:], Style(17, bold=True)), sheet.y)
            sheet.y += 9
        elif block.startswith("## "):
            sheet.y += 1.8
            sheet.put(
                Cell(LEFT, CONTENT, block[3:], Style(10.5, bold=True, colour=ACCENT)), sheet.y
            )
            sheet.y += 5.8
        elif block.startswith("- "):
            point, told = (
                Cell(LEFT, GAP, "•", TEXT),
                Cell(LEFT + GAP, CONTENT - GAP, block[2:], TEXT),
            )
            sheet.row(point, told, gap=0.5)
        else:
            sheet.row(Cell(LEFT, CONTENT, block, Style(9.5, bold=True, colour=ALARM)), gap=1)
    return sheet.finish(lambda page, number, pages: _foot(page, say("frame.research_use")))


def blocks_of(page: str) -> Iterator[Block]:
    """Yield headings, points and paragraphs as they are written, and tables as rows of cells."""
    for part in re.split(r"\n\s*\n", page.strip()):
        lines = part.splitlines()
        if part.startswith("|"):
            rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
            yield [rows[0], *rows[2:]]  # the second line only separates
        elif part.startswith("- "):
            yield from lines
        else:
            yield " ".join(lines)


def _table(sheet: Sheet, rows: Sequence[Row]) -> None:
    shares = WIDTHS[len(rows[0])]
    places = [LEFT + 1 + CONTENT * sum(shares[:at]) for at in range(len(shares))]
    cells = [
        [
            Cell(x, CONTENT * share - GAP, text, style)
            for x, share, text, style in zip(places, shares, row, _styles(row, line), strict=True)
        ]
        for line, row in enumerate(rows)
    ]
    sheet.table(cells[0], cells[1:])


def _styles(row: Row, line: int) -> list[Style]:
    """Return the style of each cell: what a row is about, its first of two or three cells, is bold."""
    if not line:
        return [HEAD] * len(row)
    return [FIRST if at == 0 or (len(row) == 4 and at == 2) else TEXT for at in range(len(row))]


def _foot(sheet: Sheet, words: str) -> None:
    sheet.y = 283
    sheet.rule(INK)
    sheet.put(Cell(LEFT, CONTENT, f"allkit  ·  {words}", Style(7, bold=True, colour=ALARM)), 284.5)
