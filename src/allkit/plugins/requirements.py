"""What an installed package requires, and whether it is there."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

from allkit.plugins.distributions import Distribution, shown

__all__ = ["unmet", "unmet_sentence"]


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
