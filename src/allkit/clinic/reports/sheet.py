"""The sheet of paper: fonts, flow over pages, rows, images."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt

from allkit.clinic.reports.glyphs import BOLD, REGULAR, glyphs_of, typeset
from allkit.clinic.reports.library import library
from allkit.shown.text import one_line

__all__ = [
    "ACCENT",
    "ALARM",
    "CONTENT",
    "GREY",
    "INK",
    "LEFT",
    "LINE",
    "PALE",
    "Cell",
    "Sheet",
    "Style",
]

Colour = tuple[int, int, int]

INK: Colour = (26, 32, 38)
GREY: Colour = (98, 108, 118)
LINE: Colour = (206, 212, 218)
PALE: Colour = (243, 245, 247)
ACCENT: Colour = (22, 78, 110)
ALARM: Colour = (176, 28, 36)

LEFT, TOP, CONTENT = 15.0, 12.0, 180.0
"""Millimetres of an A4 sheet: the left edge, the upper one, and the width between the edges."""
BOTTOM = 278.0

_POINT = 25.4 / 72
_PICTURE = 330
"""Pixels of the longer side of a picture in the report: 300 a inch at 28 mm."""


class Style(NamedTuple):
    """How a text is set: points, weight, colour."""

    size: float = 8.5
    bold: bool = False
    colour: Colour = INK

    @property
    def height(self) -> float:
        """The height of a line in millimetres."""
        return self.size * _POINT * 1.32


class Cell(NamedTuple):
    """A text in a column: the left edge and the width in millimetres, and `L` or `R`."""

    x: float
    width: float
    text: str
    style: Style = Style()
    align: str = "L"


class Sheet:
    """A4 pages on which texts flow downwards; `y` is the next free millimetre of the page.

    Texts are set as they are: no markup, no links, no field codes. Characters without a picture are
    written as their escapes. `fonts` are asked for what DejaVu Sans lacks. `start` is called on each new
    page, before anything is set on it.
    """

    def __init__(
        self, fonts: Sequence[str | Path] | None, *, made: datetime, start: Callable[[Sheet], None]
    ) -> None:
        self._known = glyphs_of(fonts)  # refuses a file that is no font
        fpdf = library("fpdf")
        pdf = fpdf.FPDF(format="A4")
        pdf.set_creation_date(made)
        pdf.set_auto_page_break(False)
        pdf.c_margin = 0
        pdf.alias_nb_pages("")  # else a user's text `{nb}` would become the number of pages
        pdf.add_font("sheet", "", REGULAR)
        pdf.add_font("sheet", "B", BOLD)
        others = [f"other{number}" for number, _ in enumerate(fonts or ())]
        for name, path in zip(others, fonts or (), strict=True):
            pdf.add_font(name, "", path)
            pdf.add_font(name, "B", path)
        if others:
            pdf.set_fallback_fonts(others, exact_match=False)
        self.pdf: Any = pdf
        self.y = TOP
        self._start = start
        self._table: tuple[Cell, ...] = ()
        self.page()

    # ── pages ─────────────────────────────────────────────────────────────────────────────────

    def page(self) -> None:
        """Begin a page, with the heading of the table that goes on."""
        self.pdf.add_page()
        self.y = TOP
        self._start(self)
        if self._table:
            self._heading()

    def need(self, height: float) -> None:
        """Begin a page where fewer than `height` millimetres are left."""
        if self.y + height > BOTTOM:
            self.page()

    def finish(self, foot: Callable[[Sheet, int, int], None]) -> bytes:
        """Call `foot(sheet, page, pages)` for every page, and return the bytes of the file."""
        pages = len(self.pdf.pages)
        for number in range(1, pages + 1):
            self.pdf.page = number
            # The library believes the font and the colours of the last page to be set here too.
            self.pdf.current_font_is_set_on_page = False
            self.pdf.set_draw_color(1, 2, 3)
            self.pdf.set_fill_color(1, 2, 3)
            foot(self, number, pages)
        data = bytes(self.pdf.output())
        for font in self.pdf.fonts.values():  # the library leaves its files open
            font.ttfont.close()
        return data

    # ── texts ─────────────────────────────────────────────────────────────────────────────────

    def put(self, cell: Cell, y: float) -> None:
        """Set one line at a height; what is wider than its cell is cut, with `…` for the rest."""
        text = self.fit(cell.text, cell.width, cell.style)
        self._set(cell._replace(text=text), y)

    def _set(self, cell: Cell, y: float) -> None:
        self._use(cell.style)
        self.pdf.set_xy(cell.x, y)
        self.pdf.cell(cell.width, cell.style.height, cell.text, align=cell.align)

    def _use(self, style: Style) -> None:
        self.pdf.set_font("sheet", "B" if style.bold else "", style.size)
        self.pdf.set_text_color(*style.colour)

    def fit(self, text: str, width: float, style: Style) -> str:
        """Return one line that is not wider than `width`."""
        line = typeset(one_line(text[:600]), self._known)
        self._use(style)
        if self.pdf.get_string_width(line) <= width and len(text) <= 600:
            return line
        while line and self.pdf.get_string_width(line + "…") > width:
            line = line[: -1 - len(line) // 12]
        return line + "…"

    def lines(self, text: str, width: float, style: Style) -> list[str]:
        """Return the text broken into lines of a width."""
        self._use(style)
        shown = typeset(text, self._known)
        if "\n" not in shown and self.pdf.get_string_width(shown) <= width:
            return [shown]
        made: list[str] = self.pdf.multi_cell(width, 4, shown, dry_run=True, output="LINES")
        return made

    def row(self, *cells: Cell, gap: float = 0.0) -> None:
        """Set cells beside each other, each broken into lines; a row longer than a page flows on."""
        broken = [self.lines(c.text, c.width, c.style) for c in cells]
        height = max(cell.style.height for cell in cells)
        depth = max(len(lines) for lines in broken)
        if depth * height <= (BOTTOM - TOP) / 2:
            self.need(depth * height)
        for number in range(depth):
            self.need(height)
            for cell, lines in zip(cells, broken, strict=True):
                if number < len(lines):
                    # Texts of two sizes stand on one line.
                    lower = (height - cell.style.height) * 0.8
                    self._set(cell._replace(text=lines[number]), self.y + lower)
            self.y += height
        self.y += gap

    def table(
        self, heading: Sequence[Cell], rows: Sequence[Sequence[Cell]], last: bool = False
    ) -> None:
        """Set rows under a heading, which stands again on each new page; `last` sets off the last row."""
        self.need(18)
        self._table = tuple(heading)
        self._heading()
        for number, row in enumerate(rows):
            if last and number == len(rows) - 1:
                self.rule(INK)
            self.y += 0.65
            self.row(*row)
            self.y += 0.65
            self.rule()
        self._table = ()

    def _heading(self) -> None:
        height = self._table[0].style.height
        self.box(LEFT, self.y, CONTENT, height + 1.8, fill=PALE)
        for cell in self._table:
            self.put(cell, self.y + 0.9)
        self.y += height + 1.8

    # ── shapes ────────────────────────────────────────────────────────────────────────────────

    def box(self, x: float, y: float, width: float, height: float, *, fill: Colour) -> None:
        """Fill a rectangle."""
        self.pdf.set_fill_color(*fill)
        self.pdf.rect(x=x, y=y, w=width, h=height, style="F")

    def rule(self, colour: Colour = LINE, x: float = LEFT, width: float = CONTENT) -> None:
        """Draw a line across at the present height."""
        self.pdf.set_draw_color(*colour)
        self.pdf.set_line_width(0.2)
        self.pdf.line(x1=x, y1=self.y, x2=x + width, y2=self.y)

    def across(self, text: str, colour: Colour) -> None:
        """Write a word across the whole page, from the lower left to the upper right."""
        style = Style(88, bold=True, colour=colour)
        with self.pdf.rotation(52, x=105, y=148):
            self._set(Cell(0, 210, text, style, align="C"), 148 - style.height / 2)

    def picture(self, pixels: npt.NDArray[Any], x: float, y: float, side: float) -> None:
        """Set a picture, `(H, W, 3)` uint8 RGB, in the middle of a square of `side` millimetres."""
        image = library("PIL.Image")
        made = image.fromarray(pixels)
        made.thumbnail((_PICTURE, _PICTURE))
        file = io.BytesIO()
        made.save(file, format="JPEG", quality=90)
        scale = side / max(made.size)
        width, height = made.width * scale, made.height * scale
        left, top = x + (side - width) / 2, y + (side - height) / 2
        self.pdf.image(io.BytesIO(file.getvalue()), x=left, y=top, w=width, h=height)
