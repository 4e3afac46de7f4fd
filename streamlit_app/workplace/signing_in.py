"""Recognising who opens a page: by OIDC where it is set up, otherwise whoever sits at this computer."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Hashable, Mapping
from typing import Any, cast

import streamlit as st

from allkit.clinic.access import Role, User, sign_in, sign_in_with_roles
from allkit.errors import AccessError, SignedOutError
from workplace.sessions import SESSIONS, Session
from workplace.settings import Login, Place
from workplace.texts import texts

__all__ = ["AGAIN", "LOCAL", "ask_anew", "come_back", "enter", "leave"]

LOCAL = "this computer"
AGAIN = "again"
"""The name of the provider's second entry, which asks for the password in any case."""
SKEW = 60.0
"""Seconds by which the clock of the provider may be apart from ours."""
_WAITING: dict[str, tuple[float, dict[str, str]]] = {}
_LOCK = threading.Lock()


def enter(place: Place, language: str) -> Session:
    """Return the page's session. Raises `SignedOutError` for who is not signed in.

    With OIDC, a sign-in counts from the moment that its token names: a cookie that is older than the
    idle time of the clinic and unknown here, as after a night, is not enough.
    """
    if place.login is None:
        user = SESSIONS.user(LOCAL, lambda: sign_in(place.store, place.name))
        user.require_awake()
        return _page(LOCAL, user, language)
    claims = dict(st.user)
    if not claims.get("is_logged_in"):
        raise SignedOutError("Nobody is signed in.")
    identity = identity_of(claims)
    if not all(identity):
        raise AccessError(
            "The sign-in does not say who it is of and when it was made (sub, iat). Its provider is none of "
            "OpenID Connect; an admin chooses another one."
        )
    user = SESSIONS.user(identity, lambda: _recognised(place, claims, language))
    user.require_awake()
    return _page(identity, user, language)


def _page(identity: Hashable, user: User, language: str) -> Session:
    known: Session | None = st.session_state.get("session")
    if known is not None and known.identity == identity and known.language == language:
        try:
            return SESSIONS.of(known.token)
        except SignedOutError:
            pass
    st.session_state["session"] = made = SESSIONS.open(identity, user, language)
    return made


def identity_of(claims: Mapping[str, Any]) -> tuple[str, str]:
    """Return what tells one sign-in from another: the person, and when their token was made."""
    return str(claims.get("sub", "")), str(claims.get("iat", ""))


def proved_at(claims: Mapping[str, Any]) -> float:
    """Return when the person proved who they are, in seconds since 1970; 0 where nothing says it.

    That is `auth_time`. A provider that leaves it out is believed only where it was told to ask: else it
    may have let somebody in again by itself, hours after the password.
    """
    name = "auth_time" if "auth_time" in claims or claims.get("provider") != AGAIN else "iat"
    return _seconds(claims, name)


def _recognised(place: Place, claims: Mapping[str, Any], language: str) -> User:
    login = place.login
    if login is None:
        raise SignedOutError("There is no login.")
    name = claims.get(login.claim)
    if not isinstance(name, str) or not name:
        raise AccessError(
            f"The sign-in holds no {login.claim!r}. An admin sets `claim` in the table [allkit] of the "
            "secrets to one that it has."
        )
    if claims.get("email_verified") is False and login.claim == "email":
        raise AccessError(f"The address {name} is not verified by who manages the sign-in.")
    minutes = _idle_minutes(place)
    if time.time() - _seconds(claims, "iat") > 60 * minutes + SKEW:
        raise SignedOutError("The sign-in is too old. Sign in again.")
    user = _user(place, login, name, claims)
    if user is None:
        raise AccessError(texts(language)("frame.no_role", name=name))
    user.confirmed = user.clock() - max(0.0, time.time() - proved_at(claims))
    return user


def _user(place: Place, login: Login, name: str, claims: Mapping[str, Any]) -> User | None:
    """Return the user; `None` for who has no role by the groups of the directory, and loses all here."""
    if not login.roles_claim:
        return sign_in(place.store, name)
    held = claims.get(login.roles_claim) or []
    values = [held] if isinstance(held, str) else [str(one) for one in held]
    # What the secrets name is checked by `sign_in_with_roles`.
    roles = [cast(Role, login.roles[v]) for v in values if v in login.roles]
    if not roles:
        with contextlib.suppress(AccessError):
            sign_in_with_roles(place.store, name, ())
        return None
    return sign_in_with_roles(place.store, name, roles, display=str(claims.get("name") or ""))


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    try:
        return float(claims[name])
    except (KeyError, TypeError, ValueError):
        return 0.0


def _idle_minutes(place: Place) -> float:
    with place.store.read() as connection:
        minutes: float = place.store.setting("idle_minutes", connection)
    return minutes


def ask_anew(identity: Hashable, query: Mapping[str, str]) -> None:
    """Send the browser to the provider, which asks who it is; the page comes back to where it was."""
    with _LOCK:
        _WAITING[_subject(identity)] = (time.time(), dict(query))
    st.login(AGAIN)
    st.stop()


def come_back(identity: Hashable) -> dict[str, str] | None:
    """Return where a page was before its user was asked anew, once; `None` where it was not."""
    with _LOCK:
        waiting = _WAITING.pop(_subject(identity), None)
    if waiting is None or time.time() - waiting[0] > 600:
        return None
    return waiting[1]


def _subject(identity: Hashable) -> str:
    return identity[0] if isinstance(identity, tuple) else str(identity)


def leave(session: Session, place: Place) -> None:
    """Sign out: all pages of this sign-in."""
    SESSIONS.end(session.identity, again=place.login is None)
    st.session_state.pop("session", None)
    if place.login is not None:
        st.logout()
