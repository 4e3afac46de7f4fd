"""What stands before every request: who may ask, what is counted, what an error may say."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import time
import traceback
from typing import Any

from fastapi import HTTPException, Request
from starlette.datastructures import MutableHeaders, State
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from allkit.serving.accesses import AccessLog
from allkit.serving.admission import Limits
from allkit.serving.bodies import discard
from allkit.serving.keys import Keys
from allkit.serving.metrics import Metrics
from allkit.serving.rates import Rates

__all__ = ["HEADERS", "Guard", "Key", "is_local", "require_rate", "shown_key", "wrong_key"]

log = logging.getLogger("uvicorn.error")
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer: nothing of it is kept, run, or shown in a frame."""


def is_local(host: str) -> bool:
    """Say whether an address is of this machine only."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


class Key:
    """Lets in who shows a key: in `X-API-Key`, or as `Authorization: Bearer KEY`."""

    def __init__(self, keys: Keys | None, limits: Limits) -> None:
        self._keys, self._limit = keys, limits.request_bytes
        self._rates = Rates(limits.requests_a_minute)

    async def __call__(self, request: Request) -> None:
        """Raise 401 unless the key is right, or there is none; 429 when it asks too often."""
        known = None if self._keys is None else self._keys.known(shown_key(request))
        await require_rate(request, self._rates, known, limit=self._limit)
        if self._keys is not None and known is None:
            await discard(request, self._limit)
            raise wrong_key()


async def require_rate(request: Request, rates: Rates, known: str | None, *, limit: int) -> None:
    """Count a request of a key, given by its id, or of an address. Raises 429 where it is one too many."""
    request.state.key_id = known
    address = request.client.host if request.client else ""
    wait = rates.wait(f"key {known}" if known else f"address {address}")
    if wait:
        await discard(request, limit)
        raise HTTPException(
            429,
            f"More than {rates.a_minute} requests a minute. Wait {wait} s.",
            {"Retry-After": str(wait)},
        )


def shown_key(request: Request) -> str:
    """Return the key of `X-API-Key`, or of `Authorization: Bearer KEY`; `""` without one."""
    kind, _, bearer = request.headers.get("authorization", "").partition(" ")
    return request.headers.get("x-api-key") or (bearer if kind.lower() == "bearer" else "")


def wrong_key() -> HTTPException:
    """Return the answer to who shows no key, or a wrong one."""
    message = "The API key is missing or wrong. Send it in X-API-Key."
    return HTTPException(401, message, {"WWW-Authenticate": "Bearer"})


class Guard:
    """Counts and notes requests, reports errors without their content, closes connections when draining.

    A server that listens on this machine only is not to be reached under another name: a page in
    a browser could bind its own name to the address.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        state: State,
        *,
        local: bool,
        access_log: AccessLog | None = None,
    ) -> None:
        self.app, self.metrics, self.state, self.local = app, metrics, state, local
        self.access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, sent = time.perf_counter(), 500, 0
        smuggled = _smuggles(scope)

        async def watched(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if self.state.draining or smuggled:
                    headers["Connection"] = "close"
            sent += len(message.get("body", b""))
            await send(message)

        try:
            if smuggled:
                said = "The head gives the length of the body in two ways."
                await JSONResponse({"error": said}, 400)(scope, receive, watched)
            elif self.local and not is_local(_host(scope)):
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
            seconds = time.perf_counter() - began
            self.metrics.seconds.labels(endpoint).observe(seconds)
            if self.access_log is not None:
                key = scope.get("state", {}).get("key_id") or ""
                self.access_log.note(
                    scope["method"], endpoint, status=status, seconds=seconds, sent=sent, key=key
                )


def _smuggles(scope: Scope) -> bool:
    """Say whether a proxy before this server may have seen the end of the body elsewhere."""
    names = [name for name, _ in scope["headers"]]
    chunked = b"transfer-encoding" in names
    return chunked and (b"content-length" in names or scope.get("http_version") == "1.0")


def _host(scope: Scope) -> str:
    found: str = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    if found.startswith("["):
        return found[1:].partition("]")[0]
    return found.partition(":")[0]
