"""The first visit: try it, or open a model; what is stored where, and who sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import streamlit as st

from allkit.clinic.access import people
from allkit.clinic.models import models
from workplace.components.rows import Column, Row, rows
from workplace.pages.acting import acting, tell_done
from workplace.pages.common import may

if TYPE_CHECKING:
    from workplace.here import Here

__all__ = ["show", "take_up"]

MINUTES = 5


def show(here: Here) -> None:
    """Show the page."""
    say = here.say
    tell_done()
    st.header(say("start.title"), anchor=False)
    st.write(say("start.lead"))
    left, right = st.columns(2, border=True)
    with left:
        _try(here)
    with right:
        _open(here)
    _stored(here)


def _try(here: Here) -> None:
    say = here.say
    st.subheader(say("start.try"), anchor=False)
    if here.place.demo:
        st.write(say("start.is_demo"))
        if st.button(say("start.to_worklist"), key="start.worklist", type="primary"):
            here.go("worklist")
        return
    st.write(say("start.try_text"))
    st.code("allkit app --demo", language=None)


def _open(here: Here) -> None:
    say = here.say
    st.subheader(say("start.open"), anchor=False)
    st.write(say("start.open_text"))
    if not may(here, "admin"):
        st.write(say("start.open_admin"))
        return
    with acting(here):
        for model in models(here.user):
            if model["default"]:
                st.text(say("start.answers_now", name=model["name"], version=model["version"]))
    with st.form("start.model", border=False):
        path = st.text_input(say("start.path"), key="start.path", help=say("start.path_help"))
        sent = st.form_submit_button(say("start.take_up"), type="primary")
    if sent and not path.strip():
        st.error(say("start.no_path"))
    elif sent:
        with st.spinner(say("start.opening")):
            good, words = take_up(here, path.strip())
        (st.success if good else st.error)(say("start.taken" if good else "start.not_taken"))
        st.text(words)


def take_up(here: Here, path: str) -> tuple[bool, str]:
    """Open a model in a process of its own, which needs torch for a folder; return its answer."""
    store = here.place.store
    # By the environment, not the command line: an address may hold a password, and others see commands.
    place = {"ALLKIT_CLINIC": str(store.folder.resolve())}
    if store.url:
        place["ALLKIT_CLINIC_URL"] = store.url
    command = [sys.executable, "-P", "-m", "allkit", "clinic", "model", "--as", here.user.name]
    environment = {name: value for name, value in os.environ.items() if name not in _OURS} | place
    try:
        ended = subprocess.run(
            [*command, "--", path],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60 * MINUTES,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, here.say("start.too_long", n=MINUTES)
    except (OSError, ValueError) as error:  # a path with a character that no file can have
        return False, str(error)
    return ended.returncode == 0, "\n".join((ended.stdout + ended.stderr).strip().splitlines()[-8:])


_OURS = ("ALLKIT_CLINIC", "ALLKIT_CLINIC_URL")


def _stored(here: Here) -> None:
    say, store = here.say, here.place.store
    st.subheader(say("start.stored"), anchor=False)
    st.text(say("start.database", place=store.place))
    st.text(say("start.images", place=str(store.blobs.folder.resolve())))
    st.write(say("start.stored_text"))
    st.subheader(say("start.who"), anchor=False)
    st.write(say("start.who_login" if here.place.login else "start.who_local"))
    with acting(here), here.user.read("reader", "signer", "admin") as connection:
        known = [one for one in people(connection) if one.active and "system" not in one.roles]
        rows(
            [Column("name", say("common.name")), Column("roles", say("common.roles"))],
            [
                Row(
                    one.id,
                    {
                        "name": one.display,
                        "roles": ", ".join(say(f"common.role_{role}") for role in one.roles),
                    },
                )
                for one in known
            ],
            key="start_people",
            label=say("start.who"),
            direction=say.direction,
        )
