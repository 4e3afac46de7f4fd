"""`allkit doctor`: the state of this installation."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

import typer

from allkit import __version__
from allkit.cli.doctor_checks import examine
from allkit.cli.extras import EXTRAS, missing_modules
from allkit.cli.options import AsJson
from allkit.cli.progress import put, put_all, put_json
from allkit.errors import AllkitError

__all__ = ["doctor"]

PACKAGES = ("numpy", "pillow", "onnxruntime", "torch", "timm", "streamlit")
"""The distributions whose version is shown."""
VARIABLES = ("ALLKIT_WEIGHTS", "ALLKIT_CACHE", "ALLKIT_MODELS", "ALLKIT_PLUGINS", "ALLKIT_READERS")


def doctor(as_json: AsJson = False) -> None:
    """Show what is installed, what is missing, and how to get it.

    Exit status 1 when something is broken.

    Example:
    allkit doctor
    """
    from allkit.plugins import registry
    from allkit.telemetry import reports

    problems: list[str] = []
    missing = {extra: missing_modules(modules) for extra, modules in EXTRAS.items()}
    versions = {name: _version(name) for name in PACKAGES}
    report: dict[str, Any] = {
        "allkit": __version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "cores": os.cpu_count(),
        "free_disk_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "missing": {extra: modules for extra, modules in missing.items() if modules},
        "packages": {name: version for name, version in versions.items() if version},
        "telemetry": reports(),
    }
    if not missing["train"]:
        report |= _torch_facts(problems)
    report |= {variable: os.environ.get(variable) for variable in VARIABLES}
    report["clinic"] = _clinic()
    notes: list[str] = []
    states: dict[str, str] = {}
    try:
        for examined in examine(registry()):
            states[f"{examined.origin}: {examined.name}"] = examined.state
            for finding in examined.findings:
                said = " ".join(filter(None, (finding.message, finding.fix)))
                if finding.state == "problem":
                    problems.append(said)
                else:
                    notes.append(f"{examined.name:<16} {said}")
        for problem in registry().problems():
            if problem.state == "problem":
                problems.append(f"Plugin {problem}")
            else:
                notes.append(f"{'plugins':<16} {problem}")
    except AllkitError as error:
        problems.append(str(error))
    report |= {"health_checks": states, "problems": problems, "notes": notes}
    if as_json:
        put_json(report, indent=1)
    else:
        _show(report)
    raise typer.Exit(1 if problems else 0)


def _clinic() -> str | None:
    """Return which clinic the commands take by themselves, where a variable names one.

    The address of a database is not shown: it may hold a password.
    """
    if os.environ.get("ALLKIT_CLINIC_URL"):
        return "in the database that ALLKIT_CLINIC_URL names"
    folder = os.environ.get("ALLKIT_CLINIC")
    if not folder:
        return None
    try:
        there = (Path(folder) / "clinic.sqlite3").exists()
    except OSError:  # a folder that this user may not look into
        return f"{folder}, which this user cannot read"
    return folder if there else f"{folder}, where there is none yet: allkit clinic init makes it"


def _torch_facts(problems: list[str]) -> dict[str, Any]:
    import torch

    from allkit.errors import ConfigError
    from allkit.features import FeatureCache, native_bfloat16
    from allkit.files import users_folder

    facts: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "native_bfloat16": native_bfloat16(
            torch.device("cuda" if torch.cuda.is_available() else "cpu")
        ),
    }
    try:
        cache = FeatureCache()
    except ConfigError as error:
        problems.append(str(error))
        return facts
    facts["cache"] = str(cache.path)
    if not os.environ.get("ALLKIT_CACHE") and users_folder("cache") != cache.path.parent:
        facts["cache"] = "none is kept"
    facts["site_key"] = _site_key()
    return facts


def _site_key() -> str:
    """Return where the key lies by which models recognise their groups."""
    from allkit.evaluation.site_key import FILE_VARIABLE, key_file

    path = key_file()
    if path is None:
        return f"none can be kept, because this user has no home; set {FILE_VARIABLE} to a file"
    return str(path) if os.path.exists(path) else f"{path}, made by the first training with groups"


def _show(report: dict[str, Any]) -> None:
    for key, value in report.items():
        if (
            key in ("missing", "problems", "notes", "packages", "telemetry", "health_checks")
            or value is None
        ):
            continue
        put(f"{key:<16} {value}\n")
    packages = ", ".join(f"{name} {version}" for name, version in report["packages"].items())
    put(f"{'packages':<16} {packages}\n")
    off = [name for name, state in report["telemetry"].items() if state == "off"]
    put(f"{'telemetry':<16} off: {', '.join(off) or 'nothing'}\n")
    checks = report["health_checks"]
    fine = sum(state == "ok" for state in checks.values())
    put(f"{'health checks':<16} {fine} of {len(checks)} found nothing\n")
    put_all(f"{note}\n" for note in report["notes"])
    for extra, names in report["missing"].items():
        put(f"{'not installed':<16} {', '.join(names)}: pip install 'allkit[{extra}]'\n")
    for problem in report["problems"]:
        put(f"{'PROBLEM':<16} {problem}\n")
    if not report["problems"]:
        put("Nothing is broken.\n")


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None
