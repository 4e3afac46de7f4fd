"""`allkit plugins doctor`: what is wrong with the plugins that are installed, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from allkit.cli.options import AsJson
from allkit.cli.progress import put, put_json

if TYPE_CHECKING:
    from allkit.plugins import Problem, Registry

__all__ = ["doctor_plugins"]


def doctor_plugins(as_json: AsJson = False) -> None:
    """Show what is wrong with the plugins, with what to do.

    Exit status 1 when something is broken, 0 when there are notes only.

    Example:
    allkit plugins doctor
    """
    from allkit.plugins import Registry

    host = Registry(fresh=True)
    found = host.problems()
    if as_json:
        put_json([asdict(problem) for problem in found], indent=1)
    else:
        put(_text(host, found))
    raise typer.Exit(int(any(problem.state == "problem" for problem in found)))


def _text(host: Registry, found: Sequence[Problem]) -> str:
    lines = [f"{'PROBLEM' if p.state == 'problem' else 'note':<8} {p}" for p in found]
    count = Counter(problem.state for problem in found)
    packages = len({plugin.distribution for plugin in host.plugins if not plugin.built_in})
    noun = "package" if packages == 1 else "packages"
    states = [f"{count['problem']} broken" if count["problem"] else "nothing is broken"]
    if count["conflict"]:
        states.append(f"{count['conflict']} conflict{'s' if count['conflict'] > 1 else ''}")
    if count["note"]:
        states.append(f"{count['note']} to know")
    lines.append(f"{packages} {noun} with plugins: {', '.join(states)}.")
    if host.left_out:
        lines.append(f"Left out by ALLKIT_PLUGINS: {', '.join(host.left_out)}")
    return "".join(f"{line}\n" for line in lines)
