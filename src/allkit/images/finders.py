"""The finders of white cells by the names that models keep, and what they find, checked.

allkit's own come through the same door as those of plugins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allkit.errors import ConfigError, PluginError
from allkit.images.finder import LARGEST, MOST_ENLARGED, TOLERANCE, Search
from allkit.images.stain import resized
from allkit.plugins import registry
from allkit.plugins.kept import kept, mark_of_kept, meant, provider_of_kept
from allkit.records import RED_CELL, Finder, Found, Reference
from allkit.types import Pixels, Singles

__all__ = ["finder_meant", "found_by", "kept_finder", "mark_of_finder"]

OLD = "allkit.cells/"
IDS = {f"{OLD}1": "cells-1", f"{OLD}2": "cells-2"}
"""What models have named allkit's finders since before these were records, with their names."""


def kept_finder(name: Any) -> str:
    """Return the text under which a model keeps a finder; what this returns, it returns again.

    Raises `ConfigError` for a finder that is not there, and for settings that it does not take.
    """
    reference = Reference.of(name)
    if reference.qualified in IDS and not reference.settings:
        return reference.qualified
    try:
        registry().provider("finder", finder_meant(reference.text))
    except PluginError as error:
        raise ConfigError(f"There is no cell finder {reference.text!r}. {error}") from None
    if reference.package and reference.settings:
        return reference.text  # in full already: settings that its plugin added since are left out
    held = kept("finder", meant("finder", reference))
    return next((own for own, short in IDS.items() if short == held), held)


def finder_meant(name: str) -> Reference:
    """Return what a kept name means."""
    if name.startswith(OLD):
        return Reference(f"cells-{name.removeprefix(OLD)}", "allkit")
    return meant("finder", name)


def mark_of_finder(name: str) -> str:
    """Return a kept name with what tells what it finds from what others find, for the keys of caches.

    Those of allkit's own are told by their names alone.
    """
    return name if name in IDS else " ".join((name, *mark_of_kept("finder", name)))


def found_by(name: str, image: Pixels) -> Search:
    """Return what the finder that is kept as `name` finds in an image `(H, W, 3)` uint8.

    Raises `PluginError` that names package, finder and field where it fails or finds what cannot be.
    """
    meaning = finder_meant(name)
    record: Finder = registry().get("finder", meaning)
    found = record.find(image)
    plugin = provider_of_kept("finder", meaning)
    if plugin is None:
        searched = image if found.image is None else found.image
        return Search(
            searched, found.centres, found.diameters, scale=found.scale, red_cell=found.red_cell
        )
    whose = f"{plugin.origin}: the finder {record.name!r}"
    if not isinstance(found, Found):
        raise PluginError(f"{whose} returned a {type(found).__name__} in `find`, no Found.")
    return _checked(found, image, whose)


def _checked(found: Found, image: Pixels, whose: str) -> Search:
    """Return what a plugin's finder found, the largest cell first, at the scale of the search."""
    red_cell = None if found.red_cell is None else _number(found.red_cell, whose, "red_cell")
    scale = _number(found.scale, whose, "scale")
    centres = _numbers(found.centres, whose, "centres", 2)
    diameters = _numbers(found.diameters, whose, "diameters", 1)
    if len(centres) != len(diameters):
        raise PluginError(
            f"{whose} found {len(centres)} centres and {len(diameters)} diameters in `find`; each cell has "
            f"one of both."
        )
    searched = image
    if found.image is None:
        scale = _scale(image, red_cell)
        centres, diameters = centres * np.float32(scale), diameters * np.float32(scale)
        searched = resized(image, scale)
    elif found.image is not image:
        searched = _image(found.image, image, scale, whose)
    height, width = searched.shape[:2]
    outside = (centres < 0).any(axis=1) | (centres[:, 0] > width) | (centres[:, 1] > height)
    if outside.any():
        x, y = (centres[outside][0]).tolist()
        raise PluginError(
            f"{whose} found a cell at x = {x:g}, y = {y:g} in `find`, outside the image of {width} × "
            f"{height} pixels. `centres` are in pixels of Found.image, or of the image that was given."
        )
    if len(diameters) and not float(diameters.min()) > 0:
        raise PluginError(
            f"{whose} found a cell of the diameter {float(diameters.min()):g} in `find`; it must be above 0."
        )
    order = np.argsort(-diameters, kind="stable")
    return Search(searched, centres[order], diameters[order], scale=scale, red_cell=red_cell)


def _scale(image: Pixels, red_cell: float | None) -> float:
    """Return the scale at which a field is shown whose red cells have this diameter in its pixels."""
    if red_cell is None:
        return float(min(1.0, LARGEST / max(image.shape[:2])))
    scale = min(RED_CELL / red_cell, MOST_ENLARGED)
    return 1.0 if 1 / TOLERANCE <= scale <= TOLERANCE else scale


def _number(value: Any, whose: str, field: str) -> float:
    number = isinstance(value, (int, float, np.integer, np.floating))
    if not number or isinstance(value, bool) or not 0 < value < np.inf:
        raise PluginError(
            f"{whose} returned {field} = {value!r:.100} in `find`; it must be a number above 0."
        )
    return float(value)


def _numbers(values: Any, whose: str, field: str, dimensions: int) -> Singles:
    """Return `(M, 2)` or `(M,)` finite numbers as float32."""
    array = np.asarray(values)
    if not array.size:
        array = np.zeros((0, 2) if dimensions == 2 else 0)
    shape = "(M, 2)" if dimensions == 2 else "(M,)"
    fits = array.ndim == dimensions and array.shape[1:] in ((), (2,))
    if not fits or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise PluginError(
            f"{whose} returned {field} {array.shape} {array.dtype} in `find`; they must be {shape} finite "
            f"numbers."
        )
    numbers: Singles = array.astype(np.float32)
    return numbers


def _image(given: Any, image: Pixels, scale: float, whose: str) -> Pixels:
    """Return the field as the finder scaled it."""
    height, width = image.shape[:2]
    wanted = (round(height * scale), round(width * scale))
    fits = isinstance(given, np.ndarray) and given.dtype == np.uint8 and given.ndim == 3
    if (
        not fits
        or given.shape[2] != 3
        or any(
            abs(a - max(32, b)) > 1 and abs(a - b) > 1
            for a, b in zip(given.shape[:2], wanted, strict=True)
        )
    ):
        got = f"{getattr(given, 'shape', type(given).__name__)} {getattr(given, 'dtype', '')}"
        raise PluginError(
            f"{whose} returned the image {got.strip()} in `find`, with scale = {scale:g} of a field of "
            f"{(height, width)}; it must be ({wanted[0]}, {wanted[1]}, 3) uint8."
        )
    kept_image: Pixels = np.ascontiguousarray(given)
    return kept_image
