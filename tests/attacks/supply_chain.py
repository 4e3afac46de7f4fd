"""What is installed beside allkit: floors of versions, licences, and calls that could run code."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.version import Version

from attacks import Counts, Scale

TITLE = "Supply chain"

ROOT = Path(__file__).resolve().parents[2]

FLOORS = {
    "onnx": ("1.21.0", "external data outside the folder of a model"),
    "opencv-python-headless": ("4.8.1.78", "memory corruption in its WebP decoder"),
    "pillow": ("13.0.0", "38 security entries of its decoders"),
    "python-multipart": ("0.0.18", "a crafted form that keeps the server busy"),
    "streamlit": ("1.54", "requests to other machines by paths of Windows"),
    "torch": ("2.10", "code execution and memory corruption while reading weights"),
}
"""The oldest release without a known hole that concerns what allkit does, and which hole it was."""

KEPT_OUT = {
    "lightning": "two of its releases of 2026 stole credentials when imported",
    "pytorch-lightning": "as lightning",
    "ultralytics": "AGPL; one of its releases mined coins",
    "albumentationsx": "AGPL",
    "lightly-train": "AGPL",
}

COPYLEFT = re.compile(r"\b(A?GPL|Affero|(?<!Lesser )General Public)", re.I)
LESSER = re.compile(r"\bLGPL|Lesser General Public", re.I)
BANNED = re.compile(
    r"^(pickle|cPickle|dill|cloudpickle|joblib|marshal|shelve)\.(load|loads|Unpickler|open)$"
    r"|^torch\.hub\.(?!get_dir$)|load_state_dict_from_url$|^yaml\.(unsafe_load|full_load|load_all)$"
    r"|^(eval|exec|__import__)$|^os\.(system|popen)$|^(skops|keras)\."
)
"""Calls by which a file that is read could run code."""


def normal(name: str) -> str:
    """Return the name of a distribution in its normal form."""
    return re.sub(r"[-_.]+", "-", name).lower()


def project() -> dict:
    """Return the table `project` of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requires(name: str) -> list[str]:
    """Return what a distribution requires; allkit itself as the checkout says, not as installed."""
    if name != "allkit":
        return importlib.metadata.requires(name) or []
    table = project()
    texts = list(table["dependencies"])
    for extra, wanted in table["optional-dependencies"].items():
        for text in wanted:
            plain, _, marker = text.partition(";")
            condition = f"({marker}) and " if marker else ""
            texts.append(f"{plain}; {condition}extra == '{extra}'")
    return texts


def closure(requirements: list[str]) -> set[str]:
    """Return the names of what these requirements bring that is installed here, themselves too."""
    waiting = [(r, "") for r in requirements]
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    while waiting:
        text, extra = waiting.pop()
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate(default_environment() | {"extra": extra}):
            continue
        name = normal(wanted.name)
        try:
            inner = requires(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
        for extra in ["", *wanted.extras]:
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += [(r, extra) for r in inner]
    return found


def licence(name: str) -> str:
    """Return what a distribution says of its licence, in one line."""
    meta = importlib.metadata.metadata(name)
    said = [meta.get("License-Expression") or "", (meta.get("License") or "")[:200]]
    said += [c for c in meta.get_all("Classifier") or [] if c.startswith("License")]
    return "; ".join(" ".join(part.split()) for part in said if part)


def forbidden(name: str, *, core: bool) -> bool:
    """Return whether the licence of a distribution keeps it out of the core, or out altogether.

    Of several licences to choose from, one is enough.
    """
    choices = re.split(r"\bOR\b|\bor\b|; ", licence(name)) or [""]
    lesser = [bool(LESSER.search(choice)) for choice in choices]
    full = [bool(COPYLEFT.search(LESSER.sub("", choice))) for choice in choices]
    return all(full) or (core and all(a or b for a, b in zip(full, lesser, strict=True)))


def calls(path: Path) -> Iterator[tuple[int, str, ast.Call]]:
    """Yield the calls of a module: line, dotted name, and the call."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func), node


def floors() -> Counts:
    """Compare what is required, and what is installed, with the floors."""
    counts = Counts()
    required: dict[str, Version] = {}
    table = project()
    extras = [r for group in table["optional-dependencies"].values() for r in group]
    for text in [*table["dependencies"], *extras]:
        wanted = Requirement(text)
        lower = [Version(s.version) for s in wanted.specifier if s.operator in (">=", "==")]
        if lower:
            name = normal(wanted.name)
            required[name] = min(max(lower), required.get(name, max(lower)))
    for name, (floor, why) in FLOORS.items():
        have = Version(importlib.metadata.version(name))
        if name not in required:
            counts.failed.append(f"{name} is not required any more: take it off the floors")
        elif required[name] < Version(floor):
            counts.failed.append(f"{name} {required[name]} is allowed; {floor} closes {why}")
        elif have < Version(floor):
            counts.failed.append(f"{name} {have} is installed; {floor} closes {why}")
        else:
            counts.right += 1
    return counts


def brought() -> tuple[set[str], set[str]]:
    """Return the names of what the core brings, and of what it brings with every extra for users."""
    table = project()
    extras = sorted(set(table["optional-dependencies"]) - {"dev", "docs"})
    return closure(table["dependencies"]), closure([f"allkit[{','.join(extras)}]"])


def licences() -> Counts:
    """Look at the licence of everything that the core and the extras bring."""
    counts = Counts()
    core, extras = brought()
    for name in sorted(core | extras):
        if name in KEPT_OUT:
            counts.failed.append(f"{name} is brought: {KEPT_OUT[name]}")
        elif forbidden(name, core=name in core):
            counts.failed.append(f"{name} is under {licence(name)}")
        else:
            counts.right += 1
            counts.measured["that state no licence"] = counts.measured.get(
                "that state no licence", 0
            ) + (licence(name) in ("", "UNKNOWN"))
    return counts


def code_runners() -> Counts:
    """Look for calls by which a file that is read could run code, in all that is shipped."""
    counts = Counts()
    for folder in ("src", "streamlit_app", "plugins"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            bad = []
            for line, name, call in calls(path):
                texts = {k.arg: ast.unparse(k.value) for k in call.keywords}
                if BANNED.search(name):
                    bad.append(f"{name} in line {line}")
                if name == "torch.load" and texts.get("weights_only") != "True":
                    bad.append(f"torch.load without weights_only in line {line}")
                if name in ("np.load", "numpy.load") and "allow_pickle" in texts:
                    bad.append(f"np.load with allow_pickle in line {line}")
                if texts.get("shell") == "True":
                    bad.append(f"a shell in line {line}")
            if bad:
                counts.failed.append(f"{path.relative_to(ROOT)}: {', '.join(bad)}")
            else:
                counts.right += 1
    return counts


def run(scale: Scale, folder: Path) -> dict[str, Counts]:
    """Return the counts of the row; both scales are the same."""
    return {
        "floors of versions with known holes": floors(),
        "licences of what is installed": licences(),
        "files of code without a call that runs what it reads": code_runners(),
    }
