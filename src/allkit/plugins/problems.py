"""What is wrong with the installed plugins, and what to do: for `allkit doctor`."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from allkit.plugins.distributions import Distribution, distributions, shown

if TYPE_CHECKING:
    from allkit.plugins.host import Registry

__all__ = ["Problem", "problems", "unmet", "unmet_sentence"]


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, or, as a `note`, worth knowing though everything works.

    `where` is the package with its version, or the path of a damaged installation; `what` is a
    sentence, and so is `fix`, which is empty where `what` says already what to do.
    """

    where: str
    what: str
    fix: str = ""
    state: Literal["problem", "note"] = "problem"

    def __str__(self) -> str:
        return " ".join(filter(None, (f"{self.where}: {self.what}", self.fix)))


def problems(host: Registry) -> list[Problem]:
    """Return what is wrong: with each plugin, between them, and with their installations."""
    return [*_of_plugins(host), *_of_installations(host), *_of_names(host)]


def _of_plugins(host: Registry) -> Iterator[Problem]:
    for plugin in host.plugins:
        if plugin.error:
            package = plugin.distribution
            fix = f"Update it, take it off (pip uninstall {package}), or tell its author."
            yield Problem(plugin.origin, plugin.error, fix)
        for note in plugin.notes:
            yield Problem(plugin.origin, note, state="note")


def _of_installations(host: Registry) -> Iterator[Problem]:
    for package in distributions():
        if package.damage and not package.entries:
            yield Problem(str(package.folder), package.damage)
    packages = {(found.distribution, found.version): found for found in host.found}
    for found in packages.values():
        for requirement, version in unmet(found.package):
            there = f"and {version} is installed" if version else "which is not installed"
            yield Problem(
                found.origin, f"It requires {requirement}, {there}.", f"pip install '{requirement}'"
            )


def _of_names(host: Registry) -> Iterator[Problem]:
    for conflict in host.conflicts():
        state: Literal["problem", "note"] = "note" if conflict.own else "problem"
        yield Problem(" and ".join(conflict.origins), f"Conflict: {conflict}", state=state)


def unmet(package: Distribution) -> list[tuple[str, str]]:
    """Return the requirements of a package that are not met, with the version that is there instead.

    The version is empty where there is none. A requirement of an extra does not count.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    found = []
    for text in _required(package):
        try:
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
        except (InvalidRequirement, ValueError):
            found.append((shown(text, 100), ""))
            continue
        version = _version(requirement.name)
        if not version or not requirement.specifier.contains(version, prereleases=True):
            found.append((shown(f"{requirement.name}{requirement.specifier}", 100), version))
    return found


def unmet_sentence(package: Distribution) -> str:
    """Return, with a blank before it, what a package requires and is not there; or an empty text."""
    missing = [
        f"{requirement} ({f'{version} is' if version else 'not'} installed)"
        for requirement, version in unmet(package)
    ]
    return f" It requires {', '.join(missing)}." if missing else ""


def _required(package: Distribution) -> Iterator[str]:
    for line in (package.text("METADATA") or package.text("PKG-INFO")).splitlines():
        if not line.strip():  # the description follows
            return
        name, _, value = line.partition(":")
        if name.lower() == "requires-dist":
            yield value.strip()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name) or ""
    except Exception:  # noqa: BLE001 - of a damaged installation it is whatever comes
        return ""
