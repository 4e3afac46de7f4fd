"""The augmentations that come with allkit, most of them through albumentations.

albumentations 2.0.8 is the last release under a permissive licence and is no longer maintained.
It appears in this file only, behind the `Augmentation` record, so that another engine can take
its place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from allkit.hookspecs import hookimpl
from allkit.records import Augmentation
from allkit.telemetry import import_silent
from allkit.types import Pixels

api_version = 2


class _Kept(threading.local):
    """A pipeline holds its generator, so every thread has its own."""

    def __init__(self) -> None:
        self.pipelines: dict[str, Any] = {}


_KEPT = _Kept()


def _orientation(a: Any) -> list[Any]:
    # A smear has no up and no left: all eight orientations are equally likely.
    return [a.D4(p=1.0)]


def _rotate(a: Any) -> list[Any]:
    return [a.Rotate(limit=30, border_mode=_REFLECT, p=1.0)]


def _flip(a: Any) -> list[Any]:
    return [a.HorizontalFlip(p=0.5), a.VerticalFlip(p=0.5)]


def _zoom(a: Any) -> list[Any]:
    return [a.Affine(scale=(0.85, 1.2), border_mode=_REFLECT, p=1.0)]


def _brightness(a: Any) -> list[Any]:
    return [a.RandomBrightnessContrast(brightness_limit=0.12, contrast_limit=0.12, p=1.0)]


def _stain(a: Any) -> list[Any]:
    # What differs between two stainings of one smear: hue a little, saturation more.
    return [a.HueSaturationValue(hue_shift_limit=6, sat_shift_limit=20, val_shift_limit=8, p=1.0)]


def _standard(a: Any) -> list[Any]:
    gentle = a.Affine(rotate=(-15, 15), scale=(0.9, 1.15), border_mode=_REFLECT, p=0.7)
    return [*_orientation(a), gentle, *_brightness(a), *_stain(a)]


_REFLECT = 4  # cv2.BORDER_REFLECT_101: no black corners, which no camera makes


def _apply(
    name: str, make: Callable[[Any], list[Any]], image: Pixels, rng: np.random.Generator
) -> Pixels:
    pipelines = _KEPT.pipelines
    if name not in pipelines:
        a = import_silent("albumentations")
        pipelines[name] = a.Compose(make(a), seed=0)
    pipeline = pipelines[name]
    pipeline.set_random_seed(int(rng.integers(2**31)))
    result = pipeline(image=image.copy())["image"]
    if result.shape != image.shape:
        # A field that is not square lies in four ways and not in eight: a quarter turn back.
        result = np.rot90(result)
    kept: Pixels = np.ascontiguousarray(result)
    return kept


def _laboratory(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Stain and light the smear as a laboratory far away might.

    In optical density, as stains add up: the three colours are mixed with each other, each is made
    weaker or stronger by up to about two, and the light falls off towards one side.
    """
    height, width = image.shape[:2]
    density = -np.log((image.astype(np.float32) + 1.0) / 256.0)
    mixing = (np.eye(3) + rng.normal(0.0, 0.15, (3, 3))) * np.exp(rng.normal(0.0, 0.35, 3))
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.3)
    across = np.linspace(-0.5, 0.5, width)[None, :] * np.cos(angle)
    down = np.linspace(-0.5, 0.5, height)[:, None] * np.sin(angle)
    lamp = rng.normal(0.0, 0.08, 3) + depth * (0.5 + (across + down)[..., None])
    stained = np.maximum(density @ mixing.astype(np.float32), 0.0) + lamp
    result: Pixels = np.clip(256.0 * np.exp(-stained) - 1.0, 0, 255).round().astype(np.uint8)
    return result


_BUILT_IN: dict[str, tuple[Callable[[Any], list[Any]], str]] = {
    "standard": (_standard, "orientation, slight rotation and zoom, brightness, stain"),
    "orientation": (_orientation, "one of the eight orientations"),
    "rotate": (_rotate, "rotation by up to 30 degrees, edges reflected"),
    "flip": (_flip, "left-right and up-down, each one time in two"),
    "zoom": (_zoom, "85 to 120 % of the size, edges reflected"),
    "brightness": (_brightness, "brightness and contrast by up to 12 %"),
    "stain": (_stain, "jitter of hue and saturation, as between two stainings"),
}


@hookimpl
def allkit_augmentations() -> Iterable[Augmentation]:
    """Offer the built-in augmentations."""
    own = [
        Augmentation(name, partial(_apply, name, make), summary)
        for name, (make, summary) in _BUILT_IN.items()
    ]
    summary = "stain and light of a laboratory far away"
    return [*own, Augmentation("laboratory", _laboratory, summary)]
