"""`allkit clinic`: the group of its commands."""

from __future__ import annotations

from collections.abc import Callable

import typer

from allkit.cli.clinic_audit import audit
from allkit.cli.clinic_cases import add, assign, list_cases, lower, show
from allkit.cli.clinic_identity import join, move, part, reassign
from allkit.cli.clinic_quality import overridden, quality
from allkit.cli.clinic_reading import read, reopen, report, sign, withdraw
from allkit.cli.clinic_references import references
from allkit.cli.clinic_store import add_key, add_person, backup, erase, init, restore, verify
from allkit.cli.clinic_work import model, receive, send, settings, target, watch, work

__all__ = ["clinic"]

clinic = typer.Typer(no_args_is_help=True)
GROUPS: dict[str, dict[str, Callable[..., None]]] = {
    "Cases": {"add": add, "list": list_cases, "show": show, "assign": assign, "lower": lower},
    "Reading": {
        "read": read,
        "sign": sign,
        "report": report,
        "reopen": reopen,
        "withdraw": withdraw,
    },
    "Mistakes of identity": {"move": move, "reassign": reassign, "join": join, "part": part},
    "What runs beside it": {
        "model": model,
        "references": references,
        "work": work,
        "watch": watch,
        "receive": receive,
        "send": send,
        "target": target,
    },
    "Quality": {"quality": quality, "overridden": overridden},
    "Looking after it": {
        "init": init,
        "person": add_person,
        "key": add_key,
        "settings": settings,
        "backup": backup,
        "restore": restore,
        "verify": verify,
        "erase": erase,
    },
}
for _title, _commands in GROUPS.items():
    for _name, _command in _commands.items():
        clinic.command(_name, rich_help_panel=_title)(_command)
clinic.add_typer(audit, name="audit", rich_help_panel="Looking after it", no_args_is_help=True)


@clinic.callback()
def _clinic() -> None:
    """Cases, readings, signatures and reports, in a database on this machine.

    Research use; not a diagnosis.

    Example:
    allkit clinic init
    allkit clinic add smears --patient P-1 --specimen blood
    """


@audit.callback()
def _audit() -> None:
    """Who saw, answered, overrode, signed, exported and erased what.

    Example:
    allkit clinic audit verify
    """
