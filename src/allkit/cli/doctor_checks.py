"""The health checks of plugins, each in a process of its own, which may hang or crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from allkit.errors import AllkitError
from allkit.plugins import Plugin, Registry, calling
from allkit.plugins.catalogue import limit, search_path
from allkit.records import Finding, HealthCheck, Reference

__all__ = ["Examined", "child", "examine"]

MOST = 20
"""Findings of one health check that are shown."""
LONGEST = 500
_CHILD = (
    "import json, sys\n"
    "job = json.loads(sys.stdin.readline())\n"
    "sys.path[:] = job['path']\n"
    "from allkit.cli.doctor_checks import child\n"
    "child(job)\n"
)


@dataclass(frozen=True)
class Examined:
    """What came of one health check; `origin` is the package with its version."""

    name: str
    origin: str
    findings: tuple[Finding, ...]

    @property
    def state(self) -> str:
        """The worst of its findings: `ok`, `note` or `problem`."""
        states = [finding.state for finding in self.findings]
        return "problem" if "problem" in states else "note" if states else "ok"


def examine(host: Registry) -> Iterator[Examined]:
    """Run every health check: allkit's own, then those of plugins, all at once.

    Each of a plugin runs in a process of its own, and has the seconds that `limit` says. One that fails,
    hangs or crashes is a finding itself, and disturbs no other.
    """
    for plugin, offer in host.offers("health-check", own=True):
        check = host.get("health-check", Reference(offer.name, plugin.distribution))
        yield Examined(offer.name, plugin.origin, _here(plugin, check))
    others = [(p, offer.name) for p, offer in host.offers("health-check") if not p.built_in]
    if others:
        with ThreadPoolExecutor(min(len(others), 2 * (os.cpu_count() or 1))) as pool:
            yield from pool.map(lambda one: _elsewhere(*one), others)


def _here(plugin: Plugin, check: HealthCheck) -> tuple[Finding, ...]:
    """Run a check in this process; what goes wrong is a finding that names its package."""
    try:
        with calling(plugin.origin, "health-check", check.name, "run"):
            found = tuple(check.run())
            for finding in found:
                if not isinstance(finding, Finding):
                    raise TypeError(f"{finding!r:.200} is no Finding")
    except (AllkitError, MemoryError) as error:
        return (_failed(plugin.origin, str(error) or "The memory does not suffice."),)
    return found


def _failed(origin: str, message: str) -> Finding:
    package = origin.rpartition(" ")[0]
    way_out = f"Update or uninstall {package}, or leave it out by ALLKIT_PLUGINS."
    return Finding("problem", message, way_out)


def _elsewhere(plugin: Plugin, name: str) -> Examined:
    roots = [str(plugin.found.package.root)] if plugin.found else []
    job = {"path": search_path(roots), "package": plugin.distribution, "name": name}
    origin = plugin.origin

    def ended(how: str) -> Examined:
        message = f"{origin}: the health check {name!r} {how}."
        return Examined(name, origin, (_failed(origin, message),))

    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _CHILD],
            input=json.dumps(job) + "\n",
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=limit(),
            check=False,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        )
    except subprocess.TimeoutExpired:
        return ended(f"took longer than {limit():g} seconds and was ended")
    except (OSError, ValueError) as error:
        return ended(f"could not be run: {error}")
    if done.returncode < 0:
        return ended(f"crashed the Python process (signal {-done.returncode})")
    found = _read(done.stdout)
    if found is None:
        return ended(f"ended the Python process (status {done.returncode}) without an answer")
    if len(found) > MOST:
        more = Finding("note", f"It found {len(found) - MOST} more things, which are not shown.")
        found = [*found[:MOST], more]
    return Examined(name, origin, tuple(map(_short, found)))


def _read(answer: str) -> list[Finding] | None:
    try:
        return [Finding(**values) for values in json.loads(answer.rpartition("\n")[2])]
    except (ValueError, TypeError, AllkitError, RecursionError):
        return None


def _short(finding: Finding) -> Finding:
    return replace(finding, message=_line(finding.message), fix=_line(finding.fix))


def _line(text: object) -> str:
    one = " ".join(str(text).split())
    return one if len(one) <= LONGEST else one[:LONGEST] + "…"


def child(job: dict[str, Any]) -> None:
    """Run in the child: run one check and write what it found."""
    from allkit.plugins import registry

    answers = os.dup(1)
    os.dup2(2, 1)  # what a plugin prints must not mix with the answer
    host = registry()
    reference = f"{job['package']}/{job['name']}"
    try:
        plugin = host.provider("health-check", reference)
        found: Sequence[Finding] = _here(plugin, host.get("health-check", reference))
    except AllkitError as error:
        found = [_failed(f"{job['package']} ?", str(error))]
    text = json.dumps([asdict(finding) for finding in found], default=str)
    with os.fdopen(answers, "w", encoding="utf-8") as stream:
        stream.write(text)
    os._exit(0)  # whatever threads a plugin has left behind
