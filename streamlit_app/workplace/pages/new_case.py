"""A case by hand, or by dropping files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from allkit.clinic.cases import create
from allkit.clinic.records import Identifier, Specimen
from workplace.pages.acting import acting
from workplace.pages.common import small

if TYPE_CHECKING:
    from workplace.here import Here

__all__ = ["new_case", "take_drop"]


def new_case(here: Here) -> None:
    """Show the form of a new case behind a button."""
    say = here.say
    with st.popover(say("worklist.new"), type="primary"), st.form("worklist.new", border=False):
        patient = st.text_input(
            say("worklist.new_patient"), help=say("worklist.new_patient_help"), key="new.patient"
        )
        order = st.text_input(say("worklist.new_order"), key="new.order")
        kind = st.segmented_control(
            say("common.specimen"),
            ["blood", "marrow"],
            format_func=lambda name: say(f"common.{name}"),
            key="new.kind",
        )
        collected = st.date_input(say("common.collected"), value=None, key="new.collected")
        stain = st.text_input(say("common.stain"), key="new.stain")
        number = st.text_input(say("common.specimen_number"), key="new.number")
        sent = st.form_submit_button(say("worklist.create"), type="primary")
    if sent and kind is None:
        st.error(say("worklist.say_specimen"))
    elif sent:
        made = None
        with acting(here):
            made = create(
                here.user,
                specimen_=Specimen(
                    "blood" if kind == "blood" else "marrow",
                    None if collected is None else collected.isoformat(),
                    stain or None,
                    number or None,
                ),
                patient=patient.strip() or None,
                order=Identifier(order.strip()) if order.strip() else None,
            )
        if made is not None:
            here.go("case", case=made)


def take_drop(here: Here) -> None:
    """Take files that are dropped: they make a case of a new patient, which opens.

    Which specimen it is must be said first: a report names it, and files do not know it.
    """
    from workplace.components.drop import drop

    say = here.say
    st.subheader(say("worklist.drop"), anchor=False)
    kind = st.segmented_control(
        say("worklist.drop_specimen"),
        ["blood", "marrow"],
        format_func=lambda name: say(f"common.{name}"),
        key="worklist.drop_kind",
        persist_state="session",
    )
    if kind is None:
        small(say("worklist.drop_first"))
        return
    result = drop(here, case=None, key="worklist_drop", new={"kind": kind})
    if result.opened:
        here.go("case", case=str(result.opened["case"]))
