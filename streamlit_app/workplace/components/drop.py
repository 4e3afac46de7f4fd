"""The drop zone: files into a case, or into one that is made for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from workplace.components.sources import script, style

if TYPE_CHECKING:
    from workplace.here import Here

_DROP = st.components.v2.component(
    "allkit_drop", html='<div class="allkit drop"></div>', css=style("drop"), js=script("drop")
)


def drop(
    here: Here,
    *,
    case: str | None = None,
    key: str,
    large: bool = False,
    new: Mapping[str, Any] | None = None,
) -> Any:
    """Show a place for files; without `case` a new one is made of the values of `new`.

    The answer's `opened` is `{"case": id}` in the one run after the first file has arrived,
    else `None`. The rest is sent on, whatever page is shown. `token` only asks for a run, which gives
    the page a new token.
    """
    data = {
        "token": here.token,
        "user": here.user.id,
        "case": case,
        "new": dict(new or {}),
        "texts": here.say.section("drop"),
        "direction": here.say.direction,
        "large": large,
    }
    return _DROP(key=key, data=[data], on_opened_change=lambda: None, on_token_change=lambda: None)
