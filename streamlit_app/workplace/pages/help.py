"""How the workplace is used, and the sheet for the bench."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st
from workplace.pages.acting import acting, tell_done

if TYPE_CHECKING:
    from workplace.here import Here

__all__ = ["show"]

OWN = "page_"
"""How the names of this page's own texts begin; the others are the chapters."""


def show(here: Here) -> None:
    """Show the page: the chapters in the order in which their file has them."""
    say = here.say
    tell_done()
    st.header(say("help.page_title"), anchor=False)
    _sheet(here)
    chapters: dict[str, dict[str, str]] = {}
    for name, text in say.section("help").items():
        if not name.startswith(OWN):
            chapter, _, part = name.rpartition(".")
            chapters.setdefault(chapter or name, {})[part] = text
    for parts in chapters.values():
        if "title" in parts:
            st.subheader(parts["title"], anchor=False)
        for part, text in parts.items():
            if part != "title":
                st.markdown(text)


def _sheet(here: Here) -> None:
    from workplace.bench_sheet import bench_sheet

    say = here.say
    st.write(say("help.page_sheet_text"))
    with acting(here):
        st.download_button(
            say("help.page_sheet"),
            bench_sheet(say.language),
            file_name=say("help.page_sheet_file"),
            mime="application/pdf",
            on_click="ignore",
            key="help.sheet",
        )
