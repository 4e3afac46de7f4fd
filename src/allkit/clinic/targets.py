"""Systems to which signed reports are sent: a setting of the clinic, empty by default."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import sqlalchemy as sa

from allkit.clinic.access import User
from allkit.clinic.records import CaseReport
from allkit.clinic.store import tables as t
from allkit.clinic.store.store import Change, Store, new_id
from allkit.errors import ClinicError

__all__ = ["SETTING", "Target", "queue_for", "queue_to", "set_target", "targets"]

SETTING = "targets"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*")


@dataclass(frozen=True)
class Target:
    """A system that takes reports as HL7 over MLLP: its name or address in the network, and its port."""

    host: str
    port: int
    kind: Literal["mllp"] = "mllp"


def targets(store: Store, connection: sa.Connection) -> Mapping[str, Target]:
    """Return the targets of a clinic by name."""
    found: dict[str, dict[str, Any]] = store.setting(SETTING, connection)
    return {name: Target(**values) for name, values in sorted(found.items())}


def set_target(user: User, name: str, values: Mapping[str, Any] | None) -> None:
    """Add or change a target; `None` removes it, and what waits for it is then dead. Admins only.

    `values` are `kind` (mllp), `host` and `port`. Reports that were signed before are not sent to a new
    target. Raises `ClinicError` for a name, an address or a port that cannot be.
    """
    if not _NAME.fullmatch(name):
        raise ClinicError(
            "The name of a target has up to 40 letters of A to Z, digits, dots, dashes and underscores, "
            "and begins with a letter or a digit. Choose another."
        )
    target = None if values is None else _possible(values)
    with user.change("admin") as change:
        known = dict(change.store.setting(SETTING, change.connection))
        if target is None and name not in known:
            raise ClinicError(f"There is no target {name}. There are {', '.join(known) or 'none'}.")
        kept = {} if target is None else asdict(target)
        known.pop(name, None)
        change.set(SETTING, known | ({name: kept} if kept else {}))
        # Where results go is no data of a patient, and the first thing that an audit is asked.
        change.log("target.set" if kept else "target.removed", name, **kept)


def _possible(values: Mapping[str, Any]) -> Target:
    """Return a target whose values can be. Raises `ClinicError`."""
    if values.get("kind") != "mllp" or set(values) != {"kind", "host", "port"}:
        raise ClinicError("A target has the kind mllp, a host and a port, and nothing else.")
    host, port = values["host"], values["port"]
    if not _is_host(host):
        raise ClinicError(
            "The address of the target is no name of a host and no IP address. Write it as lis.example "
            "or 10.0.0.7, without a port."
        )
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
        raise ClinicError("The port of the target must be a whole number from 1 to 65535.")
    return Target(host, port)


def _is_host(text: Any) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return isinstance(text, str) and _HOST.fullmatch(text) is not None
    return isinstance(text, str)


def queue_for(change: Change, report: CaseReport) -> None:
    """Queue a frozen report for every target, in the transaction that froze it."""
    for name in targets(change.store, change.connection):
        queue_to(change, report.id, name, case=report.case)


def queue_to(change: Change, report: str, target: str, *, case: str) -> str:
    """Queue a frozen report, by its id, for one target; return the id of the delivery."""
    id = new_id()
    change.insert(
        t.deliveries,
        id=id,
        report_id=report,
        target=target,
        state="waiting",
        attempts=0,
        next_at=change.now,
        created=change.now,
        changed=change.now,
    )
    change.log("delivery.queued", id, of=case, report=report, target=target)
    return id
