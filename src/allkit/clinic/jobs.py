"""The queue of cases to be answered: who takes one holds it for a while, and takes it again if killed."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from allkit.clinic.access import READERS, User
from allkit.clinic.cases import SIGNED, require_open, row_of
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Change, new_id
from allkit.errors import ClinicError

__all__ = [
    "ATTEMPTS",
    "LEASE",
    "Job",
    "any_wait",
    "claim",
    "end",
    "enqueue",
    "failed",
    "renew",
    "requeue",
    "retry",
    "running",
]

LEASE = 120
"""Seconds for which a job belongs to who took it, from its last answer on."""
ATTEMPTS = 3
"""How often a job is begun before it has failed."""
OPEN = ("queued", "running")


@dataclass(frozen=True)
class Job:
    """A case to be answered by a model."""

    id: str
    case: str
    model: str
    attempts: int


def enqueue(change: Change, case: str, model: str | None = None) -> str | None:
    """Queue a case for a model, by default that of the clinic; return the job, `None` without a model.

    A job that waits already is enough. One that runs may have passed the new field by, so there is another.
    """
    if model is None:
        model = change.store.setting("default_model", change.connection)
    if model is None:
        return None
    waiting = change.connection.scalar(
        sa.select(t.jobs.c.id).where(
            t.jobs.c.case_id == case, t.jobs.c.model_id == model, t.jobs.c.state == "queued"
        )
    )
    if waiting is not None:
        return str(waiting)
    id = new_id()
    change.insert(
        t.jobs,
        id=id,
        case_id=case,
        model_id=model,
        state="queued",
        attempts=0,
        done=0,
        total=0,
        created=change.now,
        changed=change.now,
    )
    change.log("job.queued", id, of=case, model=model)
    return id


def retry(user: User, case: str) -> str:
    """Queue a case anew whose model failed, for the model that answers now; return the job.

    Where it waits or is answered already, nothing changes. Raises `ClinicError` where nothing failed, or
    the case is closed.
    """
    with user.change(*READERS) as change:
        require_open(row_of(change.connection, case), "a new answer")
        newest = change.first(_newest().where(t.jobs.c.case_id == case))
        if newest is not None and newest.state in OPEN:
            return str(newest.id)
        if newest is None or newest.state != "failed":
            raise ClinicError(
                f"The model did not fail in the case {case}: there is nothing to try again."
            )
        # Without a model that answers now it is the one that failed.
        return enqueue(change, case) or str(enqueue(change, case, newest.model_id))


def requeue(change: Change, model: str) -> int:
    """Queue the open cases anew in which a model failed last, as it is back; return how many."""
    rows = change.connection.execute(
        _newest()
        .join(t.cases, t.cases.c.id == t.jobs.c.case_id)
        .where(
            t.jobs.c.model_id == model,
            t.jobs.c.state == "failed",
            t.cases.c.status.not_in((*SIGNED, "erased")),
        )
    ).all()
    for row in rows:
        enqueue(change, row.case_id, model)
    return len(rows)


def failed(user: User, cases: Iterable[str], *, polling: bool = False) -> frozenset[str]:
    """Return those of some cases whose last job failed; `polling` is for a list that refreshes itself."""
    with user.read(*READERS, "admin", polling=polling) as connection:
        rows = connection.execute(
            _newest().where(t.jobs.c.case_id.in_(list(cases)), t.jobs.c.state == "failed")
        )
        return frozenset(row.case_id for row in rows)


def _newest() -> sa.Select[Any]:
    """Return the query for the newest job of each case."""
    later_ = t.jobs.alias()
    newer = sa.exists().where(later_.c.case_id == t.jobs.c.case_id, later_.c.id > t.jobs.c.id)
    return sa.select(t.jobs).where(~newer)


def any_wait(user: User) -> bool:
    """Return whether there may be something to claim; quick, and it keeps nobody from writing."""
    with user.read("system") as connection:
        return any(
            connection.scalar(sa.select(table.c.id).where(table.c.state.in_(OPEN)).limit(1))
            for table in (t.jobs, t.explanations)
        )


def claim(user: User, worker: str, *, lease: int = LEASE) -> Job | None:
    """Take the next job: one that waits, or one whose holder was not heard of; `None` where there is none.

    Urgent cases come first. A job that was begun too often has failed, which its case shows.
    """
    with user.change("system") as change:
        query = (
            sa.select(t.jobs)
            .join(t.cases, t.cases.c.id == t.jobs.c.case_id)
            .where(free(t.jobs, change.clock, lease))
            .order_by(t.cases.c.priority.desc(), t.jobs.c.created, t.jobs.c.id)
            .limit(1)
        )
        row = take(change, t.jobs, query, kind="job", worker=worker, lease=lease)
        if row is None:
            return None
        change.log("job.begun", row.id, of=row.case_id, attempt=row.attempts + 1)
        return Job(row.id, row.case_id, row.model_id, row.attempts + 1)


def free(table: sa.Table, clock: str, lease: int) -> sa.ColumnElement[bool]:
    """Return the condition that nobody works at a row of a queue: it waits, or its holder is lost."""
    # By the clock of the machine, whatever it is set to: one that went back must not hold a job for ever.
    until = table.c.lease_until
    over = (until < clock) | (until > later(clock, 2 * lease))
    return (table.c.state == "queued") | ((table.c.state == "running") & over)


def take(
    change: Change,
    table: sa.Table,
    query: sa.Select[Any],
    *,
    kind: str,
    worker: str,
    lease: int,
) -> sa.Row[Any] | None:
    """Let a worker hold the first row of a query; what was begun too often has failed."""
    while (row := change.first(query)) is not None and row.attempts >= ATTEMPTS:
        message = (
            f"It was begun {row.attempts} times and never ended. Look for what kills the program."
        )
        change.update(table, row.id, state="failed", error=message, changed=change.now)
        change.log(f"{kind}.failed", row.id)
    if row is not None:
        change.update(
            table,
            row.id,
            state="running",
            worker=worker,
            lease_until=later(change.clock, lease),
            attempts=row.attempts + 1,
            changed=change.now,
        )
    return row


def later(time: str, seconds: float) -> str:
    """Return a time some seconds behind another, in the same form."""
    moment = datetime.datetime.fromisoformat(time) + datetime.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def renew(
    change: Change, job: Job, worker: str, *, done: int | None = None, total: int | None = None
) -> bool:
    """Note how far a job is and hold it longer; `False` where somebody else holds it by now."""
    far = {} if done is None else {"done": done, "total": total}
    held = change.connection.execute(
        t.jobs.update()
        .where(t.jobs.c.id == job.id, t.jobs.c.worker == worker, t.jobs.c.state == "running")
        .values(lease_until=later(change.clock, LEASE), changed=change.now, **far)
    )
    return held.rowcount == 1


def end(change: Change, job: Job, state: str, *, error: str | None = None) -> None:
    """End a job as done, failed, cancelled, or queued to be tried again."""
    change.update(t.jobs, job.id, state=state, error=error, changed=change.now)
    change.log(f"job.{state}", job.id, of=job.case)


def running(connection: sa.Connection, case: str) -> int:
    """Return how many jobs of a case wait or run."""
    found = connection.scalar(
        sa.select(sa.func.count())
        .select_from(t.jobs)
        .where(t.jobs.c.case_id == case, t.jobs.c.state.in_(OPEN))
    )
    return int(found or 0)


def groups_of_model(row: sa.Row[Any]) -> dict[str, str]:
    """Return the group of each class of a model (`benign`, `malignant`), from its row."""
    groups: dict[str, str] = json.loads(row.groups)
    return groups
