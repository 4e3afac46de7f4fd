"""The images on which a file is compared with its model, and those on which int8 is calibrated."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from allkit.data.dataset import Dataset
from allkit.data.drawn import draw_smears
from allkit.errors import ExportError
from allkit.images.decode import read_image
from allkit.types import Pixels

__all__ = [
    "COMPARED",
    "ParityImage",
    "calibration_and_compared",
    "hash_of",
    "parity_images",
    "pixel_hash",
    "pixels_of",
    "probe_images",
    "sample_images",
]

FEWEST, CALIBRATED_ON = 32, 128
"""Least and largest number of images that calibrate int8."""
COMPARED = 1000
"""Images of a set that are compared at most."""
HELD_OUT = 4
"""Where the calibration images are also compared, one in so many is kept for the comparison."""
LARGEST = 768
"""Pixels; larger images are shrunk before they calibrate, so that all of them fit into memory."""


@dataclass(frozen=True)
class ParityImage:
    """One image to compare or to calibrate on; `read` gives its file's bytes or its pixels."""

    read: Callable[[], Any]
    digest: str
    label: str | None = None


def parity_images(images: Dataset | Sequence[Pixels]) -> list[ParityImage]:
    """Return the images of a set, or `(H, W, 3)` uint8 arrays, one by one."""
    if isinstance(images, Dataset):
        return [
            ParityImage(sample.source.read, digest, sample.label)
            for sample, digest in zip(images, images.hashes, strict=True)
        ]
    # A default gives an argument of a lambda no type.
    return [ParityImage(lambda image=image: image, pixel_hash(image)) for image in images]  # type: ignore[misc]


def probe_images() -> list[Pixels]:
    """Return the drawn images on which every exported file keeps its answers."""
    return [field.image for field in draw_smears(8, groups=8, seed=20)]


def calibration_and_compared(
    calibration: Dataset | Sequence[Pixels] | None, check: Dataset | Sequence[Pixels] | None
) -> tuple[list[ParityImage], list[ParityImage]]:
    """Return the images to calibrate on and those to compare on; they share none.

    Without `check`, or where it holds calibration images, a quarter of these is kept for the
    comparison. Raises `ExportError` when too few are left to calibrate.
    """
    compared = parity_images(check) if check is not None else []
    if check is not None and not compared:
        raise ExportError(
            "There are no images to compare on. Give some as `check`, or leave it out."
        )
    if calibration is None:
        return [], sample_images(compared, COMPARED)
    images = parity_images(calibration)
    digests = {image.digest for image in images}
    shared = not compared or not digests.isdisjoint(image.digest for image in compared)
    chosen = sample_images(images, len(images) - len(images) // HELD_OUT) if shared else images
    if len(chosen) < FEWEST:
        fourth = f" ({len(images)} less a fourth to compare on)" if shared else ""
        wanted = math.ceil(FEWEST * HELD_OUT / (HELD_OUT - 1)) if shared else FEWEST
        raise ExportError(
            f"There are {len(chosen)} images to calibrate int8 on{fourth}, and at least {FEWEST} are "
            f"needed. Give --calibrate a set of {wanted} or more training images."
        )
    chosen = sample_images(chosen, CALIBRATED_ON)
    used = {image.digest for image in chosen}
    compared = [image for image in compared or images if image.digest not in used]
    return chosen, sample_images(compared, COMPARED)


def sample_images(items: Sequence[ParityImage], count: int) -> list[ParityImage]:
    """Return at most `count` of `items` in their order; the choice is always the same.

    Items are chosen by their hashes: items at equal distances could all be of one class.
    """
    last = sorted(s.digest for s in items)[:count]
    return [s for s in items if s.digest <= last[-1]][:count] if last else []


def pixels_of(chosen: Sequence[ParityImage]) -> list[Pixels]:
    """Return the images themselves, the larger ones shrunk to 768 pixels a side."""
    images = []
    for source in chosen:
        image = read_image(source.read())
        if max(image.shape[:2]) > LARGEST:
            small = Image.fromarray(image)
            small.thumbnail((LARGEST, LARGEST), Image.Resampling.BILINEAR)
            image = np.asarray(small)
        images.append(image)
    return images


def hash_of(chosen: Sequence[ParityImage]) -> str:
    """Return one hash of many images, in whatever order they come; empty for none."""
    text = " ".join(sorted(s.digest for s in chosen))
    return hashlib.sha256(text.encode()).hexdigest()[:32] if chosen else ""


def pixel_hash(image: Pixels) -> str:
    """Return the SHA-256 of an array's shape and pixels."""
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
