"""The provenance of a training: everything that its result depends on, and where two differ."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field

from allkit.images.batches import cores
from allkit.runtime.fields import Name, Text, Whole

__all__ = ["PACKAGES", "Provenance", "differences", "division_hash", "package_versions"]
__all__ += ["provenance_of"]

Division = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
PACKAGES = (
    "allkit",
    "torch",
    "timm",
    "numpy",
    "pillow",
    "albumentations",
    "opencv-python-headless",
    "accelerate",
    "peft",
    "openvino",
)
"""Packages whose versions a result depends on."""


class Provenance(BaseModel):
    """What a training's result depends on. `allkit reproduce` compares it with a second one."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    data: Text
    """SHA-256 over the images' bytes and labels, in any order."""
    division: Text
    """SHA-256 over which image was learnt from and which was held out, for every member."""
    seed: Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]
    weights: Text
    """SHA-256 of the backbone's weights before the training."""
    result: Text = ""
    """SHA-256 of all weights after it."""
    engine: tuple[Text, ...]
    """What computed the frozen part: engine, version, device, precision."""
    threads: Whole
    processes: Whole = 1
    versions: dict[Name, Text]
    plugins: dict[Name, Text]
    hardware: dict[Name, Text]


def provenance_of(
    *,
    data: str,
    division: str,
    seed: int,
    weights: str,
    engine: Sequence[str],
    device: torch.device,
    plugins: Mapping[str, str],
    processes: int = 1,
) -> Provenance:
    """Return the provenance of a training on this machine, as it is now."""
    return Provenance(
        data=data,
        division=division,
        seed=seed,
        weights=weights,
        engine=tuple(engine),
        threads=torch.get_num_threads(),
        processes=processes,
        versions=package_versions(PACKAGES) | {"python": platform.python_version()},
        plugins=dict(plugins),
        hardware=_hardware(device),
    )


def division_hash(hashes: Sequence[str], divisions: Iterable[Division]) -> str:
    """Return SHA-256 over the images learnt from and held out, for each (learn, check)."""
    text = json.dumps([[sorted(hashes[int(i)] for i in part) for part in d] for d in divisions])
    return hashlib.sha256(text.encode()).hexdigest()


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def differences(before: Provenance, now: Provenance) -> list[str]:
    """Return in words what differs between two trainings, what matters most first."""
    lines = []
    for name, words in (
        ("data", "the images or their labels"),
        ("division", "which images were learnt from and which were held out"),
        ("weights", "the backbone's weights at the start"),
    ):
        if getattr(before, name) != getattr(now, name):
            lines.append(f"{words} differ")
    if before.seed != now.seed:
        lines.append(f"seed {before.seed}, now {now.seed}")
    for name, kind in (("plugins", "plugin"), ("versions", "package"), ("hardware", "hardware")):
        old, new = getattr(before, name), getattr(now, name)
        lines += [
            f"{kind} {key}: {old.get(key, 'not there')}, now {new.get(key, 'not there')}"
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]
    if before.engine != now.engine:
        lines.append(f"engine {' '.join(before.engine)}, now {' '.join(now.engine)}")
    for name in ("threads", "processes"):
        if getattr(before, name) != getattr(now, name):
            lines.append(f"{name} {getattr(before, name)}, now {getattr(now, name)}")
    return lines


def _hardware(device: torch.device) -> dict[str, str]:
    facts = {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability()
        + (" with bfloat16" if torch.cpu._is_avx512_bf16_supported() else ""),
        "cores": str(cores()),
        "system": f"{platform.system()} {platform.machine()}",
        "device": device.type,
    }
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
    memory = _memory()
    return facts | ({"memory": f"{memory / 2**30:.0f} GiB"} if memory else {})


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return 0
