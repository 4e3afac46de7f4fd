"""A dense table: keys move between its rows, a click or Enter opens one, shares are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import streamlit as st

from workplace.components.sources import script, style

__all__ = ["Cell", "Column", "Row", "rows"]


@dataclass(frozen=True)
class Column:
    """A column: its name, what stands above it, and whether it holds numbers (`end` aligns them)."""

    name: str
    label: str
    end: bool = False


@dataclass(frozen=True)
class Cell:
    """What stands in a cell.

    `sort` is what the column is sorted by where that is not the text. `drawn` is (low, value, high) between
    `ends`, which is drawn as a point with its interval.
    """

    text: str
    sort: float | str | None = None
    drawn: tuple[float, float, float] | None = None
    ends: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Row:
    """A row: its cells by the names of the columns.

    `tone` is urgent, review, refused, done, open or waiting: a shape in front of `word`, never a colour
    alone. A pinned row stays on top, however the table is sorted.
    """

    id: str
    cells: Mapping[str, Cell | str]
    tone: str = ""
    word: str = ""
    pinned: bool = field(default=False)


@cache
def _component() -> Any:
    return st.components.v2.component(
        "allkit_rows",
        html='<div class="rows"></div>',
        css=style("rows"),
        js=script("rows"),
    )


def rows(
    columns: Sequence[Column],
    found: Sequence[Row],
    *,
    key: str,
    label: str,
    opens: str = "",
    search: str = "",
    mark: str = "",
    direction: str = "ltr",
) -> str | None:
    """Draw a table and return the id of a row that was just opened.

    `label` names the table for those who hear it. `opens` is what opening a row does, with `{name}` for its
    first cell; without it rows are not opened. `search` is the key of the text field that `/` goes to.
    `mark` heads the column of tones; without it there is none.
    """
    data = {
        "columns": [vars(column) for column in columns],
        "rows": [_row(row) for row in found],
        "label": label,
        "opens": opens,
        "search": search,
        "mark": mark,
        "direction": direction,
    }
    result = _component()(data=[data], key=key, on_open_change=lambda: None)
    return str(result.open) if result.open else None


def _row(row: Row) -> dict[str, Any]:
    cells = {name: _cell(cell) for name, cell in row.cells.items()}
    return {**vars(row), "cells": cells}


def _cell(cell: Cell | str) -> dict[str, Any]:
    return vars(Cell(cell) if isinstance(cell, str) else cell)
