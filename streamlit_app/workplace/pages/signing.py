"""The drawer in which a case is signed: what stands against it, the report, then the signature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from allkit.clinic.signing import Obstacle, Statement, ToSign, draft, gate, sign, to_sign
from allkit.clinic.view import CaseView
from workplace.limits import limit_words
from workplace.pages.acting import acting, done
from workplace.pages.common import may, short, small
from workplace.pages.pictures import WIDTH, pages_of
from workplace.telling import display_of

if TYPE_CHECKING:
    from workplace.here import Here

__all__ = ["begin", "dialog"]

OPEN = "sign.open"
SHOWN = "sign.shown"


def begin(case: str, *, unsaved: int = 0) -> None:
    """Open the drawer at the end of this run; `unsaved` readings are still on their way."""
    st.session_state[OPEN] = (case, unsaved)


def _close() -> None:
    for name in (OPEN, SHOWN):
        st.session_state.pop(name, None)


def dialog(here: Here, view: CaseView) -> None:
    """Show the drawer while it is open, to who may sign."""
    case, unsaved = st.session_state.get(OPEN, ("", 0))
    if case != view.id or not may(here, "signer"):
        _close()
        return
    say = here.say
    title = say("sign.title")

    @st.dialog(title, width="medium", position="right", on_dismiss=_close)
    def drawer() -> None:
        signed = None
        with acting(here):
            asked = to_sign(here.user, view.id)
            statement = _statement(here, view, asked, unsaved)
            against = _against(here, view, statement)
            _checklist(here, against)
            signed = _sign(here, view, statement, ready=not against)
        if signed is not None:
            _close()
            st.session_state["workplace.done"] = say("sign.signed", version=signed)
            here.go("report", case=view.id)

    drawer()


def _statement(here: Here, view: CaseView, asked: ToSign, unsaved: int) -> Statement:
    """Ask for the result, with nothing chosen beforehand, and for what is to be acknowledged."""
    say = here.say
    st.text(view.patient or "")
    if asked.again:
        st.text(say("sign.again", why=asked.again))
    result = st.radio(
        say("sign.result"),
        asked.results,
        index=None,
        format_func=lambda label: display_of(say, label),
        key=f"sign.result.{view.id}",
        horizontal=True,
    )
    comment = st.text_area(
        say("sign.comment"), help=say("sign.comment_help"), key=f"sign.comment.{view.id}"
    )
    seen = True
    if asked.refused:
        seen = st.checkbox(say("sign.refused", n=asked.refused), key=f"sign.refused.{view.id}")
    return Statement(
        result or "",
        comment=comment,
        refused=asked.refused if seen else 0,
        limits_read=_limits_read(here, view, asked),
        unsaved=unsaved,
    )


def _limits_read(here: Here, view: CaseView, asked: ToSign) -> bool:
    say, model = here.say, asked.model
    if model is None:
        return False
    with st.container(border=True):
        st.text(
            say("sign.limits", name=model.name, version=model.version, hash=short(model.sha256))
        )
        st.text("\n".join(f"– {limit_words(say, limit)}" for limit in model.limits))
        return st.checkbox(say("sign.limits_read"), key=f"sign.limits.{view.id}")


def _against(here: Here, view: CaseView, statement: Statement) -> list[str]:
    """Return what stands against a signature, in the user's language."""
    return [_in_words(here, one) for one in gate(here.user, view.id, statement)]


def _in_words(here: Here, obstacle: Obstacle) -> str:
    values = dict(obstacle.values)
    if "result" in values:
        values["result"] = display_of(here.say, values["result"])
    return here.say(f"gate.{obstacle.code}", **values)


def _checklist(here: Here, against: list[str]) -> None:
    say = here.say
    st.subheader(say("sign.checklist"), anchor=False)
    for one in against:
        st.text(say("sign.open", what=one))
    if not against:
        st.text(say("sign.ready"))


def _sign(here: Here, view: CaseView, statement: Statement, *, ready: bool) -> int | None:
    """Show the report as it will be, then take the signature; return the version of the report."""
    say = here.say
    seen = st.session_state.pop(SHOWN, None)
    if ready:
        report = draft(here.user, view.id, statement)
        st.session_state[SHOWN] = report.sha256
        pages = pages_of(report, here.place.store)
        st.subheader(say("sign.report"), anchor=False)
        small(say("sign.report_text"))
        for number, page in enumerate(pages, start=1):
            alt = say("report.page", page=number, pages=len(pages))
            st.image(page, width=WIDTH, alt=alt)
    proved = here.confirmed or not here.place.login
    if ready and not proved:
        st.text(say("sign.confirm"))
        if st.button(say("sign.confirm_button"), key="sign.confirm", type="primary"):
            here.confirm_identity()
            done(say("sign.confirmed"))
        return None
    if not ready:
        small(say("sign.off"))
    clicked = st.button(say("sign.sign"), key="sign.sign", type="primary", disabled=not ready)
    if not clicked:
        return None
    if not here.confirmed:
        here.confirm_identity()
    # What the run before showed, not this one: the signer has read that, and nothing else.
    return sign(here.user, view.id, statement, seen=seen or "").version
