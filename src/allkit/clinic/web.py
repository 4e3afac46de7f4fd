"""What stands before every route of the clinic: who asks, what may come in, what an error says."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from typing import Any

import sqlalchemy as sa
from fastapi import HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from allkit.clinic import forms
from allkit.clinic.access import READERS, User, sign_in_by_key
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Store
from allkit.errors import AccessError, AllkitError, ClinicError, ConfigError, StoreError
from allkit.serving import bodies
from allkit.serving.admission import FULL, Limits
from allkit.serving.guard import require_rate, shown_key, wrong_key
from allkit.serving.keys import id_of
from allkit.serving.rates import Rates
from allkit.serving.space import Full, Space

__all__ = [
    "BINARY",
    "TEXT",
    "Bodies",
    "ClinicRoute",
    "SignedIn",
    "body_of",
    "errors",
    "kind_of",
    "reads",
    "require_known",
    "user_of",
]

_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
TEXT: dict[str, Any] = {"schema": {"type": "string"}}
_ERRORS = {
    400: "The body cannot be read.",
    401: "The key is missing, wrong or revoked.",
    403: "Whose key it is has no role for this.",
    404: "There is no such case or version.",
    408: "The body is too slow.",
    409: "The state of the case does not allow it, or it contradicts what is known.",
    413: "The body is too large.",
    415: "The body has another media type than is taken.",
    422: "A value is wrong; `error` names it.",
    429: "Too many requests; `Retry-After` says when to come again.",
    501: "The server lacks a library for this.",
    503: "The store is away or the server is full; `Retry-After` says when to come again.",
    507: "The disk of the clinic is full.",
}
AWAY = "The clinic's store cannot be used now. Try again later; its admin finds out why."


class ClinicRoute(APIRoute):
    """A route whose errors are answers: a sentence, and never what the database says."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                raise HTTPException(422, forms.sentence(list(error.errors()))) from None
            except AllkitError as error:
                raise _told(error) from None
            except sa.exc.TimeoutError:  # more requests at once than connections
                raise HTTPException(503, AWAY, {"Retry-After": "5"}) from None

        return answer


def _told(error: AllkitError) -> HTTPException:
    # The text of a database may hold values of a row.
    if isinstance(error, StoreError):
        return HTTPException(503, AWAY, {"Retry-After": "5"})
    if isinstance(error, AccessError):
        return HTTPException(403, str(error))
    if isinstance(error, ConfigError):
        return HTTPException(501, str(error))
    return HTTPException(409 if isinstance(error, ClinicError) else 422, str(error))


class SignedIn:
    """Lets in who shows a key of a person or machine of the clinic, and notes whose it is."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store, self._limit = store, limits.request_bytes
        self._rates = Rates(limits.requests_a_minute)

    async def __call__(self, request: Request) -> None:
        """Raise 401 unless the key is one of the clinic, and 429 when it asks too often."""
        shown = shown_key(request)
        user = await run_in_threadpool(sign_in_by_key, self._store, shown) if shown else None
        known = None if user is None else id_of(shown)
        await require_rate(request, self._rates, known, limit=self._limit)
        if user is None:
            await bodies.discard(request, self._limit)
            raise wrong_key()
        request.state.user = user


def user_of(request: Request) -> User:
    """Return who asks."""
    user: User = request.state.user
    return user


def reads(user: User) -> bool:
    """Return whether somebody may see readings."""
    return bool(set(user.person.roles) & set(READERS))


class Bodies:
    """Reads bodies within the limits of the server: each, and all that are inside together."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._space = Space(limits.images, limits.memory)

    @contextlib.asynccontextmanager
    async def inside(self, request: Request, limit: int) -> AsyncIterator[bytes]:
        """Give a body of at most `limit` bytes while there is room for it; 413, 408 or 503 otherwise."""
        limit = min(limit, self.limits.request_bytes)
        try:
            with self._space.held() as held:
                yield await bodies.read(request, limit, held)
        except Full:
            await bodies.discard(request, self.limits.request_bytes)
            raise FULL from None
        except HTTPException as error:
            if error.status_code in (413, 415):
                await bodies.discard(request, self.limits.request_bytes)
            raise


def errors(codes: Collection[int] = ()) -> dict[int | str, dict[str, Any]]:
    """Return what the description of a route says of its errors: of some codes, and of those of all."""
    always = (401, 403, 422, 429, 503)
    return {
        code: {"model": forms.Error, "description": _ERRORS[code]}
        for code in sorted({*always, *codes})
    }


def body_of(content: dict[str, Any]) -> dict[str, Any]:
    """Return what the description of a route says of its body."""
    return {"requestBody": {"required": True, "content": content}}


def kind_of(request: Request, *taken: str) -> str:
    """Return the media type of a body. Raises 415 for another than is taken."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in taken:
        raise HTTPException(415, f"Send the body as one of {', '.join(taken)}.")
    return kind


def require_known(connection: sa.Connection, case: str) -> None:
    """Raise 404 where there is no case of an id."""
    where = t.cases.c.id == case
    if not _ID.fullmatch(case) or connection.scalar(sa.select(t.cases.c.id).where(where)) is None:
        raise HTTPException(404, "There is no case of this id. List them at /clinic/cases.")
