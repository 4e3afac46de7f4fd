"""What every answer of the server says to the browser, and which names it answers to."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import streamlit
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

__all__ = ["SameOrigin", "SecurityHeaders", "policy"]

_INLINE = re.compile(r"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.S)
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]


def inline_scripts(page: str) -> list[str]:
    """Return the hash of each script that stands in Streamlit's own page, as a policy names it."""
    hashes = (hashlib.sha256(code.encode()).digest() for code in _INLINE.findall(page))
    return [f"'sha256-{base64.b64encode(one).decode()}'" for one in hashes]


def policy(scripts: Sequence[str], host: str) -> str:
    """Return the Content-Security-Policy: nothing from elsewhere, no code from text.

    `blob:` is how Streamlit loads the scripts of components; styles are written into the page by it.
    """
    rules = {
        "default-src": ["'self'"],
        "script-src": ["'self'", "blob:", *scripts],
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:", "blob:"],
        "font-src": ["'self'", "data:"],
        # Not all browsers count the web socket of the same host as 'self'.
        "connect-src": ["'self'", f"ws://{host}", f"wss://{host}"],
        "worker-src": ["'self'", "blob:"],
        "frame-src": ["'none'"],
        "object-src": ["'none'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
    return "; ".join(f"{name} {' '.join(values)}" for name, values in rules.items())


class SameOrigin:
    """Refuses what a page of another origin starts: Streamlit itself compares names, and not ports.

    A web socket is opened by any page without asking; what comes over it are the tokens of pages. Programs
    that are no browser send no origin, and are not what is kept away here.
    """

    SAFE = ("GET", "HEAD", "OPTIONS")
    HIDDEN = ("/_stcore/metrics",)

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        kind = scope["type"]
        if kind not in ("http", "websocket"):  # the server's own start and end
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        changes = kind == "websocket" or scope.get("method") not in self.SAFE
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc != headers.get("host", "")
        names = headers.keys()
        smuggled = "transfer-encoding" in names and "content-length" in names
        if smuggled:  # a proxy may have seen the end of the body elsewhere
            await Response(status_code=400, headers={"Connection": "close"})(scope, receive, send)
        elif kind == "websocket" and foreign:
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif kind == "http" and ((changes and foreign) or scope["path"] in self.HIDDEN):
            status = 404 if scope["path"] in self.HIDDEN else 403
            await Response(status_code=status)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class SecurityHeaders:
    """Adds the headers to every answer, of Streamlit's routes and of ours."""

    def __init__(self, app: Any) -> None:
        self.app = app
        page = (Path(streamlit.__file__).parent / "static" / "index.html").read_text("utf-8")
        self._scripts = inline_scripts(page)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        host = Headers(scope=scope).get("host", "")

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = policy(self._scripts, host)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["X-Frame-Options"] = "DENY"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Permissions-Policy"] = "camera=(), microphone=(), geolocation=()"
                headers["Cross-Origin-Opener-Policy"] = "same-origin"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
            await send(message)

        await self.app(scope, receive, with_headers)
