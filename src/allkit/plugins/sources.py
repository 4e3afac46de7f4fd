"""What the code of a plugin is, beside its version: one version may be installed with other code.

An installed package lists its files with their hashes (RECORD), which an installation replaces. What
changes without one, as the files of an editable installation do, is looked at itself: the files of the
package, other than what Python or a tool made of them, and, for a module without a package, the
modules beside it. A file of up to 32 MB counts by its content, a larger one, such as weights, by its
size and the time of its last change.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import os
import types
from collections.abc import Iterator, Sequence
from pathlib import Path

from allkit.plugins.distributions import Distribution

__all__ = ["changing", "content", "installed", "of_module", "state"]

LARGEST = 32 * 2**20
MOST = 2000
"""Files of one plugin that are looked at."""
LEFT_OUT = ("__pycache__", "node_modules")
MADE = (".pyc", ".pyo", ".log", ".tmp", ".swp")


def changing(package: Distribution, value: str) -> list[Path]:
    """Return the files behind an entry point that are not those of its installation, sorted.

    Empty where the code was installed, so that the version tells all of it.
    """
    editable = _is_editable(package)
    if not editable and package.text("RECORD"):
        return []
    tops = {
        value.partition(":")[0].partition(".")[0].strip(),
        *package.text("top_level.txt").split(),
    }
    return sorted({file for top in tops for file in _of_module(top, editable, package.root)})


def _is_editable(package: Distribution) -> bool:
    try:
        return json.loads(package.text("direct_url.json"))["dir_info"]["editable"] is True
    except (ValueError, LookupError, TypeError, RecursionError):  # there is none, as a rule
        return False


def installed(package: Distribution) -> str:
    """Return a hash of the files of an installed package, as its RECORD lists them; empty without.

    Not of those that Python made of them, of its metadata and of its commands, which are others in
    each environment. What is listed without a hash is read.
    """
    rows = []
    for line in csv.reader(package.text("RECORD").splitlines()):
        name, digest = (line[0], line[1]) if len(line) > 1 else (*line, "")
        top = name.partition("/")[0]
        if name.endswith(MADE) or top == ".." or top.endswith((".dist-info", ".egg-info")):
            continue
        file = package.root / name
        rows.append([name, digest or (content([file]) if file.is_file() else "")])
    return hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest() if rows else ""


def of_module(module: object) -> str:
    """Return a hash of the file, or the package, that a module was imported from; empty without one."""
    file = getattr(module, "__file__", None)
    if not isinstance(module, types.ModuleType) or not file or not os.path.isfile(file):
        return ""
    path = Path(file)
    package = path.name == "__init__.py"
    return content(sorted(_inside(path.parent)) if package else [path])


def _of_module(top: str, editable: bool, root: Path) -> Iterator[Path]:
    here = root / f"{top}.py"
    if here.is_file() and not (root / top).is_dir():
        yield here  # as below, without asking every finder
        return
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    for folder in folders:
        yield from _inside(folder)
    if spec and spec.origin and not folders and os.path.isfile(spec.origin):
        yield Path(spec.origin)
        if editable:
            yield from Path(spec.origin).parent.glob("*.py")


def _inside(folder: Path) -> Iterator[Path]:
    count = 0
    for inner, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in LEFT_OUT and not f.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and not name.endswith(MADE) and count < MOST:
                count += 1
                yield Path(inner, name)


def state(files: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Return path, time and size of each file: what changes when its content does, without reading."""
    found = []
    for file in files:
        try:
            status = file.stat()
        except OSError:  # it went, or leads nowhere
            continue
        found.append((str(file), status.st_mtime_ns, status.st_size))
    return found


def content(files: Sequence[Path]) -> str:
    """Return a hash of what the files hold, wherever they lie."""
    common = os.path.commonpath([str(file.parent) for file in files])
    parts = []
    for path, changed, size in state(files):
        try:
            held = str(changed) if size > LARGEST else hashlib.sha256(_bytes(path)).hexdigest()
        except OSError:
            held = "unreadable"
        parts.append((os.path.relpath(path, common).replace(os.sep, "/"), size, held))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
