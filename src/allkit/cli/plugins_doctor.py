"""`allkit plugins doctor`: what is wrong with the plugins that are installed, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import typer

from allkit.cli.options import AsJson
from allkit.cli.progress import put, put_json

if TYPE_CHECKING:
    from allkit.plugins import Registry

__all__ = ["Problem", "doctor_plugins", "problems_of", "told"]


@dataclass(frozen=True)
class Problem:
    """Something about a package: `broken`, or a note. `what` says what is so, `fix` what to do."""

    origin: str
    what: str
    fix: str = ""
    broken: bool = False


def problems_of(host: Registry) -> list[Problem]:
    """Return what is wrong with the plugins, and what their users should know; the worst first."""
    found = [Problem(p.origin, p.error, broken=True) for p in host.plugins if p.error]
    found += [Problem(" and ".join(c.origins), str(c)) for c in host.conflicts()]
    for plugin in host.plugins:
        if not plugin.built_in:
            found += [Problem(plugin.origin, note) for note in plugin.notes]
    return found


def told(problem: Any) -> str:
    """Return a problem as one line: the package, what is so, what to do."""
    return " ".join(filter(None, (f"Plugin {problem.origin}: {problem.what}", problem.fix)))


def doctor_plugins(as_json: AsJson = False) -> None:
    """Show what is wrong with the plugins, with what to do.

    Exit status 1 when something is broken; what you only should know is a note.

    Example:
    allkit plugins doctor
    """
    from allkit.plugins import Registry

    host = Registry(fresh=True)
    found = problems_of(host)
    if as_json:
        put_json([asdict(problem) for problem in found], indent=1)
    else:
        put(_text(host, found))
    raise typer.Exit(int(any(problem.broken for problem in found)))


def _text(host: Registry, found: Sequence[Problem]) -> str:
    lines = [f"{'PROBLEM' if p.broken else 'note':<8} {told(p)}" for p in found]
    broken = sum(problem.broken for problem in found)
    packages = len({plugin.distribution for plugin in host.plugins if not plugin.built_in})
    noun = "package" if packages == 1 else "packages"
    state = f"{broken} broken" if broken else "nothing is broken"
    notes = f", {len(found) - broken} to know" if len(found) > broken else ""
    lines.append(f"{packages} {noun} with plugins: {state}{notes}.")
    if host.left_out:
        lines.append(f"Left out by ALLKIT_PLUGINS: {', '.join(host.left_out)}")
    return "".join(f"{line}\n" for line in lines)
