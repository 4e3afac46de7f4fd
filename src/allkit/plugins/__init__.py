"""The plugin host: finds plugins, keeps broken ones out, and looks records up by name.

host           the registry: every record by kind and name
asked          a record with its settings bound and its calls guarded
guard          what goes wrong in a plugin is named with its package and its step
settings       whether a record's settings come back whole from the JSON that models keep
offers         what a record is known by, and the kinds of records
loading        one plugin: its contract version, its hooks, its records
distributions  the installed packages that name a plugin, also damaged ones
catalogue      what is installed, and what each offers, without importing it
sources        the files of a plugin that change without an installation
probe          asking plugins in processes of their own
asking         what runs in these processes
problems       what is wrong with what is installed
suffixes       files that several parts claim
requirements   what an installed package requires, and whether it is there
tracing        ALLKIT_TRACE
kept           the names under which models keep their parts
weights        which weights a backbone is built with
written        what a person writes by hand: YAML of settings, parts with their settings
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allkit.plugins.guard import calling as calling
    from allkit.plugins.host import OWN_COMMANDS as OWN_COMMANDS
    from allkit.plugins.host import Conflict as Conflict
    from allkit.plugins.host import Plugin as Plugin
    from allkit.plugins.host import Registry as Registry
    from allkit.plugins.host import registry as registry
    from allkit.plugins.host import using as using
    from allkit.plugins.problems import Problem as Problem
    from allkit.plugins.weights import resolve_weights as resolve_weights

_HOME = {
    "Conflict": "host",
    "OWN_COMMANDS": "host",
    "Plugin": "host",
    "Problem": "problems",
    "Registry": "host",
    "calling": "guard",
    "registry": "host",
    "resolve_weights": "weights",
    "using": "host",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    # `allkit --help` reads the catalogue, and the registry takes several times as long to import.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
