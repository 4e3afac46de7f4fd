"""How model and readers do in this clinic: each figure with its number and interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from allkit.clinic.models import models
from allkit.clinic.quality import Agreement, Calibration, Drift, Overrides, summary
from workplace.components.rows import Cell, Column, Row, rows
from workplace.pages.acting import acting, tell_done
from workplace.pages.common import share_cell, short, small
from workplace.telling import display_of, percent

if TYPE_CHECKING:
    from workplace.here import Here

__all__ = ["show"]

NUMBERS = ("cases", "fields", "mean", "unclassed")


def show(here: Here) -> None:
    """Show the page."""
    say = here.say
    tell_done()
    st.header(say("quality.title"), anchor=False)
    st.write(say("quality.lead"))
    with st.container(horizontal=True):
        since = st.date_input(say("quality.since"), value=None, key="quality.since")
        until = st.date_input(say("quality.until"), value=None, key="quality.until")
    with acting(here):
        figures = summary(
            here.user,
            since=None if since is None else since.isoformat(),
            until=None if until is None else until.isoformat(),
        )
        # Two models of one name are told apart by their hash.
        names = {
            one["sha256"]: f"{one['name']} {short(one['sha256'])}" for one in models(here.user)
        }
        _overrides(here, figures.overrides_by_class, names)
        _overrides(here, figures.overrides_by_month, names)
        _calibration(here, figures.calibration, names)
        _agreement(here, figures.agreement)
        _drift(here, figures.drift, names)
        _colours(here, figures.drift, names)
        with st.expander(say("quality.notes")):
            for number in range(1, len(figures.notes) + 1):
                st.write(say(f"quality.note_{number}"))
        small(say("quality.at", at=figures.at[:16].replace("T", " ")))


def _table(here: Here, name: str, columns: list[Column], found: list[Row]) -> None:
    """Show a table with its heading and what it does not say; without rows, that there are none."""
    say = here.say
    st.subheader(say(f"quality.{name}"), anchor=False)
    small(say(f"quality.{name}_text"))
    if not found:
        st.write(say("quality.nothing"))
        return
    rows(
        columns,
        found,
        key=f"quality_{name}",
        label=say(f"quality.{name}"),
        direction=say.direction,
    )


def _columns(here: Here, *names: str) -> list[Column]:
    return [Column(name, here.say(f"quality.col_{name}"), end=name in NUMBERS) for name in names]


def _overrides(here: Here, figures: Overrides, names: dict[str, str]) -> None:
    say = here.say
    by = figures.by
    found = [
        Row(
            str(number),
            {
                by: display_of(say, one.of) if by == "class" else one.of,
                "model": names.get(one.model, short(one.model)),
                "answer": say(f"quality.verdict_{one.verdict}"),
                "read": say("quality.blind" if one.blind else "quality.seen"),
                "changed": share_cell(say, one.changed),
                "unclassed": Cell(str(one.unclassed), sort=one.unclassed),
                "cases": Cell(str(one.cases), sort=one.cases),
            },
        )
        for number, one in enumerate(figures.rows)
    ]
    columns = _columns(here, by, "model", "answer", "read", "changed", "unclassed", "cases")
    _table(here, f"by_{by}", columns, found)
    if by == "class":  # the same fields as by month
        _left_out(here, dict(figures.left_out))


def _left_out(here: Here, counts: dict[str, int]) -> None:
    say = here.say
    words = [say(f"quality.left_{name}", number=n) for name, n in counts.items() if n]
    if words:
        small(say("quality.left_out", what=", ".join(words)))


def _calibration(here: Here, figures: Calibration, names: dict[str, str]) -> None:
    say = here.say
    found = [
        Row(
            str(number),
            {
                "band": Cell(f"{one.low:.2f}–{one.high:.2f}", sort=one.low),
                "model": names.get(one.model, short(one.model)),
                "mean": Cell(percent(say, one.mean), sort=one.mean),
                "right": share_cell(say, one.right),
                "blind": share_cell(say, one.blind),
                "cases": Cell(str(one.cases), sort=one.cases),
            },
        )
        for number, one in enumerate(figures.rows)
    ]
    columns = _columns(here, "band", "model", "mean", "right", "blind", "cases")
    _table(here, "calibration", columns, found)
    _left_out(here, dict(figures.left_out))


def _agreement(here: Here, figures: Agreement) -> None:
    say = here.say
    if figures.too_few:
        kappa = Cell(say("quality.too_few_fields", n=figures.n))
    elif figures.kappa is None:
        kappa = Cell(say("quality.not_defined"))
    elif figures.low is None or figures.high is None:
        kappa = Cell(say("quality.kappa_alone", kappa=f"{figures.kappa:.2f}"))
    else:
        words = say(
            "quality.kappa",
            kappa=f"{figures.kappa:.2f}",
            low=f"{figures.low:.2f}",
            high=f"{figures.high:.2f}",
        )
        drawn = (figures.low, figures.kappa, figures.high)
        kappa = Cell(words, sort=figures.kappa, drawn=drawn, ends=(-1.0, 1.0))
    found = [
        Row(
            "agreement",
            {
                "fields": Cell(str(figures.n), sort=figures.n),
                "cases": Cell(str(figures.cases), sort=figures.cases),
                "kappa": kappa,
                "same": share_cell(say, figures.same),
            },
        )
    ]
    columns = _columns(here, "fields", "cases", "kappa", "same")
    _table(here, "agreement", columns, found if figures.n else [])


def _drift(here: Here, figures: tuple[Drift, ...], names: dict[str, str]) -> None:
    say = here.say
    found = [
        Row(
            str(number),
            {
                "month": one.month,
                "model": names.get(one.model, short(one.model)),
                "fields": Cell(str(one.n), sort=one.n),
                "accepted": share_cell(say, one.verdicts["accepted"]),
                "refused": share_cell(say, one.verdicts["refused"]),
                "unfamiliar": share_cell(say, one.unfamiliar),
                "unusual": share_cell(say, one.unusual),
                "without_cells": share_cell(say, one.without_white_cells),
                "stains": ", ".join(f"{name} {count}" for name, count in one.stains.items()),
            },
        )
        for number, one in enumerate(figures)
    ]
    columns = _columns(
        here,
        *("month", "model", "fields", "accepted", "refused"),
        *("unfamiliar", "unusual", "without_cells", "stains"),
    )
    _table(here, "drift", columns, found)


def _colours(here: Here, figures: tuple[Drift, ...], names: dict[str, str]) -> None:
    """Show what was measured of images by no network: a stain that drifts is seen here first."""
    say = here.say

    def three(values: tuple[float, ...] | None) -> str:
        if values is None:
            return say("quality.too_few")
        return "  ".join(f"{value:.2f}" for value in values)

    found = [
        Row(
            str(number),
            {
                "month": one.month,
                "model": names.get(one.model, short(one.model)),
                "unlike": say("quality.too_few")
                if one.ood_median is None
                else say("quality.median", value=f"{one.ood_median:.2f}", n=one.ood_n),
                "background": three(one.background),
                "stained": three(one.cells),
            },
        )
        for number, one in enumerate(figures)
    ]
    columns = _columns(here, "month", "model", "unlike", "background", "stained")
    _table(here, "colours", columns, found)
