"""The routes of the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.exceptions import HTTPException as AnyHTTPException

from allkit import __version__
from allkit.errors import ImageError
from allkit.images.batches import cores
from allkit.images.decode import read_image, read_info
from allkit.images.profiles import foreign_profile
from allkit.records import Prediction, Predictor
from allkit.runtime.answers import unreadable, with_profile
from allkit.serving import bodies, protocol
from allkit.serving.guard import Guard, Key
from allkit.serving.metrics import Metrics
from allkit.serving.queue import Full, Queue
from allkit.types import Pixels

__all__ = ["VERSION", "Limits", "create_app"]

VERSION = "1"
"""Version of the one model that is served, as the protocol wants it."""

_IMAGE = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"image": {"type": "string", "format": "binary"}},
                "required": ["image"],
            }
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
    },
}


@dataclass(frozen=True)
class Limits:
    """How much may be inside at once: images, bytes of one request, bytes in all."""

    images: int = 256
    request_bytes: int = 32 * 2**20
    memory: int = 2**30


def create_app(
    predictor: Predictor,
    *,
    name: str = "allkit",
    key: str | None = None,
    limits: Limits | None = None,
    local: bool = True,
    routers: Sequence[APIRouter] = (),
) -> FastAPI:
    """Return the server as an ASGI application; `app.state.draining` tells it that it will end.

    `key` is what clients must show; `local` refuses requests that call this machine by another
    name than localhost. `predictor` is asked by one thread. `routers` hold further routes, which ask for
    keys of their own: `key` is not enough for them.
    """
    limits = limits or Limits()
    metrics = Metrics()
    queue = Queue(predictor, metrics, limit=limits.images, memory=limits.memory)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(queue.start)
        yield
        await queue.close()

    app = FastAPI(
        title="allkit",
        version=__version__,
        lifespan=lifespan,
        summary="Answers for blood-smear images. Research use; not a diagnosis.",
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.draining = False
    app.add_middleware(Guard, metrics=metrics, state=app.state, local=local)
    documented = [
        Depends(APIKeyHeader(name="X-API-Key", auto_error=False)),
        Depends(HTTPBearer(auto_error=False)),
    ]
    closed = APIRouter(
        dependencies=[Depends(Key(key, limits.request_bytes)), *(documented if key else [])]
    )
    server = _Server(queue, name, limits)
    _health(app, server)
    _answers(closed, server)
    _protocol(closed, server)

    @closed.get("/metrics", summary="Counts and times for Prometheus.", response_class=Response)
    async def metrics_page() -> Response:
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    for router in (closed, *routers):
        app.include_router(router)

    @app.exception_handler(AnyHTTPException)
    async def refused(_: Request, error: AnyHTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    return app


class _Server:
    """What the routes share: reading images within limits, and asking for answers."""

    def __init__(self, queue: Queue, name: str, limits: Limits) -> None:
        self.queue, self.name, self.limits = queue, name, limits
        self.readers = asyncio.Semaphore(max(2, cores()))

    @contextlib.asynccontextmanager
    async def inside(self, request: Request) -> AsyncIterator[bytes]:
        """Give the body of a request, while there is room for it; 413, 408 or 503 otherwise."""
        limit = self.limits.request_bytes
        try:
            expected = bodies.announced(request, limit)
            with self.queue.room(images=1, memory=expected):
                yield await bodies.read(request, limit)
        except Full:
            await bodies.discard(request, limit)
            raise HTTPException(
                503, "The server is full. Try again in a moment.", {"Retry-After": "1"}
            ) from None
        except HTTPException as error:
            if error.status_code in (413, 415):
                await bodies.discard(request, limit)
            raise

    async def answer(self, images: Sequence[tuple[str, bytes | Pixels]]) -> list[Prediction]:
        """Read and answer; the request itself holds room for the first image.

        Raises `ImageError` for the first image that cannot be read, and `Full`.
        """
        if len(images) > self.limits.images:
            raise HTTPException(
                413, f"{len(images)} images at once; the limit is {self.limits.images}."
            )
        with contextlib.ExitStack() as rooms:
            rooms.enter_context(self.queue.room(images=len(images) - 1))

            async def load(name: str, image: bytes | Pixels) -> tuple[str, Pixels]:
                async with self.readers:
                    size = await asyncio.to_thread(_size, name, image)
                    rooms.enter_context(self.queue.room(memory=size))
                    return name, await asyncio.to_thread(read_image, image, name=name)

            # All end before the room is given back, also when one of them fails.
            read = await asyncio.gather(*(load(*image) for image in images), return_exceptions=True)
            for outcome in read:
                if isinstance(outcome, BaseException):
                    raise outcome
            answers = await self.queue.answer([o for o in read if not isinstance(o, BaseException)])
        return [
            with_profile(answer, "" if isinstance(image, np.ndarray) else foreign_profile(image))
            for answer, (_, image) in zip(answers, images, strict=True)
        ]


def _size(name: str, image: bytes | Pixels) -> int:
    """Return the bytes of the pixels, from the header."""
    if isinstance(image, np.ndarray):
        return image.nbytes
    info = read_info(image, name=name)
    return info.width * info.height * 3


def _health(app: FastAPI, server: _Server) -> None:
    @app.get("/v2/health/live", summary="Whether the server runs.", tags=["health"])
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", summary="Whether it takes requests.", tags=["health"])
    async def ready() -> JSONResponse:
        good = server.queue.alive and not app.state.draining
        return JSONResponse({"ready": good}, 200 if good else 503)


def _answers(router: APIRouter, server: _Server) -> None:
    @router.post(
        "/predict",
        summary="Answer for one image.",
        tags=["allkit"],
        response_model=Prediction,
        openapi_extra={"requestBody": _IMAGE},
        responses={
            401: {"description": "The API key is missing or wrong."},
            413: {"description": "The request is too large."},
            422: {
                "description": "The image cannot be read; `error` says why.",
                "model": Prediction,
            },
            503: {"description": "The server is full; `Retry-After` says when to come again."},
        },
    )
    async def predict(request: Request) -> JSONResponse:
        async with server.inside(request) as body:
            name, image = await bodies.one_file(request, body)
            try:
                (answer,) = await server.answer([(name, image)])
            except ImageError as error:
                server.queue.metrics.images.labels("unreadable").inc()
                return JSONResponse(unreadable(name, error).to_dict(), 422)
            return JSONResponse(answer.to_dict())


def _protocol(router: APIRouter, server: _Server) -> None:
    @router.get("/v2", summary="What this server is.", tags=["open inference protocol"])
    async def metadata() -> dict[str, Any]:
        return {"name": "allkit", "version": __version__, "extensions": ["binary_tensor_data"]}

    def known(request: Request) -> None:
        model = request.path_params["model"]
        version = request.path_params.get("version", VERSION)
        if model != server.name:
            raise HTTPException(404, f"There is no model {model!r}; there is {server.name!r}.")
        if version != VERSION:
            raise HTTPException(404, f"There is no version {version!r}; there is {VERSION!r}.")

    here = [Depends(known)]
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        shown: dict[str, Any] = {
            "dependencies": here,
            "tags": ["open inference protocol"],
            "include_in_schema": "{version}" not in path,
        }

        @router.get(path, summary="What the model takes and gives.", **shown)
        async def model_metadata() -> dict[str, Any]:
            return protocol.model_metadata(server.name, VERSION, server.queue.predictor.classes)

        @router.get(f"{path}/ready", summary="Whether the model takes requests.", **shown)
        async def model_ready() -> JSONResponse:
            good = server.queue.alive
            return JSONResponse({"name": server.name, "ready": good}, 200 if good else 503)

        @router.post(f"{path}/infer", summary="Answer for a batch of images.", **shown)
        async def infer(request: Request) -> Response:
            return await _infer(request, server)


async def _infer(request: Request, server: _Server) -> Response:
    async with server.inside(request) as body:
        try:
            asked = await asyncio.to_thread(
                protocol.parse, body, request.headers.get(protocol.HEADER)
            )
            named = [(f"image {index}", image) for index, image in enumerate(asked.images)]
            answers = await server.answer(named)
        except (protocol.ProtocolError, ImageError) as error:
            raise HTTPException(400, str(error)) from None
    content, head = protocol.respond(asked, answers, server.name, VERSION)
    if head is None:
        return Response(content, media_type="application/json")
    return Response(
        content, media_type="application/octet-stream", headers={protocol.HEADER: str(head)}
    )
