"""The worklist: all cases, the urgent ones first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from allkit.clinic.access import people
from allkit.clinic.jobs import failed
from allkit.clinic.records import STATES
from allkit.clinic.search import CaseRow, Filter, counts, find
from workplace.components.rows import Cell, Column, Row, rows
from workplace.pages.acting import acting, tell_done
from workplace.pages.common import age, may, small, tone_of
from workplace.pages.new_case import new_case, take_drop

if TYPE_CHECKING:
    from workplace.here import Here

__all__ = ["show"]

SEARCH = "worklist_search"
PLACES = "worklist.places"
ASKED = "worklist.asked"
SECONDS = 5
OPEN = ("new", "reading", "second")


def show(here: Here) -> None:
    """Show the page."""
    say = here.say
    tell_done()
    reads = may(here, "reader", "signer")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.header(say("worklist.title"), anchor=False)
        if reads:
            new_case(here)
    wanted = _wanted(here)
    if st.session_state.get("worklist.wanted") != wanted:
        st.session_state["worklist.wanted"], st.session_state[PLACES] = wanted, []
    # A run of the whole page was asked for by the person, a run of the list alone comes by itself.
    st.session_state[ASKED] = True
    _list(here, wanted)
    if reads:
        take_drop(here)


def _wanted(here: Here) -> Filter:
    say = here.say
    # In one row, without headings: what each choice means, its words say.
    with st.container(horizontal=True, vertical_alignment="center", key="worklist_filters"):
        text = st.text_input(
            say("worklist.search"),
            key=SEARCH,
            type="search",
            placeholder=say("worklist.search_hint"),
            live=True,
            max_chars=64,
            label_visibility="collapsed",
            width=330,
        )
        states = _pills(
            say("worklist.state"),
            {state: say(f"common.status_{state}") for state in STATES if state != "erased"},
            key="worklist_states",
        )
        only = _pills(
            say("worklist.only"),
            {name: say(f"worklist.only_{name}") for name in ("mine", "review", "urgent")},
            key="worklist_only",
        )
        specimen = st.pills(
            say("common.specimen"),
            ["blood", "marrow"],
            format_func=lambda name: say(f"common.{name}"),
            key="worklist_specimen",
            label_visibility="collapsed",
            width="content",
        )
    chosen = set(only or ())
    text = (text or "").strip()
    return Filter(
        text=text,
        # What is signed waits for nobody; who searches looks for it too.
        status=tuple(states or (() if text else OPEN)),
        specimen=specimen,
        reader=here.user.id if "mine" in chosen else None,
        urgent=True if "urgent" in chosen else None,
        review=True if "review" in chosen else None,
    )


def _pills(label: str, choices: dict[str, str], *, key: str) -> list[str]:
    return st.pills(
        label,
        list(choices),
        selection_mode="multi",
        format_func=choices.__getitem__,
        key=key,
        label_visibility="collapsed",
        width="content",
    )


@st.fragment(run_every=SECONDS)
def _list(here: Here, wanted: Filter) -> None:
    say = here.say
    polling = not st.session_state.pop(ASKED, False)
    places: list[str] = st.session_state.setdefault(PLACES, [])
    with acting(here):
        page = find(here.user, wanted, after=places[-1] if places else None, polling=polling)
        numbers = counts(here.user, polling=polling)
        open_cases = sum(numbers.get(state, 0) for state in OPEN)
        small(say("worklist.open", n=open_cases))
        if not page.rows:
            filtered = wanted != Filter(status=OPEN) or bool(places)
            st.write(say("worklist.none_found" if filtered else "worklist.none"))
        with here.user.read("reader", "signer", "admin", polling=polling) as connection:
            shown = {one.name: one.display for one in people(connection)}
        failing = failed(here.user, [row.id for row in page.rows], polling=polling)
        opened = rows(
            _columns(here),
            [_row(here, row, shown, failed=row.id in failing) for row in page.rows],
            key="worklist_rows",
            label=say("worklist.title"),
            opens=say("worklist.opens", name="{name}"),
            search=SEARCH,
            mark=say("common.state"),
            direction=say.direction,
        )
        if opened is not None:
            here.go("case", case=opened)
        _turn(here, places, page.next)


def _columns(here: Here) -> list[Column]:
    say = here.say
    return [
        Column("patient", say("common.patient")),
        Column("order", say("common.order")),
        Column("specimen", say("common.specimen")),
        Column("fields", say("common.fields"), end=True),
        Column("review", say("worklist.review"), end=True),
        Column("reader", say("common.reader")),
        Column("age", say("common.age"), end=True),
    ]


def _row(here: Here, row: CaseRow, shown: Mapping[str, str], *, failed: bool) -> Row:
    say = here.say
    tone, word = tone_of(say, row.status, urgent=row.priority > 0)
    if failed and row.status in OPEN:
        # An urgent case keeps its shape: it stays at the top, and the word says the rest.
        tone = tone if row.priority > 0 else "refused"
        word = say("worklist.failed", status=word)
    if row.cancelled:
        word = say("worklist.cancelled", status=word)
    cells: dict[str, Any] = {
        "patient": row.pseudonym or say("worklist.no_patient"),
        "order": row.order or "",
        "specimen": say(f"common.{row.specimen}"),
        "fields": Cell(str(row.fields), sort=row.fields),
        "review": Cell(str(row.review), sort=row.review),
        "reader": shown.get(row.reader or "", ""),
        "age": age(say, row.created, here.place.store.now()),
    }
    return Row(row.id, cells, tone=tone, word=word, pinned=row.priority > 0)


def _turn(here: Here, places: list[str], next: str | None) -> None:
    say = here.say
    if not places and next is None:
        return
    with st.container(horizontal=True):
        if st.button(say("worklist.back"), key="worklist.back", disabled=not places):
            places.pop()
            st.rerun()
        small(say("worklist.page", page=len(places) + 1))
        if st.button(say("worklist.next"), key="worklist.next", disabled=next is None):
            places.append(str(next))
            st.rerun()
