"""How the workplace is used, and the sheet for the bench."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from workplace.pages.acting import acting, tell_done
from workplace.plain import plain
from workplace.telling import HIGH, MODERATE, percent

if TYPE_CHECKING:
    from workplace.here import Here

__all__ = ["show"]


def show(here: Here) -> None:
    """Show the page: the topics in the order in which their file has them."""
    say = here.say
    tell_done()
    st.header(say("help.title"), anchor=False)
    _sheet(here)
    bands = {"high": percent(say, HIGH), "moderate": percent(say, MODERATE)}
    for topic in dict.fromkeys(name.partition(".")[0] for name in say.section("help.topics")):
        st.subheader(plain(say(f"help.topics.{topic}.title")), anchor=False)
        st.markdown(plain(say(f"help.topics.{topic}.text", **bands)))


def _sheet(here: Here) -> None:
    from workplace.bench_sheet import bench_sheet

    say = here.say
    st.write(say("help.page_sheet_text"))
    with acting(here):
        st.download_button(
            say("help.bench_sheet"),
            bench_sheet(say.language),
            file_name="allkit-bench-sheet.pdf",
            mime="application/pdf",
            on_click="ignore",
            key="help.sheet",
        )
