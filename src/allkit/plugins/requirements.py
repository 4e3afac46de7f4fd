"""What an installed package requires, and whether it is there."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator

from allkit.plugins.distributions import Distribution, distributions, plain, shown

__all__ = ["missing_module", "unmet", "unmet_sentence"]


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


def missing_module(error: BaseException, package: str) -> str:
    """Return which module a plugin lacks, and what to install; empty for an error of another kind.

    `package` is that of the plugin. It is the requirement of the module's name, also of an extra, else
    whatever the package requires and is not there.
    """
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    module = shown(error.name.partition(".")[0], 100)
    said = f"the module {module}, which {package} needs, is not installed."
    mine = [one for one in distributions() if plain(one.name) == plain(package)]
    for name, extra in (pair for one in mine for pair in _named(one)):
        if plain(name) == plain(module):
            wanted = f"'{package}[{extra}]'" if extra else name
            return f"{said} Type: pip install {wanted}"
    lacking = [requirement for one in mine for requirement, _ in unmet(one)]
    if lacking:
        return f"{said} Type: pip install {' '.join(f'{one!r}' for one in lacking)}"
    return (
        f"{said} {package} does not require it: tell its author, or install what has that module."
    )


def _named(package: Distribution) -> Iterator[tuple[str, str]]:
    """Yield the names of what a package requires, each with the extra that asks for it, or an empty text."""
    for text in _required(package):
        name = re.match(r"[\w.-]+", text)
        extra = re.search(r"extra\s*==\s*[\"']([\w.-]+)[\"']", text)
        if name:
            yield name[0], extra[1] if extra else ""


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
