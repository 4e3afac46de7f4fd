"""The server of the workplace: Streamlit's own app with our routes, headers and the process that answers."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from workplace.answering import answering
from workplace.headers import SameOrigin, SecurityHeaders
from workplace.routes import routes
from workplace.settings import given, place
from workplace.signing_in import AGAIN

from allkit.clinic.arriving import limit_connections

__all__ = ["app"]

FIRST = "workplace.pages.worklist"
THEN = (
    "workplace.pages.case",
    "workplace.uploads",
    "workplace.explaining",
    "workplace.pages.report",
    "pandas",  # by Streamlit itself, for some of its lists
)
LATER = 3.0
"""Seconds in which the first page has the processor for itself."""
log = logging.getLogger("allkit.app")


@contextlib.asynccontextmanager
async def lifespan(_: Any) -> AsyncIterator[None]:
    """Open the store, import beside the first page what later ones need, and answer while it runs."""
    here = place()
    threading.Thread(target=_warm, daemon=True).start()
    async with answering(here.arguments):
        yield


def _warm() -> None:
    """Import the first page while the browser loads Streamlit's own files, and later what others need."""
    importlib.import_module(FIRST)
    time.sleep(LATER)
    for name in THEN:
        importlib.import_module(name)
    # Streamlit collects garbage after every run of the script: what is there to stay is left out.
    gc.collect()
    gc.freeze()


def failed(error: BaseException) -> bool:
    """Say that something went wrong, without a word of it; the log of the server has it."""
    from workplace.frame import language
    from workplace.texts import texts

    log.error("A page failed.", exc_info=error)
    st.error(texts(language())("frame.error.unexpected"))
    return True


def secrets() -> dict[str, Any] | None:
    """Return the login with a second entry of its provider, which asks for the password in any case."""
    if not given().get("login"):
        return None
    auth: dict[str, Any] = dict(st.secrets["auth"])
    names = ("client_id", "client_secret", "server_metadata_url")
    again: dict[str, Any] = {name: auth[name] for name in names if name in auth}
    wanted = dict(auth.get("client_kwargs", {})) | {"prompt": "login"}
    return {"auth": auth | {AGAIN: again | {"client_kwargs": wanted}}}


limit_connections()
app = st.App(
    Path(__file__).with_name("app.py"),
    routes=routes(),
    middleware=[
        Middleware(SecurityHeaders),  # the outermost: what the others refuse has them too
        Middleware(TrustedHostMiddleware, allowed_hosts=list(given().get("hosts", ["127.0.0.1"]))),
        Middleware(SameOrigin),
    ],
    lifespan=lifespan,
    on_script_error=failed,
    secrets=secrets(),
)
