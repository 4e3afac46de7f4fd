"""What the components of a page ask the server for. Every route wants the token of a page."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from allkit.clinic.arriving import paced
from allkit.clinic.cases import create
from allkit.clinic.fields import image_of, sha256_of_field
from allkit.clinic.reading import Item, Sent, read_many
from allkit.clinic.records import Identifier, Specimen
from allkit.errors import AccessError, AllkitError, SignedOutError, StoreError
from workplace.pictures import PICTURES, SIDES
from workplace.plain import in_the_browser
from workplace.screens import screen, version
from workplace.sessions import SESSIONS, Session
from workplace.texts import Texts, texts

__all__ = ["HEADER", "MOST_ITEMS", "routes"]

log = logging.getLogger("allkit.app")
HEADER = "X-Allkit-Session"
MOST_ITEMS = 100
MOST_JSON = 2**20
Answer = Callable[[Request, Session], Response]
KINDS = ("label", "accept", "undo", "note")


def told(say: Texts, code: str, status: int, sentence: str = "") -> JSONResponse:
    """Return an error as JSON."""
    return JSONResponse({"error": sentence or say(f"frame.error.{code}"), "code": code}, status)


def of_error(say: Texts, error: AllkitError) -> JSONResponse:
    """Return what an error of the clinic says; of the database nothing is told."""
    if isinstance(error, SignedOutError):
        return told(say, "signed_out", 401)
    if isinstance(error, AccessError):
        return told(say, "forbidden", 403, in_the_browser(str(error)))
    if isinstance(error, StoreError):
        return told(say, "database", 503)
    return told(say, "conflict", 409, in_the_browser(str(error)))


class Refused(Exception):
    """A request that cannot be answered: its code and its status."""

    def __init__(self, code: str, status: int) -> None:
        super().__init__(code)
        self.code, self.status = code, status


def guarded(answer: Any) -> Any:
    """Let a route answer only who shows the token of a page; errors become answers."""

    @functools.wraps(answer)
    async def route(request: Request) -> Response:
        say = texts("en")
        try:
            session = SESSIONS.of(request.headers.get(HEADER, ""))
            say = texts(session.language)
            answered: Response = await answer(request, session, say)
            return answered
        except Refused as error:
            return told(say, error.code, error.status)
        except AllkitError as error:
            return of_error(say, error)
        except TimeoutError:
            return told(say, "too_slow", 408)
        except ClientDisconnect:  # a page that was closed; nobody reads the answer
            return Response(status_code=400)
        except Exception:
            # Beyond this place no header would be set, and nothing said in the user's language.
            log.exception("A request failed.")
            return told(say, "unexpected", 500)

    return route


def signed_in(answer: Any) -> Any:
    """Let a function answer, in a thread, what is asked with a small body or none."""

    @guarded
    @functools.wraps(answer)
    async def route(request: Request, session: Session, say: Texts) -> Response:
        body = await body_of(request)
        return await run_in_threadpool(answer, request, session, body)

    return route


async def body_of(request: Request) -> Any:
    """Return the JSON of a request. Raises `Refused` where it is none, or too large."""
    if request.method != "POST":
        return None
    data = bytearray()
    async for piece in paced(request.stream()):
        data += piece
        if len(data) > MOST_JSON:
            raise Refused("too_large", 413)
    if not data:
        return {}
    try:
        found = json.loads(data)
        # No file and no database can hold half of a character.
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Refused("invalid", 422) from None
    if not isinstance(found, dict):
        raise Refused("invalid", 422)
    return found


# ── a case ────────────────────────────────────────────────────────────────────────────────────


@signed_in
def case_screen(request: Request, session: Session, body: Any) -> Response:
    """Give the screen of a case; nothing where the browser has it."""
    case = request.path_params["case"]
    tag = f'"{version(session.user, case, session.language)}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    found = screen(session.user, case, texts(session.language))
    return JSONResponse(found, headers=headers | {"ETag": f'"{found["version"]}"'})


@signed_in
def readings(request: Request, session: Session, body: Any) -> Response:
    """Keep what a reader did; when the answer goes out it is on the disk."""
    items = items_of(body)
    errors = read_many(session.user, request.path_params["case"], items)
    results = [
        {"seq": item.sent.seq, "ok": not error}
        | ({"error": in_the_browser(error)} if error else {})
        for item, error in zip(items, errors, strict=True)
    ]
    return JSONResponse({"results": results})


def items_of(body: Any) -> list[Item]:
    """Return what a page sent. Raises `Refused` for what it would never send."""
    client, sent = body.get("client"), body.get("items")
    if not isinstance(client, str) or not 1 <= len(client) <= 64 or not isinstance(sent, list):
        raise Refused("invalid", 422)
    if len(sent) > MOST_ITEMS:
        raise Refused("too_large", 413)
    return [_item(client, one) for one in sent]


def _item(client: str, one: Any) -> Item:
    if not isinstance(one, dict) or one.get("kind") not in KINDS:
        raise Refused("invalid", 422)
    seq = one.get("seq")
    texts_ = {name: one.get(name) or "" for name in ("field", "label", "why", "text")}
    if not isinstance(seq, int) or isinstance(seq, bool) or not 0 <= seq < 2**31:
        raise Refused("invalid", 422)
    if not all(isinstance(value, str) for value in texts_.values()):
        raise Refused("invalid", 422)
    text = texts_["text"] if one["kind"] == "note" else texts_["why"]
    return Item(Sent(client, seq), one["kind"], texts_["field"], texts_["label"], text=text)


@signed_in
def new_case(request: Request, session: Session, body: Any) -> Response:
    """Open a case for what is about to be uploaded."""
    names = ("patient", "order", "stain", "number", "kind", "collected")
    values = {name: body.get(name) or "" for name in names}
    if not all(isinstance(value, str) for value in values.values()):
        raise Refused("invalid", 422)
    specimen = Specimen(
        values["kind"] or "blood",
        values["collected"] or None,
        values["stain"] or None,
        values["number"] or None,
    )
    case = create(
        session.user,
        specimen_=specimen,
        patient=values["patient"].strip() or None,
        order=Identifier(values["order"].strip()) if values["order"].strip() else None,
    )
    return JSONResponse({"case": case})


# ── pictures ──────────────────────────────────────────────────────────────────────────────────


@signed_in
def picture(request: Request, session: Session, body: Any) -> Response:
    """Give the picture of a field."""
    field, side = request.path_params["field"], _side(request)
    # Small pictures are fetched by scrolling or by themselves; a large one somebody looks at.
    sha256 = sha256_of_field(session.user, field, polling=side == SIDES[0])
    tag = f'"{sha256[:32]}-{side}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=3600"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    made = PICTURES.of(sha256, side, lambda: image_of(session.user, field))
    return Response(made, media_type="image/jpeg", headers=headers)


def _side(request: Request) -> int:
    try:
        side = int(request.query_params.get("side", "0"))
    except ValueError:
        side = -1
    if side not in SIDES:
        raise Refused("invalid", 422)
    return side


@signed_in
def why(request: Request, session: Session, body: Any) -> Response:
    """Say why the model answered so, as far as it is known; POST asks for it."""
    from workplace import explaining  # these three bring numpy, for which no first page waits

    field, say = request.path_params["field"], texts(session.language)
    ask = request.method == "POST"
    return JSONResponse(explaining.why(session.user, field, say, ask_for=ask))


@signed_in
def field_map(request: Request, session: Session, body: Any) -> Response:
    """Give the map of where the network looked."""
    from workplace import explaining

    data = explaining.map_png(session.user, request.path_params["field"])
    return Response(data, media_type="image/png", headers={"Cache-Control": "private, no-cache"})


@signed_in
def reference(request: Request, session: Session, body: Any) -> Response:
    """Give the picture of a reference field."""
    from workplace import explaining

    made = explaining.reference_jpeg(session.user, request.path_params["reference"], _side(request))
    headers = {"Cache-Control": "private, max-age=3600"}
    return Response(made, media_type="image/jpeg", headers=headers)


# ── files ─────────────────────────────────────────────────────────────────────────────────────


@guarded
async def files(request: Request, session: Session, say: Texts) -> Response:
    """Put one file into a case: an image, a DICOM or a zip."""
    from workplace.uploads import receive

    try:
        return JSONResponse(await receive(request, session, say))
    except OverflowError:
        raise Refused("too_large", 413) from None


def routes() -> list[Route]:
    """Return all routes."""
    cases, fields = "/clinic/cases", "/clinic/fields/{field}"
    return [
        Route(cases, new_case, methods=["POST"]),
        Route(f"{cases}/{{case}}", case_screen, methods=["GET"]),
        Route(f"{cases}/{{case}}/readings", readings, methods=["POST"]),
        Route(f"{cases}/{{case}}/files", files, methods=["POST"]),
        Route(f"{fields}/picture", picture, methods=["GET"]),
        Route(f"{fields}/why", why, methods=["GET", "POST"]),
        Route(f"{fields}/map", field_map, methods=["GET"]),
        Route("/clinic/references/{reference}/picture", reference, methods=["GET"]),
    ]
