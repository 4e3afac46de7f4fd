"""Who may do what: people, their roles, and adding others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from allkit.clinic.access import ROLES, Person, add_person, people
from workplace.components.rows import Column, Row, rows
from workplace.pages.acting import acting, done
from workplace.pages.common import small

if TYPE_CHECKING:
    from workplace.here import Here

__all__ = ["show_people"]


def show_people(here: Here) -> None:
    """Show everybody, and the form that adds or changes somebody."""
    say = here.say
    known: list[Person] = []
    with acting(here), here.user.read("admin") as connection:
        known = people(connection)
    names = ("name", "signs_in", "roles")
    rows(
        [Column(name, say(f"common.{name}")) for name in names],
        [
            Row(
                one.id,
                {
                    "name": one.display,
                    "signs_in": one.name,
                    "roles": _roles(here, one),
                },
                tone="done" if one.active else "refused",
                word=say("admin.active" if one.active else "admin.inactive"),
            )
            for one in known
        ],
        key="admin_people",
        label=say("admin.people"),
        mark=say("common.state"),
        direction=say.direction,
    )
    left, right = st.columns(2)
    with left:
        _add(here)
    with right:
        _change(here, [one for one in known if "system" not in one.roles])


def _roles(here: Here, one: Person) -> str:
    return ", ".join(here.say(f"common.role_{role}") for role in one.roles)


def _add(here: Here) -> None:
    say = here.say
    with st.form("admin.add"):
        st.subheader(say("admin.add"), anchor=False)
        name = st.text_input(say("common.signs_in"), help=say("admin.name_help"), key="add.name")
        shown = st.text_input(say("common.name"), key="add.display")
        roles = st.multiselect(
            say("common.roles"),
            ROLES,
            format_func=lambda role: say(f"common.role_{role}"),
            key="add.roles",
        )
        sent = st.form_submit_button(say("admin.add"), type="primary")
    if sent and not roles:
        st.error(say("admin.choose_role"))
    elif sent:
        with acting(here) as outcome:
            with here.user.read("admin") as connection:
                taken = any(one.name == name.strip() for one in people(connection))
            if taken:  # adding would give somebody who is there other roles
                st.error(say("admin.taken"))
                return
            add_person(here.user, name.strip(), roles, display=shown.strip())
        if outcome.done:
            done(say("admin.added", name=shown.strip() or name.strip()))


def _change(here: Here, known: list[Person]) -> None:
    say = here.say
    with st.container(border=True):
        st.subheader(say("admin.change"), anchor=False)
        shown = {one.name: f"{one.display} ({one.name})" for one in known}
        name = st.selectbox(
            say("common.name"), shown, index=None, format_func=shown.get, key="change.name"
        )
        if name is None:
            return
        now = next(one for one in known if one.name == name)
        with st.form("admin.change", border=False):
            roles = st.multiselect(
                say("common.roles"),
                [role for role in ROLES if role != "system"],
                default=list(now.roles),
                format_func=lambda role: say(f"common.role_{role}"),
                key=f"change.roles.{now.id}",
            )
            small(say("admin.change_text"))
            sent = st.form_submit_button(say("admin.change"), type="primary")
        if sent:
            with acting(here) as outcome:
                add_person(here.user, name, roles)
            if outcome.done:
                done(say("admin.changed", name=now.display))
