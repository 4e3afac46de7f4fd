"""The script of the workplace: who is there, the frame, and the page. Start it with `allkit app`."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import streamlit as st
from workplace import frame, signing_in
from workplace.here import PAGES, Here
from workplace.settings import place
from workplace.texts import texts

from allkit.clinic.models import model_of_case
from allkit.clinic.search import counts

IN_MENU = ("worklist", "quality", "models", "admin", "help")


def page(here: Here, name: str) -> Callable[[], None]:
    """Return what draws a page, whose module is imported when it is first shown."""

    def show() -> None:
        importlib.import_module(f"workplace.pages.{name}").show(here)

    show.__name__ = name
    return show


def main() -> None:
    """Show the frame and the page that was asked for."""
    say = texts(frame.language())
    st.set_page_config(page_title=say("frame.name"), page_icon=frame.icon(), layout="wide")
    frame.style(say)
    here = frame.entered(place())
    if here is None:
        return
    pages = {
        name: st.Page(
            page(here, name),
            title=say(f"server.menu.{name}"),
            url_path=name,
            visibility="visible" if name in IN_MENU else "hidden",
        )
        for name in PAGES
    }
    # The first page has an address of its own: a default page would lose its, and old links with it.
    home = st.Page(
        lambda: None, title=say("frame.name"), url_path="home", default=True, visibility="hidden"
    )
    st.session_state["pages"] = pages
    shown = st.navigation([home, *pages.values()], position="top")
    back = signing_in.come_back(here.session.identity)
    if back is not None:
        st.switch_page(pages["case"], query_params=back)
    if shown is home:
        # Without a model and a case there is nothing to list; the first visit begins with what to do.
        first = "worklist" if model_of_case(here.user, None) or counts(here.user) else "start"
        st.switch_page(pages[first], query_params=dict(st.query_params))
    case = st.query_params.get("case") if shown.url_path in ("case", "report") else None
    frame.frame(here, case)
    shown.run()


main()
