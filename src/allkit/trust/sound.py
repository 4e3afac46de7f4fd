"""Whether stored arrays can be a `Trust`: names, shapes, kinds and ranges, before anything uses them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from allkit.images.statistics import STATISTIC_NAMES
from allkit.trust.slides import SIZES

__all__ = ["fault"]

Array = npt.NDArray[Any]
MOST_DIMENSIONS = 2**20
SPACE = ("mean", "projection", "references", "owners", "centre", "scale", "foreign")


class _Kind(NamedTuple):
    """What one array must be: its shape, with letters for what is not known, and its values."""

    shape: tuple[int | str, ...]
    holds: Callable[[Array], bool]
    words: str
    whole: bool = False


def _between(low: float, high: float) -> Callable[[Array], bool]:
    return lambda values: bool(((values >= low) & (values <= high)).all())


def _above(low: float) -> Callable[[Array], bool]:
    return lambda values: bool((values > low).all())  # no NaN is


def _number(values: Array) -> bool:
    return bool(np.isfinite(values).all())


def _no_nan(values: Array) -> bool:
    return not bool(np.isnan(values).any())


def _thresholds(values: Array) -> bool:
    return bool((((values >= 0) & (values <= 1)) | np.isposinf(values)).all())


def _ordered(values: Array) -> bool:
    return _number(values) and bool((values[:, 0] <= values[:, 1]).all())


def fault(arrays: Mapping[str, Array], classes: int, width: int | None = None) -> str:
    """Return what is wrong with the arrays of a `Trust` for so many classes, or an empty string.

    `width` is the number of features, where it is known.
    """
    groups, wrong = _groups(arrays, classes)
    if wrong:
        return wrong
    kinds = _kinds(classes, groups)
    for name, array in arrays.items():
        kind = kinds.get(name)
        if kind is None:
            return f"it holds an array {name[:80]!r}, which allkit does not write"
        wrong = _fault_of(name, np.asarray(array), kind)
        if wrong:
            return wrong
    return _incomplete(arrays) or _of_spaces(arrays, width)


def _fault_of(name: str, array: Array, kind: _Kind) -> str:
    fits = array.ndim == len(kind.shape) and all(
        isinstance(wanted, str) or found == wanted
        for found, wanted in zip(array.shape, kind.shape, strict=True)
    )
    if not fits:
        wanted = " × ".join(map(str, kind.shape))
        return f"{name} has the shape {array.shape}, not {wanted}"
    if array.dtype.kind not in (
        "iu" if kind.whole else "f" if name != "slides.empirical" else "fiub"
    ):
        return f"{name} is of the kind {array.dtype}"
    if not kind.holds(array):
        return f"{name} must be {kind.words}"
    return ""


def _kinds(classes: int, groups: int) -> dict[str, _Kind]:
    """Return what every array of a `Trust` must be, by its name."""
    one = (1,)
    numbers = "numbers"
    kinds = {
        "calibration.temperature": _Kind(one, _between(1e-6, 1e6), "above 0, and a number"),
        "calibration.softening": _Kind(one, _between(0, 100), "between 0 and 100"),
        "calibration.coverage": _Kind(one, _between(0, 1), "between 0 and 1"),
        "calibration.confidence": _Kind(one, _between(0, 1), "between 0 and 1"),
        "calibration.thresholds": _Kind((classes,), _thresholds, "between 0 and 1, or infinite"),
        "familiarity.familiar": _Kind(one, _no_nan, "a number"),
        "familiarity.cell_floor": _Kind(one, _between(0, 1), "between 0 and 1"),
        "familiarity.ranges": _Kind(
            (len(STATISTIC_NAMES), 2), _ordered, "lowest and highest values"
        ),
        "familiarity.offset": _Kind((classes,), _number, numbers),
        "groups.names": _Kind(("any",), _number, numbers, whole=True),
        "groups.of_class": _Kind(
            (classes if groups else 0,),
            _between(0, max(0, groups - 1)),
            f"below the number of groups, {groups}",
            whole=True,
        ),
        "slides.of_group": _Kind((groups,), _no_nan, numbers),
        "slides.of_fields": _Kind((len(SIZES), groups), _no_nan, numbers),
        "slides.temperatures": _Kind((len(SIZES),), _between(1e-6, 1e6), "above 0, and numbers"),
        "slides.appearance": _Kind(one, _no_nan, "a number"),
        "slides.total": _Kind(one, _no_nan, "a number"),
        "slides.content": _Kind((groups,), _no_nan, numbers),
        "slides.one_slide": _Kind((classes,), _between(0, 1), "0 or 1"),
        "slides.risk": _Kind(one, _between(0, 1), "between 0 and 1"),
        "slides.margin": _Kind(one, _between(0, 100), "between 0 and 100"),
        "slides.empirical": _Kind(one, _between(0, 1), "0 or 1"),
    }
    counts = {
        f"slides.{n}": _Kind((groups,), _between(0, 1e9), "counts")
        for n in ("counts", "tested", "wrong")
    }
    for name in ("appearance", "content"):
        kinds |= {
            f"familiarity.{name}.mean": _Kind(("D",), _number, numbers),
            f"familiarity.{name}.projection": _Kind(("D", "d"), _number, numbers),
            f"familiarity.{name}.references": _Kind(("R", "d"), _number, numbers),
            f"familiarity.{name}.owners": _Kind(
                ("R",), _between(0, classes - 1), "positions of classes", whole=True
            ),
            f"familiarity.{name}.centre": _Kind(one, _number, "a number"),
            f"familiarity.{name}.scale": _Kind(one, _above(0), "above 0"),
            f"familiarity.{name}.foreign": _Kind(one, _above(0), "above 0"),
            f"familiarity.{name}.seen": _Kind(("U", "d"), _number, numbers),
        }
    return kinds | counts


def _groups(arrays: Mapping[str, Array], classes: int) -> tuple[int, str]:
    """Return how many groups there are, and what is wrong with their names."""
    if "groups.names" not in arrays:
        return (
            0,
            "groups.of_class is there without groups.names" if "groups.of_class" in arrays else "",
        )
    if "groups.of_class" not in arrays:
        return 0, "groups.names is there without groups.of_class"
    try:
        names = json.loads(np.asarray(arrays["groups.names"]).tobytes())
    except (ValueError, RecursionError):
        return 0, "groups.names is no list of names"
    if not isinstance(names, list) or not all(isinstance(n, str) and n.strip() for n in names):
        return 0, "groups.names is no list of names"
    if (
        len(set(names)) < len(names)
        or len(names) > classes
        or any(not n.isprintable() for n in names)
    ):
        return 0, "groups.names holds a name twice, one that cannot be shown, or too many"
    positions = np.asarray(arrays["groups.of_class"])
    if names and set(positions.ravel().tolist()) != set(range(len(names))):
        return 0, f"groups.of_class must give every one of the {len(names)} groups a class"
    return len(names), ""


def _incomplete(arrays: Mapping[str, Array]) -> str:
    """Return which array is missing beside others that are of no use without it."""
    parts = [
        [
            f"calibration.{n}"
            for n in ("temperature", "softening", "coverage", "confidence", "thresholds")
        ],
        [f"familiarity.{n}" for n in ("familiar", "cell_floor", "ranges")],
        *([f"familiarity.{space}.{n}" for n in SPACE] for space in ("appearance", "content")),
        [name for name in _kinds(2, 2) if name.startswith("slides.")],
    ]
    for names in parts:
        missing = [name for name in names if name not in arrays]
        if missing and len(missing) < len(names):
            return f"it lacks the array {missing[0]}"
    return ""


def _of_spaces(arrays: Mapping[str, Array], width: int | None) -> str:
    """Return where the arrays of a space do not fit each other, or the vectors that it is for."""
    dimensions = {"appearance": len(STATISTIC_NAMES), "content": width}
    for space, wanted in dimensions.items():
        name = f"familiarity.{space}"
        if f"{name}.mean" not in arrays:
            if f"{name}.seen" in arrays:
                return f"{name}.seen is there without its space"
            continue
        mean, projection, references, owners = (
            np.asarray(arrays[f"{name}.{part}"]) for part in SPACE[:4]
        )
        if wanted is not None and len(mean) != wanted:
            return f"{name}.mean has {len(mean)} numbers, not {wanted}"
        if projection.shape[0] != len(mean) or projection.shape[1] != references.shape[1]:
            return (
                f"{name}.projection has the shape {projection.shape}, which does not fit the others"
            )
        if len(owners) != len(references) or not len(references):
            return f"{name}.owners has {len(owners)} entries for {len(references)} references"
        seen = arrays.get(f"{name}.seen")
        if seen is not None and np.asarray(seen).shape[1] != references.shape[1]:
            return f"{name}.seen does not fit its references"
    return ""
