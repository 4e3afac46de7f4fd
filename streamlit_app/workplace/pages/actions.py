"""What else is done with a case: the menu in its heading, and a drawer for each of its entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from allkit.clinic.access import people
from allkit.clinic.cases import SIGNED, assign, change_specimen, lower_priority
from allkit.clinic.erasure import erase
from allkit.clinic.identity import move_field, reassign
from allkit.clinic.reading import add_note, read_blind, want_second
from allkit.clinic.records import Specimen
from allkit.clinic.search import resolve
from allkit.clinic.signing import reopen, withdraw
from allkit.clinic.view import CaseView
from workplace.pages.acting import acting, done
from workplace.pages.common import may, small
from workplace.pages.reasons import with_reason

if TYPE_CHECKING:
    from workplace.here import Here

__all__ = ["dialog", "menu"]

CHOSEN = "case.action"


def menu(here: Here, view: CaseView) -> None:
    """Show the menu of what may be done with the case now, by who is signed in."""
    possible = _possible(here, view)
    if not possible:
        return
    chosen = st.menu_button(
        here.say("case.actions"),
        possible,
        format_func=lambda name: here.say(f"case.do_{name}"),
        key="case.menu",
    )
    if chosen:
        st.session_state[CHOSEN] = (view.id, chosen)


def _possible(here: Here, view: CaseView) -> list[str]:
    signed, open_ = view.status in SIGNED, view.status in ("new", "reading", "second")
    reads, signs = may(here, "reader", "signer"), may(here, "signer")
    read = any(field.first is not None for field in view.fields)
    wanted = {
        "take": open_ and reads and (view.reader is None or view.reader.name != here.user.name),
        "assign": open_ and reads,
        "second": open_ and reads and not view.second_wanted,
        "no_second": open_ and reads and view.second_wanted and view.status != "second",
        "blind": open_ and reads and not view.blind and not read,
        "no_blind": open_ and reads and view.blind and not read,
        "note": open_ and reads,
        "upload": open_ and reads and bool(view.fields),
        "specimen": open_ and reads,
        "patient": reads and (open_ or signs),
        "move": reads and bool(view.fields) and (open_ or signs),
        "lower": reads and view.priority > 0,
        "reopen": signed and signs,
        "withdraw": signed and signs,
        "erase": (reads or may(here, "admin")) and (not signed or may(here, "admin")),
    }
    return [name for name, can in wanted.items() if can]


def dialog(here: Here, view: CaseView) -> None:
    """Open the drawer of the entry that was chosen, until it is closed."""
    case, chosen = st.session_state.get(CHOSEN, ("", ""))
    if case != view.id:
        st.session_state.pop(CHOSEN, None)
        return
    if chosen not in _possible(here, view):
        return
    title = here.say(f"case.do_{chosen}")

    @st.dialog(title, position="right", on_dismiss=_close)
    def drawer() -> None:
        small(here.say(f"case.about_{chosen}"))
        FORMS[chosen](here, view)

    drawer()


def _close() -> None:
    st.session_state.pop(CHOSEN, None)


def _ended(here: Here, name: str, **values: object) -> None:
    _close()
    done(here.say(f"case.did_{name}", **values))


def _confirmed(
    name: str, act: Callable[[Here, CaseView], None]
) -> Callable[[Here, CaseView], None]:
    """Return a form that is one button."""

    def form(here: Here, view: CaseView) -> None:
        if st.button(here.say(f"case.do_{name}"), key=f"case.{name}.go", type="primary"):
            with acting(here) as outcome:
                act(here, view)
            if outcome.done:
                _ended(here, name)

    return form


def _reasoned(
    name: str, act: Callable[[Here, CaseView, str], object]
) -> Callable[[Here, CaseView], None]:
    """Return a form that asks for a reason and then does something."""

    def form(here: Here, view: CaseView) -> None:
        why = with_reason(here, name, here.say(f"case.do_{name}"))
        if why is not None:
            with acting(here) as outcome:
                act(here, view, why)
            if outcome.done:
                _ended(here, name)

    return form


def _assign(here: Here, view: CaseView) -> None:
    say = here.say
    with acting(here), here.user.read("reader", "signer", "admin") as connection:
        readers = {
            one.name: one.display
            for one in people(connection)
            if one.active and {"reader", "signer"} & set(one.roles)
        }
    with st.form("case.assign", border=False):
        first = st.selectbox(
            say("common.reader"), readers, index=None, format_func=readers.get, key="assign.first"
        )
        second = st.selectbox(
            say("common.second"), readers, index=None, format_func=readers.get, key="assign.second"
        )
        sent = st.form_submit_button(say("case.do_assign"), type="primary")
    if sent and not (first or second):
        st.error(say("case.choose_person"))
    elif sent:
        with acting(here) as outcome:
            assign(here.user, view.id, reader=first, second=second)
        if outcome.done:
            _ended(here, "assign")


def _note(here: Here, view: CaseView) -> None:
    say = here.say
    for _, who, text, field in view.notes:
        if field is None:
            st.text(say("case.note_by", name=who.display, text=text))
    with st.form("case.note", border=False):
        text = st.text_area(say("case.note"), key="case.note.text")
        sent = st.form_submit_button(say("case.do_note"), type="primary")
    if sent:
        with acting(here) as outcome:
            add_note(here.user, text, case=view.id)
        if outcome.done:
            _ended(here, "note")


def _specimen(here: Here, view: CaseView) -> None:
    say, now = here.say, view.specimen
    with st.form("case.specimen", border=False):
        kind = st.segmented_control(
            say("common.specimen"),
            ["blood", "marrow"],
            default=now.kind,
            required=True,
            format_func=lambda name: say(f"common.{name}"),
            key="specimen.kind",
        )
        collected = st.date_input(
            say("common.collected"), value=now.collected, key="specimen.collected"
        )
        stain = st.text_input(say("common.stain"), now.stain or "", key="specimen.stain")
        number = st.text_input(say("common.specimen_number"), now.number or "", key="specimen.no")
        why = st.text_input(say("common.reason"), key="specimen.why")
        sent = st.form_submit_button(say("case.do_specimen"), type="primary")
    if sent:
        day = None if collected is None else collected.isoformat()
        with acting(here) as outcome:
            given = Specimen("marrow" if kind == "marrow" else "blood", day, stain, number)
            change_specimen(here.user, view.id, given, why=why)
        if outcome.done:
            _ended(here, "specimen")


def _move(here: Here, view: CaseView) -> None:
    say = here.say
    names = {field.id: f"{field.number}  {field.name}" for field in view.fields}
    with st.form("case.move", border=False):
        field = st.selectbox(
            say("common.field"), names, index=None, format_func=names.get, key="move.field"
        )
        to = st.text_input(say("case.move_to"), help=say("case.move_help"), key="move.to")
        why = st.text_input(say("common.reason"), key="move.why")
        sent = st.form_submit_button(say("case.do_move"), type="primary")
    if sent and field is None:
        st.error(say("case.choose_field"))
    elif sent:
        with acting(here) as outcome:
            made = move_field(here.user, str(field), to=resolve(here.user, to, whole=True), why=why)
        if outcome.done:
            again = any(one.to_sign for one in made)
            _ended(here, "move_signed" if again else "move")


def _patient(here: Here, view: CaseView) -> None:
    say = here.say
    with st.form("case.patient", border=False):
        to = st.text_input(say("case.patient_to"), help=say("case.patient_help"), key="patient.to")
        why = st.text_input(say("common.reason"), key="patient.why")
        sent = st.form_submit_button(say("case.do_patient"), type="primary")
    if sent:
        with acting(here) as outcome:
            reassign(here.user, view.id, patient=to.strip(), why=why)
        if outcome.done:
            _ended(here, "patient")


def _upload(here: Here, view: CaseView) -> None:
    from workplace.components.drop import drop

    drop(here, case=view.id, key=f"case_more_{view.id}")


def _erase(here: Here, view: CaseView) -> None:
    say = here.say
    why = with_reason(here, "erase", say("case.do_erase"), agree=say("case.erase_agree"))
    if why is None:
        return
    erased = None
    with acting(here):
        erased = erase(here.user, view.id, why=why)
    if erased is None:
        return
    if erased.backups:
        _ended(here, "erase_kept", where=", ".join(erased.backups))
    else:
        _ended(here, "erase")


FORMS: dict[str, Callable[[Here, CaseView], None]] = {
    "take": _confirmed("take", lambda here, v: assign(here.user, v.id, reader=here.user.name)),
    "assign": _assign,
    "second": _confirmed("second", lambda here, v: want_second(here.user, v.id, wanted=True)),
    "no_second": _confirmed(
        "no_second", lambda here, v: want_second(here.user, v.id, wanted=False)
    ),
    "blind": _confirmed("blind", lambda here, v: read_blind(here.user, v.id, blind=True)),
    "no_blind": _confirmed("no_blind", lambda here, v: read_blind(here.user, v.id, blind=False)),
    "note": _note,
    "upload": _upload,
    "specimen": _specimen,
    "patient": _patient,
    "move": _move,
    "lower": _reasoned("lower", lambda here, v, why: lower_priority(here.user, v.id, why=why)),
    "reopen": _reasoned("reopen", lambda here, v, why: reopen(here.user, v.id, why=why)),
    "withdraw": _reasoned("withdraw", lambda here, v, why: withdraw(here.user, v.id, why=why)),
    "erase": _erase,
}
