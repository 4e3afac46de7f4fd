"""Signed reports on their way to other systems: queued, sent, tried again, given up.

A delivery is queued in the transaction that freezes its report (`targets.queue_for`). It is claimed before
it is sent: a process that is killed in between sends it again after the wait, under the same id of the
message, by which a receiver knows it; it is never lost. A later version of a report waits for an earlier
one to the same target.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa

from allkit.clinic import exchange, mllp
from allkit.clinic.access import READERS, User
from allkit.clinic.jobs import later
from allkit.clinic.records import CaseReport
from allkit.clinic.reporting import last_report, thawed
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Change
from allkit.clinic.targets import Target, queue_to, set_target, targets
from allkit.errors import AllkitError, ClinicError, SendError, StoreError

__all__ = [
    "ATTEMPTS",
    "Counts",
    "Delivery",
    "dead",
    "deliver",
    "of_case",
    "queue",
    "retry",
    "serve_orders",
    "set_target",
    "waiting",
]

ATTEMPTS = 60
"""How often a delivery is begun before it is dead; with the waits between that is about two days."""
FIRST_WAIT, LONGEST_WAIT = 30, 3600
"""Seconds between two attempts: 30, doubled each time, at most an hour."""


@dataclass(frozen=True)
class Delivery:
    """A report that goes to a target: `state` is waiting, sent or dead, `error` the last one."""

    id: str
    report: str
    case: str
    version: int
    target: str
    state: str
    attempts: int
    next_at: str
    error: str | None


class Counts(NamedTuple):
    """What a round of `deliver` did: deliveries that were sent, that wait again, and that are dead."""

    sent: int = 0
    waiting: int = 0
    dead: int = 0


class Send(Protocol):
    """What sends a message, as `mllp.send` does."""

    def __call__(self, message: bytes, *, host: str, port: int) -> mllp.Acknowledgement:
        """Return the answer that the message was taken. Raises `SendError`."""


_EARLIER, _EARLIER_REPORT = t.deliveries.alias(), t.reports.alias()


def _query() -> sa.Select[Any]:
    return sa.select(t.deliveries, t.reports.c.case_id, t.reports.c.version).join(
        t.reports, t.reports.c.id == t.deliveries.c.report_id
    )


def _delivery(row: sa.Row[Any]) -> Delivery:
    return Delivery(
        row.id,
        row.report_id,
        row.case_id,
        version=row.version,
        target=row.target,
        state=row.state,
        attempts=row.attempts,
        next_at=row.next_at,
        error=row.error,
    )


def queue(user: User, report: str, target: str) -> str:
    """Queue a frozen report for a target and return the delivery's id; `report` is its id, or a case's.

    Of a case that is the newest report. One that was sent or given up is sent again; one that waits goes
    on waiting. Raises `ClinicError` where there is no report or target, or a later version went out.
    """
    with user.change(*READERS, "admin") as change:
        if target not in targets(change.store, change.connection):
            raise ClinicError(f"There is no target {target[:40]!r}. An admin adds it first.")
        row = change.first(sa.select(t.reports).where(t.reports.c.id == report))
        found = last_report(change.connection, report) if row is None else thawed(row)
        if found is None:
            raise ClinicError(f"{report[:40]!r} names no signed report, nor a case that has one.")
        query = _query().where(
            t.deliveries.c.report_id == found.id, t.deliveries.c.target == target
        )
        known = change.first(query)
        if known is not None:
            return _again(change, _delivery(known))
        _require_newest(change, found.case, found.version, target)
        return queue_to(change, found.id, target, case=found.case)


def retry(user: User, delivery: str) -> None:
    """Send a delivery again that was given up. Raises `ClinicError` where a later version went out."""
    with user.change(*READERS, "admin", "system") as change:
        row = change.first(_query().where(t.deliveries.c.id == delivery))
        if row is None:
            raise ClinicError(f"There is no delivery {delivery[:40]!r}.")
        if row.state != "dead":
            raise ClinicError(
                f"The delivery {row.id} is {row.state}; only a dead one is tried again."
            )
        _again(change, _delivery(row))


def _again(change: Change, delivery: Delivery) -> str:
    if delivery.state != "waiting":
        _require_newest(change, delivery.case, delivery.version, delivery.target)
        values: dict[str, Any] = {"state": "waiting", "attempts": 0, "error": None}
        change.update(t.deliveries, delivery.id, next_at=change.now, changed=change.now, **values)
        change.log(
            "delivery.queued", delivery.id, of=delivery.case, report=delivery.report, again=True
        )
    return delivery.id


def _require_newest(change: Change, case: str, version: int, target: str) -> None:
    """Raise `ClinicError` where a later version went out: an earlier one would overwrite it."""
    went = change.first(
        _query().where(
            t.reports.c.case_id == case,
            t.reports.c.version > version,
            t.deliveries.c.target == target,
            t.deliveries.c.attempts > 0,
        )
    )
    if went is not None:
        raise ClinicError(
            f"Version {went.version} of the report of the case {case} went to {target} already; version "
            f"{version} behind it would be taken for the newer one. Send the newest."
        )


def waiting(user: User) -> list[Delivery]:
    """Return the deliveries that wait, the next one first."""
    return _listed(user, "waiting")


def dead(user: User) -> list[Delivery]:
    """Return the deliveries that were given up, the oldest first; each with its error."""
    return _listed(user, "dead")


def of_case(user: User, case: str) -> list[Delivery]:
    """Return what of a case was sent to which system, waits, or was given up; the newest version first."""
    with user.read(*READERS, "admin", "system") as connection:
        query = _query().where(t.reports.c.case_id == case)
        found = [_delivery(row) for row in connection.execute(query)]
        return sorted(found, key=lambda one: (-one.version, one.target))


def _listed(user: User, state: str) -> list[Delivery]:
    query = _query().where(t.deliveries.c.state == state)
    with user.read(*READERS, "admin", "system") as connection:
        rows = connection.execute(query.order_by(t.deliveries.c.next_at, t.deliveries.c.id))
        return [_delivery(row) for row in rows]


class _Claim(NamedTuple):
    """A delivery that was taken; without a report and a target it can only be given up, for `why`."""

    delivery: Delivery
    target: Target | None = None
    report: CaseReport | None = None
    why: str = ""


def deliver(user: User, *, send: Send = mllp.send) -> Counts:
    """Send what is due and return how it went; the caller comes again, every two seconds say.

    A target that cannot be reached is left alone for the rest of the round. Raises `StoreError` where the
    database is away; what was sent, but not noted, is then sent again.
    """
    counts = Counts()
    silent: set[str] = set()
    while True:
        claim = _claim(user, silent)
        if claim is None:
            return counts
        control, error = None, None
        try:
            control = _sent(user, claim, send)
        except SendError as failure:
            error = failure
            if error.retry:
                silent.add(claim.delivery.target)
        except AllkitError as failure:  # the report cannot be written as a message
            error = SendError(str(failure), retry=False)
        state = _note(user, claim.delivery, control, error)
        if state is not None:
            counts = counts._replace(**{state: getattr(counts, state) + 1})


def _sent(user: User, claim: _Claim, send: Send) -> str:
    """Send a report and return the id of its message. Raises `AllkitError`."""
    from allkit.clinic.reports.formats import render

    if claim.report is None or claim.target is None:
        raise SendError(claim.why, retry=False)
    message = render(claim.report, "hl7", image_of=user.store.blobs.get)
    return send(message, host=claim.target.host, port=claim.target.port).control_id


def _due(now: str, silent: Collection[str]) -> sa.Select[Any]:
    """Return the query for the next delivery that is due and has none before it."""
    before = (
        sa.select(_EARLIER.c.id)
        .join(_EARLIER_REPORT, _EARLIER_REPORT.c.id == _EARLIER.c.report_id)
        .where(
            _EARLIER.c.state == "waiting",
            _EARLIER.c.target == t.deliveries.c.target,
            _EARLIER_REPORT.c.case_id == t.reports.c.case_id,
            _EARLIER_REPORT.c.version < t.reports.c.version,
        )
    )
    query = _query().where(
        t.deliveries.c.state == "waiting", t.deliveries.c.next_at <= now, ~before.exists()
    )
    if silent:
        query = query.where(t.deliveries.c.target.not_in(sorted(silent)))
    return query.order_by(t.deliveries.c.next_at, t.deliveries.c.id).limit(1)


def _claim(user: User, silent: Collection[str]) -> _Claim | None:
    """Take the next delivery, which nobody else then takes before its wait has passed."""
    # Most rounds find nothing, and then hold nobody up.
    with user.read("system", "admin") as connection:
        if connection.execute(_due(user.store.now(), silent)).first() is None:
            return None
    with user.change("system", "admin") as change:
        row = change.first(_due(change.now, silent))
        if row is None:
            return None
        found = _delivery(row)
        target = targets(change.store, change.connection).get(row.target)
        if target is None:
            return _Claim(found, why=f"There is no target {row.target} any more.")
        if row.attempts >= ATTEMPTS:
            return _Claim(found, why=f"It was begun {row.attempts} times and never ended.")
        attempt = row.attempts + 1
        values = {"attempts": attempt, "next_at": later(change.now, _wait(attempt))}
        change.update(t.deliveries, row.id, changed=change.now, **values)
        change.log("delivery.begun", row.id, of=row.case_id, attempt=attempt)
        stored = change.connection.execute(
            sa.select(t.reports).where(t.reports.c.id == row.report_id)
        ).one()
        begun = replace(found, attempts=attempt)
        try:
            return _Claim(begun, target, thawed(stored))
        except StoreError as error:  # one report that was altered must not hold up the others
            return _Claim(begun, why=str(error))


def _wait(attempt: int) -> int:
    """Return the seconds until the next attempt, behind the first, the second and so on."""
    return min(FIRST_WAIT << (attempt - 1), LONGEST_WAIT)


def _note(
    user: User, delivery: Delivery, control: str | None, error: SendError | None
) -> str | None:
    """Note how an attempt ended; return what became of the delivery, `None` where it is somebody else's."""
    with user.change("system", "admin") as change:
        row = change.first(sa.select(t.deliveries).where(t.deliveries.c.id == delivery.id))
        # The case was erased, or another process has claimed it since, as this one took so long.
        if row is None or row.state != "waiting":
            return None
        if error is not None and row.attempts != delivery.attempts:
            return None
        about: dict[str, Any] = {"of": delivery.case, "target": delivery.target}
        about["attempt"] = delivery.attempts
        if error is None:
            state, kept = "sent", {"state": "sent", "error": None}
            change.log("delivery.sent", row.id, report=delivery.report, control=control, **about)
        elif error.retry and delivery.attempts < ATTEMPTS:
            state = "waiting"
            kept = {"error": str(error), "next_at": later(change.now, _wait(delivery.attempts))}
            change.log("delivery.failed", row.id, **about)
        else:
            state, kept = "dead", {"state": "dead", "error": str(error)}
            change.log("delivery.dead", row.id, **about)
        change.update(t.deliveries, row.id, changed=change.now, **kept)
    return state


def serve_orders(
    user: Callable[[], User],
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    failed: Callable[[Exception], None] | None = None,
) -> mllp.Receiver:
    """Return a receiver that takes orders over MLLP while its `with` block lasts.

    `user` gives in whose name, and is asked for every message (`lambda: access.worker(store)`). `failed`
    is told an error that is a bug; the sender gets AE. MLLP has neither login nor encryption: listen
    elsewhere than on this machine only inside of a tunnel.
    """
    return mllp.Receiver(
        lambda message: exchange.take_message(user(), message), host=host, port=port, failed=failed
    )
