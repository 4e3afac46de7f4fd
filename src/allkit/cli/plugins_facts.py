"""What the metadata of an installed package says: licence, home page, what it needs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution

__all__ = ["Facts", "Need", "facts_of", "licence_of"]

_HEADER = re.compile(r"^([A-Za-z-]+): (.*)$", re.MULTILINE)
_LONGEST = 60
"""Characters of a licence: in place of its name, some packages give its text."""
_HOME = ("homepage", "home page", "repository", "source", "source code")


@dataclass(frozen=True)
class Need:
    """Something that a package requires. `there` is the version that is installed, or empty."""

    text: str
    there: str
    met: bool


@dataclass(frozen=True)
class Facts:
    """What a package says of itself; empty where it says nothing."""

    license: str = ""
    summary: str = ""
    home_page: str = ""
    needs: tuple[Need, ...] = ()


def facts_of(package: str) -> Facts:
    """Return what an installed package says of itself; what cannot be read is empty."""
    headers = _headers(package)

    def first(name: str) -> str:
        return next((value for key, value in headers if key == name), "")

    return Facts(
        license=_licence(headers),
        summary=first("Summary"),
        home_page=_home_page(headers),
        needs=tuple(_needs([value for key, value in headers if key == "Requires-Dist"])),
    )


def licence_of(package: str) -> str:
    """Return the licence that an installed package names, or an empty text."""
    return _licence(_headers(package))


def _headers(package: str) -> list[tuple[str, str]]:
    found = _installed(package)
    if found is None:
        return []
    try:
        text = found.read_text("METADATA") or found.read_text("PKG-INFO") or ""
    except (OSError, UnicodeDecodeError):  # damaged, which `allkit plugins doctor` tells
        return []
    head = text.replace("\r\n", "\n").partition("\n\n")[0]
    return [(key, value.strip()) for key, value in _HEADER.findall(head)]


def _installed(package: str) -> Distribution | None:
    try:
        return distribution(package)
    except (PackageNotFoundError, ValueError):
        return None


def _licence(headers: Sequence[tuple[str, str]]) -> str:
    named = dict(reversed(headers))
    for text in (named.get("License-Expression", ""), named.get("License", "")):
        if text and text != "UNKNOWN" and len(text) <= _LONGEST:
            return text
    classifiers = [v for k, v in headers if k == "Classifier" and v.startswith("License ::")]
    return ", ".join(text.rpartition(" :: ")[2] for text in classifiers)


def _home_page(headers: Sequence[tuple[str, str]]) -> str:
    links = [v.partition(",") for k, v in headers if k == "Project-URL"]
    named = {label.strip().lower(): address.strip() for label, _, address in links}
    for label in _HOME:
        if label in named:
            return named[label]
    return dict(headers).get("Home-page", "") or next(iter(named.values()), "")


def _needs(texts: Sequence[str]) -> list[Need]:
    from packaging.requirements import InvalidRequirement, Requirement

    found = []
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        there = _installed(requirement.name)
        version = there.version if there else ""
        met = bool(version) and requirement.specifier.contains(version, prereleases=True)
        requirement.marker = None
        found.append(Need(str(requirement), version, met))
    return found
