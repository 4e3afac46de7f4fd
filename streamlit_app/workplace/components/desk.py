"""The desk: one case at work, from the thumbnails to the reading that is saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from workplace.components.sources import script, style

if TYPE_CHECKING:
    from workplace.here import Here

_DESK = st.components.v2.component(
    "allkit_desk", html='<div class="allkit desk"></div>', css=style("desk"), js=script("desk")
)


def desk(here: Here, case: str, *, key: str) -> Any:
    """Show a case to be read.

    The answer's `ask` is `{"what": "sign" | "finish", "at": number}` in the one run after a press of that
    button, else `None`; `"token"` only asks for a run, which gives the page a new token. Everything else
    (the fields, the readings) goes between the browser and the routes.
    """
    data = {
        "token": here.token,
        "user": here.user.id,
        "case": case,
        "texts": here.say.section("desk"),
        "direction": here.say.direction,
    }
    return _DESK(key=key, data=[data], on_ask_change=lambda: None)
