"""What stands before every request: who may ask, what is counted, what an error may say."""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import logging
import time
import traceback
from typing import Any

from fastapi import HTTPException, Request
from starlette.datastructures import MutableHeaders, State
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from allkit.serving.bodies import discard
from allkit.serving.metrics import Metrics

__all__ = ["Guard", "Key", "is_local", "shown_key", "wrong_key"]

log = logging.getLogger("uvicorn.error")


def is_local(host: str) -> bool:
    """Say whether an address is of this machine only."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


class Key:
    """Lets in who shows the key: in `X-API-Key`, or as `Authorization: Bearer KEY`."""

    def __init__(self, key: str | None, limit: int) -> None:
        self._key = None if key is None else key.encode()
        self._limit = limit

    async def __call__(self, request: Request) -> None:
        """Raise 401 unless the key is right, or there is none."""
        if self._key is None:
            return
        shown = shown_key(request).encode("latin-1", "replace")
        # In constant time: how long it takes must not tell how much of a guess was right.
        if not hmac.compare_digest(shown, self._key):
            await discard(request, self._limit)
            raise wrong_key()


def shown_key(request: Request) -> str:
    """Return the key of `X-API-Key`, or of `Authorization: Bearer KEY`; `""` without one."""
    kind, _, bearer = request.headers.get("authorization", "").partition(" ")
    return request.headers.get("x-api-key") or (bearer if kind.lower() == "bearer" else "")


def wrong_key() -> HTTPException:
    """Return the answer to who shows no key, or a wrong one."""
    message = "The API key is missing or wrong. Send it in X-API-Key."
    return HTTPException(401, message, {"WWW-Authenticate": "Bearer"})


class Guard:
    """Counts requests, reports errors without their content, and closes connections when draining.

    A server that listens on this machine only is not to be reached under another name: a page in
    a browser could bind its own name to the address.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, state: State, *, local: bool) -> None:
        self.app, self.metrics, self.state, self.local = app, metrics, state, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["Cache-Control"] = "no-store"
                headers["X-Content-Type-Options"] = "nosniff"
                if self.state.draining:
                    headers["Connection"] = "close"
            await send(message)

        try:
            if self.local and not is_local(_host(scope)):
                answer = JSONResponse({"error": "This server is local; call it localhost."}, 421)
                await answer(scope, receive, watched)
            else:
                await self.app(scope, receive, watched)
        except Exception as error:
            # Its text may hold a file's name; where it happened does not.
            places = "".join(traceback.format_tb(error.__traceback__)[-3:])
            log.error("%s in the server:\n%s", type(error).__name__, places)
            if status != 500:
                raise
            with contextlib.suppress(Exception):
                answer = JSONResponse({"error": "The server failed on this request."}, 500)
                await answer(scope, receive, watched)
        finally:
            route: Any = scope.get("route")
            endpoint = getattr(route, "path", "other")
            self.metrics.requests.labels(endpoint, str(status)).inc()
            self.metrics.seconds.labels(endpoint).observe(time.perf_counter() - began)


def _host(scope: Scope) -> str:
    found: str = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    if found.startswith("["):
        return found[1:].partition("]")[0]
    return found.partition(":")[0]
