"""Who is signed in: one user for each sign-in, one token for each open page.

A page's components ask for a case with the token in a header, which no other site can send and no cookie
carries. It lives in this process only, is worth no more than its user may do, and ends when the user was
idle for too long.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from allkit.clinic.access import User
from allkit.errors import SignedOutError

__all__ = ["SESSIONS", "Session", "Sessions"]

MOST = 10_000
"""Tokens that are known at once; the oldest go first."""


@dataclass(frozen=True)
class Session:
    """An open page: its token, who sits before it, and the language that it speaks."""

    token: str
    user: User
    identity: Hashable
    language: str


class Sessions:
    """The users who are signed in, by what recognised them, and the tokens of their pages."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._users: dict[Hashable, User] = {}
        self._ended: dict[Hashable, float] = {}
        self._pages: dict[str, Session] = {}

    def user(self, identity: Hashable, sign_in: Callable[[], User]) -> User:
        """Return the user of an identity, who is signed in at its first page.

        Raises `SignedOutError` for an identity that has ended: the same cookie does not come back.
        """
        with self._lock:
            if identity in self._ended:
                raise SignedOutError("This sign-in has ended. Sign in again.")
            known = self._users.get(identity)
        if known is not None:
            return known
        user = sign_in()
        with self._lock:
            return self._users.setdefault(identity, user)

    def open(self, identity: Hashable, user: User, language: str) -> Session:
        """Return a new page of a user."""
        session = Session(secrets.token_urlsafe(32), user, identity, language)
        with self._lock:
            self._pages[session.token] = session
            while len(self._pages) > MOST:
                del self._pages[next(iter(self._pages))]
        return session

    def of(self, token: str) -> Session:
        """Return the page of a token. Raises `SignedOutError` for one that is not known."""
        with self._lock:
            session = self._pages.get(token)
        if session is None:
            raise SignedOutError("This page is not signed in. Reload it.")
        return session

    def end(self, identity: Hashable, *, again: bool = False) -> None:
        """Sign out: no page of an identity works any more. `again` lets the same identity come back."""
        with self._lock:
            self._users.pop(identity, None)
            for token in [t for t, s in self._pages.items() if s.identity == identity]:
                del self._pages[token]
            if not again:
                self._ended[identity] = self._clock()
                while len(self._ended) > MOST:
                    del self._ended[next(iter(self._ended))]


SESSIONS = Sessions()
