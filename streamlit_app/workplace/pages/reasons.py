"""The forms that ask for a reason: what cannot be undone in silence has one in the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from workplace.here import Here

__all__ = ["with_reason"]


def with_reason(here: Here, name: str, label: str, *, agree: str = "") -> str | None:
    """Ask for a reason; return it when it was sent. `agree` is a sentence that must be ticked too."""
    say = here.say
    with st.form(f"reason.{name}", border=False):
        why = st.text_input(say("common.reason"), key=f"reason.{name}.why")
        agreed = st.checkbox(agree, key=f"reason.{name}.agree") if agree else True
        sent = st.form_submit_button(label, type="primary")
    if not sent:
        return None
    if not why.strip():
        st.error(say("common.say_reason"))
        return None
    if not agreed:
        st.error(say("common.tick"))
        return None
    return why
