"""Whether everything that names a version of allkit names the same one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

__all__ = ["ROOT", "disagreements", "folders", "project_of"]

ROOT = Path(__file__).resolve().parents[1]


def folders(root: Path) -> list[Path]:
    """Return the folders of allkit and of each plugin, in this order."""
    return [root, *sorted(path.parent for path in root.glob("plugins/*/pyproject.toml"))]


def project_of(folder: Path) -> dict[str, Any]:
    """Return the table `project` of a folder's `pyproject.toml`."""
    text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    project: dict[str, Any] = tomllib.loads(text)["project"]
    return project


def disagreements(root: Path, *, released: bool) -> list[str]:
    """Return one sentence for each place that does not agree with the version in `pyproject.toml`.

    These are looked at: `__version__`, `CITATION.cff`, the newest heading of `CHANGELOG.md`, the
    versions of the plugins, and what allkit and its plugins demand of one another. With `released`
    the changelog must have a heading of this version with the date of `CITATION.cff`; without, it
    may also say Unreleased.
    """
    core = project_of(root)
    version = core["version"]
    return [
        *_source(root, version),
        *_citation(root, version),
        *_changelog(root, version, released=released),
        *_floors(root, Version(version)),
    ]


def _source(root: Path, version: str) -> list[str]:
    text = (root / "src/allkit/__init__.py").read_text(encoding="utf-8")
    found = _one(r'^__version__ = "([^"]+)"$', text)
    return (
        []
        if found == version
        else [f"src/allkit/__init__.py says {found}, pyproject.toml {version}."]
    )


def _citation(root: Path, version: str) -> list[str]:
    text = (root / "CITATION.cff").read_text(encoding="utf-8")
    found = _one(r"^version: (\S+)$", text)
    return [] if found == version else [f"CITATION.cff says {found}, pyproject.toml {version}."]


def _changelog(root: Path, version: str, *, released: bool) -> list[str]:
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = _one(r"^## (\[.*)$", text)
    if heading == "[Unreleased]" and not released:
        return []
    date = _one(r"^date-released: (\S+)$", (root / "CITATION.cff").read_text(encoding="utf-8"))
    wanted = f"[{version}] - {date}"
    return (
        []
        if heading == wanted
        else [
            f"The newest heading of CHANGELOG.md is {heading!r}; {wanted!r} is needed, with the date "
            f"of CITATION.cff."
        ]
    )


def _floors(root: Path, version: Version) -> list[str]:
    """Say where a plugin has another version, or demands one that is not this minor version."""
    found = []
    projects = [project_of(folder) for folder in folders(root)]
    versions = {project["name"]: Version(project["version"]) for project in projects}
    for project in projects:
        name = project["name"]
        if versions[name] != version:
            found.append(f"{name} has the version {versions[name]}, allkit {version}.")
        texts = [*project.get("dependencies", ())]
        texts += [t for extra in project.get("optional-dependencies", {}).values() for t in extra]
        for requirement in map(Requirement, texts):
            if requirement.name not in versions or requirement.name == name:
                continue
            wanted = f">={version.major}.{version.minor}.0"
            if str(requirement.specifier) != wanted:
                found.append(f"{name} demands {requirement}; {requirement.name}{wanted} is needed.")
    return found


def _one(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1] if match else None
