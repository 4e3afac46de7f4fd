"""The routes of the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.exceptions import HTTPException as AnyHTTPException

from allkit import __version__
from allkit.errors import ImageError
from allkit.records import Prediction, Predictor
from allkit.runtime.answers import unreadable
from allkit.serving import bodies, protocol
from allkit.serving.accesses import AccessLog
from allkit.serving.admission import Admission, Limits
from allkit.serving.guard import Guard, Key
from allkit.serving.keys import Keys
from allkit.serving.metrics import Metrics
from allkit.serving.queue import Queue

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


def create_app(
    predictor: Predictor,
    *,
    name: str = "allkit",
    key: str | Keys | None = None,
    limits: Limits | None = None,
    local: bool = True,
    routers: Sequence[APIRouter] = (),
    access_log: AccessLog | None = None,
) -> FastAPI:
    """Return the server as an ASGI application; `app.state.draining` tells it that it will end.

    `key` is what clients must show, or several keys; `local` refuses requests that call this machine
    by another name than localhost. `predictor` is asked by one thread. `routers` hold further routes,
    which ask for keys of their own: `key` is not enough for them. `access_log` hears of every request.
    """
    limits = limits or Limits()
    keys = Keys([key]) if isinstance(key, str) else key
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
        openapi_url=None,  # it is one of the routes that ask for a key
    )
    app.state.draining = False
    app.add_middleware(Guard, metrics=metrics, state=app.state, local=local, access_log=access_log)
    documented = [
        Depends(APIKeyHeader(name="X-API-Key", auto_error=False)),
        Depends(HTTPBearer(auto_error=False)),
    ]
    closed = APIRouter(dependencies=[Depends(Key(keys, limits)), *(documented if keys else [])])
    server = Admission(queue, name, limits)
    _health(app, server)
    _answers(closed, server)
    _protocol(closed, server)

    @closed.get("/metrics", summary="Counts and times for Prometheus.", response_class=Response)
    async def metrics_page() -> Response:
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @closed.get("/openapi.json", include_in_schema=False)
    async def description() -> JSONResponse:
        return JSONResponse(app.openapi())

    for router in (closed, *routers):
        app.include_router(router)

    @app.exception_handler(AnyHTTPException)
    async def refused(_: Request, error: AnyHTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    return app


def _health(app: FastAPI, server: Admission) -> None:
    @app.get("/v2/health/live", summary="Whether the server runs.", tags=["health"])
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", summary="Whether it takes requests.", tags=["health"])
    async def ready() -> JSONResponse:
        good = server.queue.alive and not app.state.draining
        return JSONResponse({"ready": good}, 200 if good else 503)


def _answers(router: APIRouter, server: Admission) -> None:
    @router.post(
        "/predict",
        summary="Answer for one image.",
        tags=["allkit"],
        response_model=Prediction,
        openapi_extra={"requestBody": _IMAGE},
        responses={
            401: {"description": "The API key is missing or wrong."},
            400: {"description": "The form cannot be read."},
            408: {"description": "The body is too slow."},
            413: {"description": "The request is too large."},
            415: {"description": "The body is neither a form nor an image."},
            429: {"description": "Too many requests; `Retry-After` says when to come again."},
            422: {
                "description": "The image cannot be read; `error` says why.",
                "model": Prediction,
            },
            503: {"description": "The server is full; `Retry-After` says when to come again."},
        },
    )
    async def predict(request: Request) -> JSONResponse:
        async with server.inside(request) as entered:
            name, image = await bodies.one_file(request, entered.body)
            try:
                (answer,) = await server.answer(entered, [(name, image)])
            except ImageError as error:
                server.queue.metrics.images.labels("unreadable").inc()
                return JSONResponse(unreadable(name, error).to_dict(), 422)
            return JSONResponse(answer.to_dict())


def _protocol(router: APIRouter, server: Admission) -> None:
    @router.get("/v2", summary="What this server is.", tags=["open inference protocol"])
    async def metadata() -> dict[str, Any]:
        return {"name": "allkit", "version": __version__, "extensions": ["binary_tensor_data"]}

    def known(request: Request, model: str) -> None:
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


async def _infer(request: Request, server: Admission) -> Response:
    async with server.inside(request) as entered:
        try:
            asked = await asyncio.to_thread(
                protocol.parse, entered.body, request.headers.get(protocol.HEADER)
            )
            named = [(f"image {index}", image) for index, image in enumerate(asked.images)]
            answers = await server.answer(entered, named)
        except (protocol.ProtocolError, ImageError) as error:
            raise HTTPException(400, str(error)) from None
    content, head = protocol.respond(asked, answers, server.name, VERSION)
    if head is None:
        return Response(content, media_type="application/json")
    return Response(
        content, media_type="application/octet-stream", headers={protocol.HEADER: str(head)}
    )
