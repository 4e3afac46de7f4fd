"""What every page is given: who sits before it, in which language it speaks, where it works."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from allkit.clinic.access import User, settings_of
from workplace.sessions import Session
from workplace.settings import Place
from workplace.signing_in import ask_anew
from workplace.texts import Texts

__all__ = ["PAGES", "Here"]

PAGES = ("start", "worklist", "case", "report", "quality", "models", "admin", "help")


@dataclass(frozen=True)
class Here:
    """A page's surroundings. `token` lets its components ask the server in the user's name."""

    session: Session
    say: Texts
    place: Place

    @property
    def user(self) -> User:
        """Who sits before the page."""
        return self.session.user

    @property
    def token(self) -> str:
        """What components send in the header `X-Allkit-Session`."""
        return self.session.token

    @property
    def roles(self) -> tuple[str, ...]:
        """The user's roles, as they are now."""
        from allkit.clinic.access import person

        with self.user.store.read() as connection:
            return tuple(person(connection, self.user.id).roles)

    def go(self, page: str, **query: str) -> None:
        """Go to another page."""
        pages = st.session_state["pages"]
        st.switch_page(pages[page], query_params=query)

    def confirm_identity(self) -> None:
        """Have the user prove anew who they are; with a login the page is left and comes back."""
        if self.place.login is None:
            self.user.confirm()
            return
        ask_anew(self.session.identity, dict(st.query_params))

    @property
    def confirmed(self) -> bool:
        """Whether the user proved who they are within the minutes that a signature allows."""
        minutes: float = settings_of(self.user)["confirm_signature_minutes"]
        return self.user.clock() - self.user.confirmed <= 60 * minutes
