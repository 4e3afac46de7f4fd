"""A page of the workplace for tests: who sits before it, and where it sent them."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from allkit.clinic.access import User

sys.path.insert(0, str(Path(__file__).parents[1] / "streamlit_app"))

from workplace.here import Here
from workplace.sessions import Session
from workplace.settings import Place
from workplace.texts import texts


@dataclass(frozen=True)
class Before(Here):
    """The surroundings of a page, which notes where it would go and stops there."""

    gone: list[Any] = field(default_factory=list)

    def go(self, page: str, **query: str) -> None:
        import streamlit as st

        self.gone.append((page, query))
        st.stop()


def before(user: User, *, language: str = "en", **place: Any) -> Before:
    values = {"name": user.name, "login": None, "hosts": ("localhost",)} | place
    session = Session("token", user, "this computer", language)
    return Before(session, texts(language), Place(store=user.store, **values))


def _script(name, here):
    import importlib

    importlib.import_module(f"workplace.pages.{name}").show(here)


def page(name: str, here: Here, **query: str) -> AppTest:
    """A page that has run once; it raised nothing."""
    at = AppTest.from_function(_script, args=(name, here), default_timeout=20)
    for key, value in query.items():
        at.query_params[key] = value
    return ran(at)


def ran(at: Any) -> AppTest:
    """The page after another run, in which it raised nothing; a widget of it is run too."""
    run = at.run()
    assert not run.exception, run.exception[0].message
    return run


def words(at: AppTest) -> str:
    """Everything that a page says in its own words."""
    kinds = ("text", "markdown", "caption", "header", "subheader", "error", "warning", "success")
    said = [str(one.value) for kind in kinds for one in getattr(at, kind)]
    said += [one.label for kind in ("button", "checkbox", "radio") for one in getattr(at, kind)]
    return "\n".join(said)
