"""The arrays in which model folders and exported files keep a `Trust`, under names that stay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.trust.groups import ClassGroups
from allkit.trust.slides import SlideLimits
from allkit.trust.space import Space

__all__ = ["PREFIXES", "Arrays", "from_bytes", "pack", "to_bytes", "unpack"]

Arrays = dict[str, npt.NDArray[Any]]
"""Arrays by their names."""

PREFIXES = ("calibration.", "familiarity.", "groups.", "slides.")
"""How the names of all arrays of a `Trust` begin."""
SPACES = ("appearance", "content")
# The names of 0.1.0, which called the slope `softening` and the spaces `familiarity`.
CALIBRATION = {
    "temperature": "calibration.temperature",
    "density_slope": "calibration.softening",
    "coverage": "calibration.coverage",
    "confidence": "calibration.confidence",
}
"""Attribute of `Trust` → name of the array of one number, of a model that is calibrated."""
LIMITS = {"familiar": "familiarity.familiar", "cell_floor": "familiarity.cell_floor"}
"""The same, of a model that knows the ranges of the image statistics."""


def pack(parts: Mapping[str, Any]) -> Arrays:
    """Return the attributes of a `Trust` as arrays; what is `None` is left out."""
    arrays: Arrays = {}
    if parts["temperature"] is not None and parts["thresholds"] is not None:
        arrays |= {name: np.array([parts[part]]) for part, name in CALIBRATION.items()}
        arrays["calibration.thresholds"] = np.asarray(parts["thresholds"], np.float64)
    for name in SPACES:
        if parts[name] is not None:
            arrays |= _of_space(name, parts[name])
    if parts["offset"] is not None:
        arrays["familiarity.offset"] = np.asarray(parts["offset"], np.float32)
    if parts["ranges"] is not None:
        arrays |= {name: np.array([parts[part]]) for part, name in LIMITS.items()}
        arrays["familiarity.ranges"] = np.asarray(parts["ranges"], np.float32)
    groups = parts["groups"] or ClassGroups((), ())  # that there are none is kept, too
    names = json.dumps(groups.names).encode()
    arrays["groups.names"] = np.frombuffer(names, np.uint8).copy()
    arrays["groups.of_class"] = np.array(groups.of_class, np.int64)
    if parts["slides"] is not None:
        for part in fields(SlideLimits):
            value = np.asarray(getattr(parts["slides"], part.name), np.float64)
            arrays[f"slides.{part.name}"] = np.atleast_1d(value)
    return arrays


def unpack(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a `Trust` from what `pack` made; what is not there is left out."""
    values = {name: np.asarray(value) for name, value in arrays.items()}
    parts: dict[str, Any] = {}
    if "calibration.temperature" in values:
        parts |= {part: float(values[name][0]) for part, name in CALIBRATION.items()}
        parts["thresholds"] = values["calibration.thresholds"]
    for name in SPACES:
        space = _to_space(name, values)
        if space is not None:
            parts[name] = space
    if "familiarity.offset" in values:
        parts["offset"] = values["familiarity.offset"]
    if "familiarity.ranges" in values:
        parts |= {part: float(values[name][0]) for part, name in LIMITS.items()}
        parts["ranges"] = values["familiarity.ranges"]
    if "groups.names" in values:
        names = json.loads(values["groups.names"].tobytes())
        positions = tuple(int(position) for position in values["groups.of_class"])
        parts["groups"] = ClassGroups(tuple(names), positions) if names else None
    if "slides.of_group" in values:
        parts["slides"] = _to_slides(values)
    return parts


def _to_slides(arrays: Mapping[str, Any]) -> SlideLimits:
    numbers = ("appearance", "total", "risk", "margin")
    parts: dict[str, Any] = {
        part.name: arrays[f"slides.{part.name}"] for part in fields(SlideLimits)
    }
    plain = {name: float(parts[name][0]) for name in numbers}
    return SlideLimits(**parts | plain | {"empirical": bool(parts["empirical"][0])})


def _of_space(name: str, space: Space) -> Arrays:
    arrays: Arrays = {}
    for part in fields(Space):
        value = getattr(space, part.name)
        if part.name == "seen" and not len(value):
            continue
        array = np.asarray(value) if isinstance(value, np.ndarray) else np.array([value])
        arrays[f"familiarity.{name}.{part.name}"] = array
    return arrays


def _to_space(name: str, arrays: Arrays) -> Space | None:
    """Return the space of that name; `None` where one of its arrays is missing."""
    parts: dict[str, Any] = {
        f.name: arrays.get(f"familiarity.{name}.{f.name}") for f in fields(Space)
    }
    if parts["seen"] is None:
        del parts["seen"]
    if any(value is None for value in parts.values()):
        return None
    return Space(**parts | {n: float(parts[n][0]) for n in ("centre", "scale", "foreign")})


def to_bytes(arrays: Arrays) -> bytes:
    """Return arrays as the content of a safetensors file, for exported files."""
    from safetensors.numpy import save

    data: bytes = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return data


def from_bytes(data: bytes | None) -> Arrays:
    """Return the arrays that `to_bytes` took; none for a file that was exported without."""
    from safetensors.numpy import load

    arrays: Arrays = load(data) if data else {}
    return arrays
