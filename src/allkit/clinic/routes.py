"""The clinic over HTTP, for laboratory systems: cases and orders in, results out.

Everybody shows a key of their own (`access.add_key`), and may do what their roles let them; the key of
the server alone opens nothing here.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader, HTTPBearer

from allkit.clinic import cases, exchange, forms, search, text
from allkit.clinic.access import READERS, User, person
from allkit.clinic.intake.incoming import Refused
from allkit.clinic.intake.unpack import IncomingOrder, Unpacked, unpack
from allkit.clinic.orders.kinds import MAX_ORDER_BYTES
from allkit.clinic.records import Status
from allkit.clinic.results import add_results, version_of
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Store
from allkit.clinic.view import view_of
from allkit.clinic.web import (
    BINARY,
    TEXT,
    Bodies,
    ClinicRoute,
    SignedIn,
    body_of,
    errors,
    kind_of,
    reads,
    require_known,
    user_of,
)
from allkit.errors import AccessError, AllkitError, ClinicError
from allkit.images.batches import cores
from allkit.serving import bodies
from allkit.serving.app import Limits

__all__ = ["clinic_router"]

HL7 = ("application/hl7-v2", "x-application/hl7-v2+er7", "text/plain")
FHIR = ("application/fhir+json", "application/json")
FILES = ("application/dicom", "application/zip", "application/x-zip-compressed")
_PLACE = re.compile(r"[01]\|[0-9T:.Z-]{20,30}\|[0-9A-HJKMNP-TV-Z]{26}")
Limit = Annotated[int, Query(ge=1, le=200)]
States = Annotated[list[Status] | None, Query()]


def clinic_router(store: Store, *, limits: Limits | None = None) -> APIRouter:
    """Return the routes under `/clinic`, to be given to `serving.app.create_app`.

    `limits` are those of the server. The store is not closed.
    """
    limits = limits or Limits()
    router = APIRouter(
        prefix="/clinic",
        tags=["clinic"],
        route_class=ClinicRoute,
        dependencies=[
            Depends(SignedIn(store, limits)),
            Depends(APIKeyHeader(name="X-API-Key", auto_error=False)),
            Depends(HTTPBearer(auto_error=False)),
        ],
    )
    coming = Bodies(limits)
    _orders(router, coming)
    _cases(router, coming)
    _fields(router, coming)
    add_results(router)
    return router


def _orders(router: APIRouter, coming: Bodies) -> None:
    answer = dict.fromkeys(HL7[:1], TEXT)
    refused = errors({408, 409, 413, 415})
    for code in (422, 503):
        refused[code]["content"] = answer

    @router.post(
        "/orders",
        summary="Open the cases of an order: HL7 v2 (ORM^O01, OML^O21) or FHIR (ServiceRequest).",
        description="HL7 gets its acknowledgement: with 200 for AA, 422 for AR, 503 for AE.",
        response_class=Response,
        openapi_extra=body_of(dict.fromkeys(HL7, TEXT) | {k: {"schema": {}} for k in FHIR}),
        responses={
            200: {"model": forms.OrderOutcome, "content": answer, "description": "Taken."},
            **refused,
        },
    )
    async def orders(request: Request) -> Response:
        kind = kind_of(request, *HL7, *FHIR)
        user = user_of(request)
        async with coming.inside(request, MAX_ORDER_BYTES) as body:
            if kind in FHIR:
                made = await run_in_threadpool(exchange.take_bundle, user, body)
                return JSONResponse(forms.OrderOutcome.of(made).model_dump())
            taken = await run_in_threadpool(exchange.answer_message, user, body)
        status = {"AA": 200, "AR": 422, "AE": 503}[taken.code]
        return Response(taken.data, status, media_type=HL7[0])


def _cases(router: APIRouter, coming: Bodies) -> None:
    @router.post(
        "/cases",
        summary="Open a case by hand, under a pseudonym.",
        status_code=201,
        response_model=forms.Made,
        openapi_extra=body_of({"application/json": {"schema": forms.inlined(forms.NewCase)}}),
        responses=errors({408, 409, 413, 415}),
    )
    async def create(request: Request) -> forms.Made:
        kind_of(request, "application/json")
        async with coming.inside(request, MAX_ORDER_BYTES) as body:
            case = await run_in_threadpool(_create, user_of(request), body)
        return forms.Made(case=case)

    @router.get(
        "/cases",
        summary="List cases, the urgent ones first, then the oldest.",
        response_model=forms.CaseList,
        responses=errors(),
    )
    def listed(
        request: Request,
        text: str = "",
        state: States = None,
        specimen: Literal["blood", "marrow"] | None = None,
        reader: str | None = None,
        since: str | None = None,
        until: str | None = None,
        urgent: bool | None = None,
        after: str | None = None,
        limit: Limit = 50,
    ) -> forms.CaseList:
        user = user_of(request)
        wanted = search.Filter(
            text=text,
            status=tuple(state or ()),
            specimen=specimen,
            reader=reader,
            since=since,
            until=until,
            urgent=urgent,
        )
        page = search.find(user, _checked(user, wanted, after), after=after, limit=limit)
        return forms.list_of(page.rows, page.next, reads=reads(user))

    @router.get(
        "/cases/{case}",
        summary="Show a case: its state, its fields, how far the model is.",
        description="What the model says is preliminary. Machines (the role system) get no readings.",
        response_model=forms.Case,
        responses=errors({404}),
    )
    def show(case: str, request: Request) -> forms.Case:
        return _shown(user_of(request), case)


def _create(user: User, body: bytes) -> str:
    with user.read(*READERS, "system"):
        pass  # who may open no case hears that first
    try:
        given = forms.parse(body)
        taken = text.specimen(given.specimen.record(), user.store.now())
        numbers = [text.identifier(one.record(), "identifier") for one in given.identifiers]
        order = (
            None if given.order is None else text.identifier(given.order.record(), "order number")
        )
        patient = None if given.patient is None else text.line(given.patient, "pseudonym")
    except ClinicError as error:
        raise HTTPException(422, str(error)) from None
    return cases.create(
        user,
        specimen_=taken,
        patient=patient,
        identifiers=numbers,
        order=order,
        second_reader=given.second_reader,
        blind_first=given.blind_first,
    )


def _checked(user: User, wanted: search.Filter, after: str | None) -> search.Filter:
    """Return a filter whose values are possible, with the id of the reader. Raises 422."""
    if after is not None and not _PLACE.fullmatch(after):
        raise HTTPException(422, "after is wrong: it is no `next` of a list. Begin again without.")
    try:
        text.line(wanted.text, "text", optional=True)
        text.date_of(wanted.since, "since")
        text.date_of(wanted.until, "until")
        if wanted.reader is None:
            return wanted
        name = text.line(wanted.reader, "reader")
    except ClinicError as error:
        raise HTTPException(422, str(error)) from None
    with user.read(*READERS, "admin", "system") as connection:
        try:
            return replace(wanted, reader=person(connection, name).id)
        except AccessError:
            raise HTTPException(422, "reader is wrong: the clinic knows nobody so.") from None


def _shown(user: User, case: str) -> forms.Case:
    reader = reads(user)
    with user.change(*READERS, "system") as change:
        require_known(change.connection, case)
        view = view_of(change.connection, case, viewer=user.id if reader else None)
        row = change.first(
            sa.select(t.reports)
            .where(t.reports.c.case_id == case)
            .order_by(t.reports.c.version.desc())
            .limit(1)
        )
        change.log("case.seen", case)
    return forms.case_of(view, None if row is None else version_of(row), reads=reader)


def _fields(router: APIRouter, coming: Bodies) -> None:
    form = {
        "type": "object",
        "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
    }
    refused = errors({400, 404, 408, 409, 413, 415, 507})
    refused[422] = {
        "model": forms.FieldsTaken,
        "description": "No file was taken; `refused` says why of each.",
    }
    working = asyncio.Semaphore(max(2, cores()))

    @router.post(
        "/cases/{case}/fields",
        summary="Put images into a case: files of a form, an image, a DICOM file or a zip.",
        response_model=forms.FieldsTaken,
        response_model_exclude_none=True,
        openapi_extra=body_of(
            {"multipart/form-data": {"schema": form}}
            | dict.fromkeys(("image/*", "application/octet-stream", *FILES), BINARY)
        ),
        responses=refused,
    )
    async def add(case: str, request: Request) -> Any:
        user = user_of(request)
        await run_in_threadpool(_require_case, user, case)
        limits = coming.limits
        async with coming.inside(request, limits.request_bytes) as body:
            files = await bodies.files_of(request, body, most=limits.images, kinds=FILES)
            if not files:
                raise HTTPException(400, "The form holds no file. Send one image or more.")
            async with working:
                made = await run_in_threadpool(_put, user, case, files)
        return JSONResponse(made.model_dump(), 422) if made.error else made


def _require_case(user: User, case: str) -> None:
    """Raise 404 or 403 before a large body is read."""
    with user.read(*READERS, "system") as connection:
        require_known(connection, case)


def _put(user: User, case: str, files: list[tuple[str, bytes]]) -> forms.FieldsTaken:
    incoming = (_no_order(one) for file in files for one in unpack(file))
    try:
        return forms.field_list(exchange.take(user, incoming, case))
    except AllkitError as error:
        if type(error) is AllkitError:  # what writing a file raises
            raise HTTPException(
                507, "The clinic cannot write the image. Send it again when its disk has room."
            ) from None
        raise


def _no_order(one: Unpacked) -> Unpacked:
    if not isinstance(one, IncomingOrder):
        return one
    return Refused(one.name, f"{one.name} is an order. Send it to /clinic/orders.", "order")
