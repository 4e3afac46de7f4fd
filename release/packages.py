"""Builds the source archives and wheels of allkit and of its plugins, and reads them back."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

from agreement import project_of
from packaging.metadata import InvalidMetadata, Metadata

__all__ = ["build", "content", "faults", "wanted_in_wheel", "wheel_from_archive"]

CREATED = "1577836800"
"""The time that all files in the archives get, in seconds: the same content gives the same bytes."""


def build(folder: Path, out: Path, *kinds: str) -> list[Path]:
    """Build a package into `out` and return the new files; `kinds` are `sdist`, `wheel` or both.

    The build tool is the hatchling of this environment, so nothing is fetched.
    """
    before = set(out.glob("*"))
    targets = [word for kind in kinds for word in ("--target", kind)]
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", *targets, "--directory", str(out.resolve())],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"SOURCE_DATE_EPOCH": CREATED},
    )
    return sorted(set(out.glob("*")) - before)


def wheel_from_archive(archive: Path, out: Path) -> Path:
    """Return the wheel that is built from a source archive: it shows whether that is complete."""
    with tempfile.TemporaryDirectory() as place, tarfile.open(archive) as packed:
        # The filter came with Python 3.11.4; the archive is what was built a moment ago.
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        packed.extractall(place, **safely)
        [folder] = Path(place).iterdir()
        [wheel] = build(folder, out, "wheel")
    return wheel


def content(wheel: Path) -> set[str]:
    """Return the names of the files in a wheel, without the folder of its metadata."""
    with zipfile.ZipFile(wheel) as packed:
        return {name for name in packed.namelist() if ".dist-info/" not in name}


def wanted_in_wheel(folder: Path) -> set[str]:
    """Return the names that a wheel must hold, and nothing else, by `pyproject.toml` and the disk."""
    settings = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    names = set(wheel.get("only-include", ()))
    for package in wheel.get("packages", ()):
        names |= _under(folder / package, Path(package).name)
    for source, target in wheel.get("force-include", {}).items():
        path = folder / source
        names |= _under(path, target) if path.is_dir() else {target}
    return names


def _under(folder: Path, name: str) -> set[str]:
    return {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def faults(wheel: Path, folder: Path) -> list[str]:
    """Return one sentence for each thing that is wrong with a wheel of the package in `folder`."""
    project, found = project_of(folder), []
    with zipfile.ZipFile(wheel) as packed:
        place = next(name for name in packed.namelist() if name.endswith(".dist-info/METADATA"))
        text = packed.read(place)
        ends = {name.rpartition("/")[2] for name in packed.namelist() if ".dist-info/" in name}
    try:
        metadata = Metadata.from_email(text, validate=True)
    except (InvalidMetadata, ExceptionGroup) as error:
        return [f"{wheel.name}: its metadata are not valid: {error}"]
    if (metadata.name, str(metadata.version)) != (project["name"], project["version"]):
        found.append(f"{wheel.name} is {metadata.name} {metadata.version}.")
    if not metadata.description or metadata.description_content_type != "text/markdown":
        found.append(f"{wheel.name} carries no README in Markdown.")
    if metadata.license_expression != project["license"]:
        found.append(f"{wheel.name} names the licence {metadata.license_expression}.")
    if project.keys() & {"scripts", "entry-points"} and "entry_points.txt" not in ends:
        found.append(f"{wheel.name} has no entry points.")
    wanted, there = wanted_in_wheel(folder), content(wheel)
    found += [f"{wheel.name} lacks {name}." for name in sorted(wanted - there)]
    found += [f"{wheel.name} holds {name}, which is not wanted." for name in sorted(there - wanted)]
    return found
