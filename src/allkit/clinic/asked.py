"""Explanations that were asked for: a worker takes one, makes it and writes it; safe to kill at any time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from allkit.clinic import explaining, jobs, references
from allkit.clinic.access import User
from allkit.clinic.erasure import sweep, unused
from allkit.clinic.records import canonical
from allkit.clinic.store import tables as t
from allkit.clinic.store.derived import explanation_hash, references_hash
from allkit.clinic.store.store import Change
from allkit.clinic.view import answer_of
from allkit.errors import ClinicError, StoreError
from allkit.images.decode import read_image
from allkit.records import Predictor
from allkit.types import Singles

__all__ = ["LEASE", "Task", "claim", "fail", "keep", "make"]

LEASE = 300
"""Seconds for which an explanation belongs to who makes it. Large fields need a hundred answers."""


@dataclass(frozen=True)
class Task:
    """An explanation that a worker holds."""

    id: str
    field: str
    model: str
    attempts: int
    worker: str


def claim(user: User, worker: str, *, lease: int = LEASE) -> Task | None:
    """Take the next explanation, as `jobs.claim` takes a job; `None` where there is none."""
    e = t.explanations.c
    with user.read("system") as connection:  # most of the time there is none
        waiting = sa.select(e.id).where(e.state.in_(("queued", "running"))).limit(1)
        if connection.scalar(waiting) is None:
            return None
    with user.change("system") as change:
        query = (
            sa.select(t.explanations)
            .where(jobs.free(t.explanations, change.clock, lease))
            .order_by(e.created, e.id)
            .limit(1)
        )
        kind = "explanation"
        row = jobs.take(change, t.explanations, query, kind=kind, worker=worker, lease=lease)
        if row is None:
            return None
        change.log("explanation.begun", row.id, field=row.field_id, attempt=row.attempts + 1)
        return Task(row.id, row.field_id, row.model_id, attempts=row.attempts + 1, worker=worker)


def make(
    user: User, task: Task, predictor: Predictor, groups: Mapping[str, str]
) -> tuple[explaining.Made, Singles | None]:
    """Return what is found for a task, and the features of the field, or `None`."""
    a = t.answers.c
    with user.read("system") as connection:
        row = connection.execute(
            sa.select(t.fields.c.sha256, a.data)
            .join(t.answers, a.field_id == t.fields.c.id)
            .where(t.fields.c.id == task.field, a.model_id == task.model)
        ).first()
    if row is None:
        raise ClinicError("The field is gone.")
    try:
        data = user.store.blobs.get(row.sha256)
    except StoreError as error:  # the image is gone, not the database: to wait does not help
        raise ClinicError(str(error)) from None
    pixels = read_image(data)
    made = explaining.explain(predictor, pixels, answer_of(row.data), groups)
    features = references.features_of(predictor, [pixels])
    return made, None if features is None else features[0]


def keep(user: User, task: Task, found: tuple[explaining.Made, Singles | None]) -> bool:
    """Write an explanation; `False` where somebody else holds it by now, or its field was erased."""
    made, features = found
    png = explaining.overlay(made.map) if made.map.any() else b""
    sha256 = user.store.blobs.put(png) if png else None
    with user.change("system") as change:
        row = _held(change, task)
        if row is None:
            return False
        if sha256 is not None:
            references.keep_blob(change, sha256, len(png), "image/png")
            user.store.blobs.put(png)  # a sweep may have come in between
        data = canonical(_data(change.connection, task, made, features))
        values = {"state": "done", "data": data, "map_sha256": sha256, "error": None}
        change.update(t.explanations, task.id, changed=change.now, **values)
        before = {row.map_sha256} - {None, sha256}
        gone = unused(change, before)
        hashed = explanation_hash(data, sha256)
        change.log("explanation.made", task.id, field=task.field, sha256=hashed)
    sweep(user, gone)
    return True


def _data(
    connection: sa.Connection, task: Task, made: explaining.Made, features: Singles | None
) -> dict[str, Any]:
    image = connection.scalar(sa.select(t.fields.c.sha256).where(t.fields.c.id == task.field))
    kept = references_hash(connection, task.model)
    near = (
        [] if features is None else references.nearest(connection, task.model, features, str(image))
    )
    without = "" if near else "no_features" if kept else "no_references"
    return {
        "target": made.target.name,
        "of": made.target.kind,
        "method": made.method,
        "places": made.places,
        "faithful": made.faithful,
        "check": made.check,
        "notes": made.notes,
        "nearest": near,
        "without_nearest": without,
        "references": kept,
    }


def _held(change: Change, task: Task) -> sa.Row[Any] | None:
    e = t.explanations.c
    return change.first(
        sa.select(t.explanations).where(
            e.id == task.id, e.worker == task.worker, e.state == "running"
        )
    )


def fail(user: User, task: Task, message: str, again: bool) -> None:
    """Note that an explanation did not go; it is tried again where that may help."""
    state = "queued" if again and task.attempts < jobs.ATTEMPTS else "failed"
    with user.change("system") as change:
        if _held(change, task) is not None:
            change.update(t.explanations, task.id, state=state, error=message, changed=change.now)
            change.log(f"explanation.{state}", task.id, field=task.field)
