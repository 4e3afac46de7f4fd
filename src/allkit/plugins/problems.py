"""What is wrong with the installed plugins, and what to do: for `allkit doctor`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from allkit.plugins.distributions import distributions
from allkit.plugins.requirements import unmet
from allkit.plugins.suffixes import Claim

__all__ = ["Problem", "problems"]


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, or worth knowing though everything works.

    `state` is `problem` for what is broken, `conflict` for what several packages claim, so that it is to
    be said which is meant, and else `note`.

    `where` is the package with its version, or the path of a damaged installation; `what` is a
    sentence, and so is `fix`, which is empty where `what` says already what to do.
    """

    where: str
    what: str
    fix: str = ""
    state: Literal["problem", "conflict", "note"] = "problem"

    def __str__(self) -> str:
        return " ".join(filter(None, (f"{self.where}: {self.what}", self.fix)))


def problems(
    plugins: Iterable[Any], conflicts: Iterable[Any], claims: Iterable[Claim]
) -> list[Problem]:
    """Return what is wrong: with each `Plugin`, with the installations, and between them.

    `conflicts` are names that several offer, each a `Conflict`, and `claims` files that several claim.
    """
    plugins = list(plugins)
    return [
        *(problem for plugin in plugins for problem in _of_plugin(plugin)),
        *_of_installations({plugin.origin: plugin for plugin in plugins if plugin.found}.values()),
        *map(_of_conflict, conflicts),
        *(Problem(" and ".join(c.origins), c.sentence, state=c.state) for c in claims),
    ]


def _of_plugin(plugin: Any) -> Iterator[Problem]:
    if plugin.error:
        fix = f"Update it, take it off (pip uninstall {plugin.distribution}), or tell its author."
        yield Problem(plugin.origin, plugin.error, fix)
    for note in () if plugin.built_in else plugin.notes:  # whose author we are
        yield Problem(plugin.origin, note, state="note")


def _of_installations(plugins: Iterable[Any]) -> Iterator[Problem]:
    for package in distributions():
        if package.damage and not package.entries:
            yield Problem(str(package.folder), package.damage)
    for plugin in plugins:
        for requirement, version in unmet(plugin.found.package):
            there = f"and {version} is installed" if version else "which is not installed"
            what = f"It requires {requirement}, {there}."
            yield Problem(plugin.origin, what, f"Type: pip install '{requirement}'")


def _of_conflict(conflict: Any) -> Problem:
    where = " and ".join(conflict.origins)
    return Problem(where, f"Conflict: {conflict}", state="note" if conflict.own else "conflict")
