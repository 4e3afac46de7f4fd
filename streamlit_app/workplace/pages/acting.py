"""What the clinic refuses is told here, as a sentence and never as a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from allkit.clinic.search import resolve
from allkit.errors import AllkitError, ClinicError, SignedOutError
from workplace.plain import in_the_browser, plain

if TYPE_CHECKING:
    from workplace.here import Here

__all__ = ["Outcome", "acting", "done", "known", "tell_done", "to_worklist"]

DONE = "workplace.done"
SIGNED_OUT = "workplace.signed_out"


@dataclass
class Outcome:
    """Whether what stood in a `with acting(here)` block was done."""

    done: bool = False


@contextlib.contextmanager
def acting(here: Here) -> Iterator[Outcome]:
    """Run what asks the clinic for something; tell what it refuses, and go on behind the block.

    Who is signed out meanwhile is sent to the sign-in of the frame.
    """
    outcome = Outcome()
    try:
        yield outcome
        outcome.done = True
    except SignedOutError as error:
        _to_sign_in(here, error)
    except AllkitError as error:
        st.error(plain(in_the_browser(str(error))))


def _to_sign_in(here: Here, error: SignedOutError) -> None:
    # Once by itself: were the frame not to know of it, the page would run for ever.
    if not st.session_state.get(SIGNED_OUT):
        st.session_state[SIGNED_OUT] = True
        st.rerun()
    st.error(plain(in_the_browser(str(error))))
    if st.button(here.say("common.sign_in_again"), key="common.sign_in_again"):
        st.rerun()
    st.stop()


def done(text: str) -> None:
    """Run the page anew and say there what was done."""
    st.session_state[DONE] = text
    st.rerun()


def tell_done() -> None:
    """Say what the run before did; every page begins with it."""
    text = st.session_state.pop(DONE, "")
    st.session_state.pop(SIGNED_OUT, None)
    if text:
        st.toast(plain(text))


def known(here: Here, case: str) -> bool:
    """Whether there is a case of this id."""
    try:
        return resolve(here.user, case, whole=True) == case
    except SignedOutError:
        raise
    except ClinicError:
        return False


def to_worklist(here: Here, why: str) -> None:
    """Say why no case is shown, and offer the worklist."""
    st.write(here.say(f"case.{why}"))
    if st.button(here.say("case.to_worklist"), key="case.to_worklist"):
        here.go("worklist")
