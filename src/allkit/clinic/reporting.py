"""The frozen report of a case, made from its view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from allkit.clinic.access import READERS, User
from allkit.clinic.agreement import kappa
from allkit.clinic.cases import row_of
from allkit.clinic.records import CaseReport, FieldResult, SlideResult, canonical
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Change, new_id
from allkit.clinic.targets import queue_for
from allkit.clinic.view import CaseView, FieldView, view_of
from allkit.errors import ClinicError, StoreError
from allkit.records import CasePrediction

__all__ = [
    "export",
    "freeze",
    "frozen",
    "last_report",
    "report_of",
    "seconds",
    "thawed",
    "versions",
]


def seconds(time: str) -> str:
    """Return a time of the store without its milliseconds, as reports show it."""
    return time[:19] + "Z"


def report_of(view: CaseView, **changes: Any) -> CaseReport:
    """Return the preliminary report of a case, with `changes`.

    It is of the time at which the case was last changed, so that it is the same until the next change.
    """
    base: dict[str, Any] = {
        "id": view.id,
        "case": view.id,
        "version": 1,
        "kind": "preliminary",
        "made_at": seconds(view.changed),
        "patient": view.patient or "",
        "patient_identifiers": view.identifiers,
        "specimen": view.specimen,
        "fields": tuple(_result(field) for field in view.fields),
        "order": view.order,
        "model": view.model,
        "slide": None if view.slide is None else _slide(view.slide),
        "second_reader": view.second if any(f.second for f in view.fields) else None,
        "agreement": _agreement(view),
    }
    return CaseReport(**base | changes)


def _result(field: FieldView) -> FieldResult:
    answer, label = field.answer, field.first
    usable = answer is not None and answer.verdict in ("accepted", "review")
    said = answer.label if answer is not None and usable else None
    return FieldResult(
        number=field.number,
        name=f"field {field.number}",  # a file's own name may be a patient's
        sha256=field.sha256,
        verdict=None if answer is None else answer.verdict,
        label=said,
        probability=answer.probability if answer is not None and usable else None,
        reasons=() if answer is None else answer.reasons,
        reader=None if label is None else label.label,
        changed=label is not None and said is not None and label.label != said,
        why="" if label is None else label.why,
    )


def _slide(slide: CasePrediction) -> SlideResult:
    return SlideResult(
        slide.verdict,
        slide.fields,
        slide.used,
        label=slide.label,
        probability=slide.probability,
        coarse=slide.coarse,
        coarse_probability=slide.coarse_probability,
        coarse_verdict=slide.coarse_verdict,
        reasons=slide.reasons,
    )


def _agreement(view: CaseView) -> float | None:
    pairs = [(f.first.label, f.second.label) for f in view.fields if f.first and f.second]
    found = kappa(pairs)
    return None if found is None else round(found, 4)


def last_report(connection: sa.Connection, case: str) -> CaseReport | None:
    """Return the newest frozen report of a case. Raises `StoreError` where it was altered."""
    row = connection.execute(
        sa.select(t.reports)
        .where(t.reports.c.case_id == case)
        .order_by(t.reports.c.version.desc())
        .limit(1)
    ).first()
    return None if row is None else thawed(row)


def thawed(row: sa.Row[Any]) -> CaseReport:
    """Return the report of a row of `reports`. Raises `StoreError` where it was altered."""
    report = CaseReport.from_json(row.content)
    if report.sha256 != row.sha256:
        raise StoreError(
            f"The report {row.version} of the case {row.case_id} was altered: its hash is not that of its "
            "content. Restore it from a backup."
        )
    return report


def freeze(change: Change, view: CaseView, *, signature: str | None, **changes: Any) -> CaseReport:
    """Write the next version of a case's report, which is never changed, and return it."""
    before = last_report(change.connection, view.id)
    version = 1 if before is None else before.version + 1
    report = report_of(
        view,
        id=new_id(),
        version=version,
        replaces=None if before is None else before.version,
        made_at=seconds(change.now),
        **changes,
    )
    return keep(change, report, signature=signature)


def keep(change: Change, report: CaseReport, *, signature: str | None) -> CaseReport:
    """Write a report as it is."""
    change.insert(
        t.reports,
        id=report.id,
        case_id=report.case,
        version=report.version,
        kind=report.kind,
        signature_id=signature,
        content=report.to_json(),
        sha256=report.sha256,
        at=change.now,
    )
    change.log(
        "report.made",
        report.id,
        of=report.case,
        version=report.version,
        kind=report.kind,
        sha256=report.sha256,
    )
    queue_for(change, report)
    return report


def export(
    user: User, case: str, *, version: int | None = None, preliminary: bool = False
) -> CaseReport:
    """Return a report of a case to be written in some format, and note in the audit that it went out.

    Without `version` that is the newest frozen one, or, where there is none or it is asked for, a
    preliminary one of the case as it stands. Raises `ClinicError` where there is no such version.
    """
    with user.change(*READERS, "system") as change:
        row = row_of(change.connection, case)
        if row.status == "erased":
            raise ClinicError(f"The case {case} was erased; there is no report any more.")
        if version is not None:
            found = change.first(
                sa.select(t.reports).where(
                    t.reports.c.case_id == case, t.reports.c.version == version
                )
            )
            if found is None:
                raise ClinicError(f"The case {case} has no report of version {version}.")
            report = thawed(found)
        else:
            frozen = None if preliminary else last_report(change.connection, case)
            report = frozen or _preliminary(change.connection, case, user.id)
        change.log(
            "report.exported", report.id, of=case, version=report.version, sha256=report.sha256
        )
        return report


def versions(user: User, case: str) -> tuple[CaseReport, ...]:
    """Return all frozen reports of a case, the newest first. Raises `StoreError` where one was altered."""
    with user.read(*READERS) as connection:
        row_of(connection, case)
        rows = connection.execute(
            sa.select(t.reports)
            .where(t.reports.c.case_id == case)
            .order_by(t.reports.c.version.desc())
        )
        return tuple(thawed(row) for row in rows)


def frozen(user: User, case: str, version: int) -> CaseReport:
    """Return a frozen report to be looked at, and note in the audit that it was. Raises `ClinicError`.

    What leaves the clinic as a file goes through `export`.
    """
    with user.change(*READERS) as change:
        found = change.first(
            sa.select(t.reports).where(t.reports.c.case_id == case, t.reports.c.version == version)
        )
        if found is None:
            raise ClinicError(f"The case {case} has no report of version {version}.")
        change.log("report.seen", found.id, of=case, version=version)
        return thawed(found)


def _preliminary(connection: sa.Connection, case: str, viewer: str) -> CaseReport:
    # What a reader may not see yet is not in what they print either.
    before = last_report(connection, case)
    view = view_of(connection, case, viewer=viewer)
    if before is None:
        return report_of(view)
    return report_of(view, version=before.version + 1, replaces=before.version)


def readings_hashed(view: CaseView) -> str:
    """Return the canonical text of the readings that stand in a case, which a signature is a hash of."""
    stands: list[Mapping[str, Any]] = [
        {
            "field": field.sha256,
            "round": number,
            "label": label.label,
            "why": label.why,
            "by": label.person.name,
            "at": label.at,
            "reading": label.seq,
        }
        for field in view.fields
        for number, label in ((1, field.first), (2, field.second))
        if label is not None
    ]
    return canonical(stands)
