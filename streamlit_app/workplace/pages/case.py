"""One case: its heading, and the desk on which its fields are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from allkit.clinic.cases import SIGNED
from allkit.clinic.jobs import retry
from allkit.clinic.reading import finish
from allkit.clinic.reporting import versions
from allkit.clinic.search import previous
from allkit.clinic.view import CaseView, look, open_case
from workplace.pages import actions, signing
from workplace.pages.acting import acting, done, known, tell_done, to_worklist
from workplace.pages.common import age, may, small, tone_of, when
from workplace.plain import plain
from workplace.telling import display_of

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

    from workplace.here import Here

__all__ = ["show"]

SEEN = "case.seen"
SECONDS = 5


def show(here: Here) -> None:
    """Show the page of the case that the address names by its id, never by its patient."""
    say = here.say
    tell_done()
    case = st.query_params.get("case", "")
    if not case:
        to_worklist(here, "none")
        return
    view = _opened(here, case)
    if view is None:
        return
    _heading(here, view)
    if view.status == "erased":
        st.write(say("case.erased"))
        return
    if view.order_cancelled:
        st.warning(say("case.cancelled"))
    if view.specimen.kind == "marrow":
        st.warning(say("case.marrow"))
    # Above the desk, where its buttons are: below it nobody would see what was refused.
    told = st.container()
    _desk(here, view, told)
    actions.dialog(here, view)
    signing.dialog(here, view)


def _opened(here: Here, case: str) -> CaseView | None:
    """Return the case; that it was opened stands in the audit once, not at each run of the page."""
    view = None
    with acting(here):
        if not known(here, case):
            to_worklist(here, "unknown")
            return None
        first = st.session_state.get(SEEN) != (here.user.id, case)
        view = open_case(here.user, case) if first else look(here.user, case)
        st.session_state[SEEN] = (here.user.id, case)
    return view


def _heading(here: Here, view: CaseView) -> None:
    # One row where there is room: what is run anew by itself, and beside it the buttons.
    with st.container(horizontal=True, vertical_alignment="center", key="case_top"):
        _line(here, view.id)
        _buttons(here, view)
    _signed(here, view)
    _previous(here, view)


def _buttons(here: Here, view: CaseView) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="case_buttons"):
        if st.button(here.say("case.report"), key="case.report"):
            here.go("report", case=view.id)
        actions.menu(here, view)


def _signed(here: Here, view: CaseView) -> None:
    """Say the signed result, as the report has it; pressed, it opens the report."""
    if view.status not in SIGNED:
        return
    say = here.say
    with acting(here):
        report = versions(here.user, view.id)[0]
        words = say(
            "case.signed",
            result=display_of(say, report.result or ""),
            name="" if report.signer is None else report.signer.display,
            at=when(report.signed_at or ""),
            version=report.version,
        )
        if st.button(plain(words), key="case.signed", type="tertiary"):
            here.go("report", case=view.id)


@st.fragment(run_every=SECONDS)
def _line(here: Here, case: str) -> None:
    """Say whose case it is and how it stands; the desk changes that without a run of the page."""
    say = here.say
    with (
        acting(here),
        st.container(horizontal=True, vertical_alignment="center", key="case_heading"),
    ):
        view = look(here.user, case, polling=True)
        # Text, never Markdown: pseudonyms and numbers come from outside.
        st.text(view.patient or say("worklist.no_patient"))
        st.text("  ".join(_specimen(here, view)))
        if view.order is not None:
            st.text(say("case.order", number=view.order.value))
        tone, word = tone_of(say, view.status, urgent=view.priority > 0)
        st.text(f"{_SHAPES[tone]} {word}")
        st.text(_readers(here, view))
        st.text(age(say, view.created, here.place.store.now()).text)
        if view.blind:
            st.text(say("case.blind"))
        _again(here, view)


def _again(here: Here, view: CaseView) -> None:
    """Offer to ask the model once more where it failed, which the desk says."""
    open_ = view.status in ("new", "reading", "second")
    if not open_ or view.job is None or view.job["state"] != "failed":
        return
    if may(here, "reader", "signer") and st.button(here.say("case.retry"), key="case.retry"):
        with acting(here) as outcome:
            retry(here.user, view.id)
        if outcome.done:
            done(here.say("case.retried"))


_SHAPES = {"urgent": "▲", "open": "◐", "done": "✓", "waiting": "○", "refused": "✕"}


def _specimen(here: Here, view: CaseView) -> list[str]:
    said = view.specimen
    parts = [here.say(f"common.{said.kind}"), said.collected, said.stain, said.number]
    return [part for part in parts if part]


def _readers(here: Here, view: CaseView) -> str:
    say = here.say
    first = say("case.no_reader") if view.reader is None else view.reader.display
    words = say("case.reader", name=first)
    if view.second is not None:
        return words + "  " + say("case.second", name=view.second.display)
    return words + ("  " + say("case.second_wanted") if view.second_wanted else "")


def _previous(here: Here, view: CaseView) -> None:
    say = here.say
    with acting(here):
        before = previous(here.user, view.id)
        if not before:
            return
        with st.container(horizontal=True, vertical_alignment="center"):
            small(say("case.previous", n=len(before)), width="content")
            for row in before[:6]:
                words = say(
                    "case.previous_one",
                    day=row.collected or when(row.created)[:10],
                    specimen=say(f"common.{row.specimen}"),
                    status=say(f"common.status_{row.status}"),
                )
                if st.button(words, key=f"case.previous.{row.id}", type="tertiary"):
                    here.go("case", case=row.id)


def _desk(here: Here, view: CaseView, told: DeltaGenerator) -> None:
    from workplace.components.desk import desk
    from workplace.components.drop import drop

    open_case_ = view.status in ("new", "reading")
    if not view.fields and open_case_:
        st.write(here.say("case.no_fields"))
        drop(here, case=view.id, key=f"case_drop_{view.id}")
        return
    result = desk(here, view.id, key=f"desk_{view.id}")
    asked: dict[str, Any] = result.ask or {}
    if asked.get("what") == "finish":
        with told:
            _finish(here, view)
    elif asked.get("what") == "sign":
        if may(here, "signer"):
            signing.begin(view.id, unsaved=int(asked.get("unsaved", 0)))
        else:
            told.error(here.say("sign.no_signer"))


def _finish(here: Here, view: CaseView) -> None:
    state = ""
    with acting(here):
        state = finish(here.user, view.id)
    if state:
        done(here.say("case.finished_second" if state == "second" else "case.finished"))
