"""`allkit plugins` and `allkit doctor`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from allkit import __version__
from allkit.errors import AllkitError, PluginError
from allkit.plugins import Registry, registry
from allkit.telemetry import reports

__all__ = ["run_doctor", "run_plugins"]

EXTRAS = {
    "train": (
        "torch",
        "timm",
        "albumentations",
        "sklearn",
        "pandas",
        "pyarrow",
        "matplotlib",
        "onnx",
    ),
    "app": ("streamlit",),
    "serve": ("fastapi", "uvicorn", "prometheus_client", "python_multipart"),
    "ray": ("ray",),
    "download": ("kagglehub",),
}


def run_plugins(*, as_json: bool, family: str | None, refresh: bool = False) -> None:
    """List plugins, or every name of one family; with `refresh` ask every plugin again."""
    host = Registry(fresh=True) if refresh else registry()
    if family is not None:
        record = host.family(family)
        if record is None:
            raise PluginError(
                f"No plugin offers the family {family!r}. `allkit plugins` shows them."
            )
        sys.stdout.writelines(f"{family}:{name}\n" for name in record.names())
        return
    rows: list[dict[str, Any]] = [
        {
            "plugin": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "api_version": plugin.api_version,
            "state": "broken" if plugin.error else "ok",
            "error": plugin.error,
            "milliseconds": round(plugin.seconds * 1000, 1),
            "provides": [
                {
                    "kind": offer.kind,
                    "name": offer.name,
                    "summary": offer.summary,
                    "license": offer.license,
                }
                for offer in plugin.offers
            ],
        }
        for plugin in host.plugins
    ]
    for clash in _clashes(rows):
        sys.stderr.write(f"Conflict: {clash}\n")
    if host.left_out:
        sys.stderr.write(f"Left out by ALLKIT_PLUGINS: {', '.join(host.left_out)}\n")
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    for row in rows:
        sys.stdout.write(
            f"{row['distribution']} {row['version']} · {row['plugin']} · "
            f"{row['milliseconds']:.0f} ms\n"
        )
        if row["error"]:
            sys.stdout.write(f"  BROKEN  {row['error']}\n")
        for item in row["provides"]:
            licence = f" [{item['license']}]" if item["license"] else ""
            sys.stdout.write(
                f"  {item['kind']:<13} {item['name']:<18} {item['summary']}{licence}\n"
            )


def _clashes(rows: list[dict[str, Any]]) -> list[str]:
    owners: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for item in row["provides"]:
            origin = f"{row['distribution']} {row['version']}"
            owners.setdefault((item["kind"], item["name"]), []).append(origin)
    return [
        f"the {kind} {name!r} is claimed by {' and '.join(who)}; it cannot be used until one goes"
        for (kind, name), who in owners.items()
        if len(who) > 1
    ]


def run_doctor(*, as_json: bool) -> int:
    """Show the state of this installation; return 1 when something is broken."""
    report: dict[str, Any] = {
        "allkit": __version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "cores": os.cpu_count(),
        "free_disk_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
    }
    missing = {
        extra: [name for name in names if importlib.util.find_spec(name) is None]
        for extra, names in EXTRAS.items()
    }
    report["missing"] = {extra: names for extra, names in missing.items() if names}
    report["packages"] = {
        name: _version(name)
        for name in ("numpy", "pillow", "onnxruntime", "torch", "timm", "streamlit")
        if _version(name)
    }
    report["telemetry"] = reports()
    problems: list[str] = []
    if not missing["train"]:
        report |= _torch_facts(problems)
    for variable in ("ALLKIT_WEIGHTS", "ALLKIT_CACHE", "ALLKIT_MODELS", "ALLKIT_PLUGINS"):
        report[variable] = os.environ.get(variable)
    weights = os.environ.get("ALLKIT_WEIGHTS")
    if weights and not Path(weights).is_dir():
        problems.append(f"ALLKIT_WEIGHTS names {weights}, which is not a folder.")
    try:
        problems += [f"Plugin {p.origin}: {p.error}" for p in registry().plugins if p.error]
    except AllkitError as error:
        problems.append(str(error))
    report["problems"] = problems
    if as_json:
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
    else:
        _show(report)
    return 1 if problems else 0


def _torch_facts(problems: list[str]) -> dict[str, Any]:
    import torch

    from allkit.errors import ConfigError
    from allkit.features import FeatureCache, native_bfloat16

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
    folder = cache.path.parent
    facts["cache"] = str(cache.path)
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    if not os.access(existing, os.W_OK):
        problems.append(f"The cache folder {folder} cannot be written. Set ALLKIT_CACHE.")
    return facts


def _show(report: dict[str, Any]) -> None:
    for key, value in report.items():
        if key in ("missing", "problems", "packages", "telemetry") or value is None:
            continue
        sys.stdout.write(f"{key:<16} {value}\n")
    packages = ", ".join(f"{name} {version}" for name, version in report["packages"].items())
    sys.stdout.write(f"{'packages':<16} {packages}\n")
    off = [name for name, told in report["telemetry"].items() if told == "off"]
    sys.stdout.write(f"{'telemetry':<16} off: {', '.join(off) or 'nothing'}\n")
    for name, told in report["telemetry"].items():
        if told != "off":
            sys.stdout.write(f"{'telemetry':<16} {name}: {told}\n")
    for extra, names in report["missing"].items():
        sys.stdout.write(
            f"{'not installed':<16} {', '.join(names)}: pip install 'allkit[{extra}]'\n"
        )
    for problem in report["problems"]:
        sys.stdout.write(f"{'PROBLEM':<16} {problem}\n")
    if not report["problems"]:
        sys.stdout.write("Nothing is broken.\n")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
