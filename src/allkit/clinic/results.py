"""Results and the audit over HTTP."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, HTTPException, Query, Request, Response

from allkit.clinic import forms, reporting
from allkit.clinic.access import READERS, User
from allkit.clinic.audit import export_lines
from allkit.clinic.reports.formats import FORMATS, render
from allkit.clinic.store import chain
from allkit.clinic.store import tables as t
from allkit.clinic.view import view_of
from allkit.clinic.web import BINARY, TEXT, errors, reads, require_known, user_of

__all__ = ["add_results", "version_of"]

AUDIT_ROWS, REPORT_ROWS = 10_000, 500
Number = Annotated[int, Query(ge=0, le=2**31 - 1)]
Version = Annotated[int | None, Query(ge=1, le=2**31 - 1)]


def add_results(router: APIRouter) -> None:
    """Add the routes by which results and the audit are fetched."""
    _report(router)
    _list(router)
    _audit(router)


def version_of(row: sa.Row[Any]) -> forms.ReportVersion:
    """Return the version of a report from its row."""
    return forms.ReportVersion(
        report=row.id, version=row.version, kind=row.kind, at=row.at, sha256=row.sha256
    )


def _report(router: APIRouter) -> None:
    @router.get(
        "/cases/{case}/report",
        summary="Get the report of a case, by default the newest that was signed.",
        description=(
            "Where none was signed that is 409, unless `preliminary` is true: then readers get the case as "
            "it stands. The headers X-Report-Version, X-Report-Kind and X-Report-SHA256 say which it is."
        ),
        response_class=Response,
        responses={
            200: {
                "description": "The report.",
                "content": {f.media_type: BINARY for f in FORMATS.values()},
            },
            **errors({404, 409, 501}),
        },
    )
    def report(
        case: str,
        request: Request,
        format: Literal["fhir", "hl7", "pdf", "csv", "xlsx", "sr"] = "fhir",
        version: Version = None,
        preliminary: bool = False,
    ) -> Response:
        user = user_of(request)
        _require_report(user, case, version, preliminary=preliminary)
        found = reporting.export(user, case, version=version)
        data = render(found, format, image_of=user.store.blobs.get)
        name = f"{case}-{found.version}{FORMATS[format].suffix}"
        headers = {
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Report-Version": str(found.version),
            "X-Report-Kind": found.kind,
            "X-Report-SHA256": found.sha256,
        }
        return Response(data, media_type=FORMATS[format].media_type, headers=headers)


def _list(router: APIRouter) -> None:
    @router.get(
        "/reports",
        summary="List the reports that were signed, corrected or withdrawn behind a number.",
        description="Begin with `after=0`, and come again with the `next` of the answer.",
        response_model=forms.ReportList,
        responses=errors(),
    )
    def reports(request: Request, after: Number = 0) -> forms.ReportList:
        return _reports(user_of(request), after)


def _require_report(user: User, case: str, version: int | None, *, preliminary: bool) -> None:
    with user.read(*READERS, "system") as connection:
        require_known(connection, case)
        made = list(
            connection.scalars(sa.select(t.reports.c.version).where(t.reports.c.case_id == case))
        )
        if version is not None and version not in made:
            raise HTTPException(404, f"The case has no report of version {version}.")
        if made:
            return
        if not preliminary:
            raise HTTPException(
                409, "The case has no signed report yet. Come again, or ask for preliminary=true."
            )
        if not reads(user):
            raise HTTPException(
                403, "A preliminary report holds readings: it needs the role reader or signer."
            )
        if any(field.hidden for field in view_of(connection, case, viewer=user.id).fields):
            raise HTTPException(409, "The case is read blind first: give your classes before.")


def _reports(user: User, after: int) -> forms.ReportList:
    # By the number in the audit, which the reports get one after the other: by their times or ids, one
    # that was written late could be passed by.
    query = (
        sa.select(t.reports, t.audit.c.seq, t.cases.c.order_number, t.cases.c.order_issuer)
        .join(t.audit, t.audit.c.object == t.reports.c.id)
        .join(t.cases, t.cases.c.id == t.reports.c.case_id)
        .where(t.audit.c.what == "report.made", t.audit.c.seq > after)
        .order_by(t.audit.c.seq)
        .limit(REPORT_ROWS)
    )
    with user.read(*READERS, "system") as connection:
        rows = connection.execute(query).all()
        last, _, _ = chain.head(connection)
    made = []
    for row in rows:
        number = row.order_number
        order = number and forms.GivenIdentifier(value=number, issuer=row.order_issuer)
        made.append(forms.ReportRow(case=row.case_id, order=order, **version_of(row).model_dump()))
    full = len(rows) == REPORT_ROWS
    return forms.ReportList(reports=made, next=rows[-1].seq if full else max(last, after))


def _audit(router: APIRouter) -> None:
    @router.get(
        "/audit",
        summary="Get rows of the audit behind a number, as JSON lines; for admins.",
        description=f"At most {AUDIT_ROWS:,} rows: come again with the `seq` of the last one.",
        response_class=Response,
        responses={
            200: {"description": "Rows.", "content": {"application/x-ndjson": TEXT}},
            **errors(),
        },
    )
    def audit(request: Request, after: Number = 0) -> Response:
        lines = _lines(user_of(request), after)
        return Response("".join(lines), media_type="application/x-ndjson")


def _lines(user: User, after: int) -> list[str]:
    with closing(export_lines(user, after)) as lines:
        return list(islice(lines, AUDIT_ROWS))
