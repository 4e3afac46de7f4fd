"""Marks that are burnt into images at a fixed place: scale bars, labels, frames.

Fields differ, so the mean over many of them is smooth; a mark that recurs at one place stays sharp
in it. Only sums over the images of one size and class are kept, not the images.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.types import Singles

__all__ = ["Mark", "Marks"]

_SIDE = 256  # longer side of the images that are summed
_LEAST = 12  # images of one size and class
_SHARP, _LEVELS = 7.0, 4.0  # a mark stands out by as many standard errors and grey levels
_REACH = 7  # pixels of `_SIDE` between parts of one mark
_AREA = 24  # square pixels of `_SIDE`: the least mark
_ALIKE = 0.45  # correlation from which on an image bears the mark


@dataclass(frozen=True)
class Mark:
    """A mark: its box (left, top, right, bottom) as shares of width and height, and its images."""

    box: tuple[float, float, float, float]
    images: tuple[int, ...]


@dataclass
class _Sum:
    count: int = 0
    total: Any = 0.0
    squares: Any = 0.0


@dataclass
class Marks:
    """Sums images one by one, from any thread, and then finds the marks in the sums."""

    _sums: dict[tuple[int, int, str | None], _Sum] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, image: npt.NDArray[np.uint8], label: str | None) -> None:
        """Add one image, (H, W, 3) uint8, of the class `label`, or of none."""
        grey = _grey(image)
        with self._lock:
            one = self._sums.setdefault((*grey.shape, label), _Sum())
            one.count += 1
            one.total = one.total + grey
            one.squares = one.squares + grey * grey

    def find(
        self, labels: Sequence[str | None], load: Callable[[int], npt.NDArray[np.uint8] | None]
    ) -> list[Mark]:
        """Return the marks; `load` reads an image again, `None` for one that cannot be read.

        Images are read a second time only when a mark was found in the sums.
        """
        import cv2

        sharp: dict[tuple[int, int], npt.NDArray[np.uint8]] = {}
        templates: dict[tuple[int, int], list[Singles]] = {}
        for (height, width, _), held in self._sums.items():
            if held.count < _LEAST:
                continue
            mean = held.total / held.count
            deviation = np.sqrt(np.maximum(held.squares / held.count - mean * mean, 1.0))
            detail = _detail(mean)
            error = deviation / np.sqrt(held.count)
            mask = (np.abs(detail) > _SHARP * error) & (np.abs(detail) > _LEVELS)
            size = (height, width)
            sharp[size] = sharp.get(size, np.zeros(size, np.uint8)) | mask.astype(np.uint8)
            templates.setdefault(size, []).append(detail)
        boxes: dict[tuple[int, int], list[tuple[int, int, int, int]]] = {}
        for size, mask in sharp.items():
            joined = cv2.dilate(mask, np.ones((_REACH, _REACH), np.uint8))
            _, places, facts, _ = cv2.connectedComponentsWithStats(joined)
            for number, (x, y, w, h, _) in enumerate(facts[1:].tolist(), start=1):
                if int(mask[places == number].sum()) >= _AREA:
                    boxes.setdefault(size, []).append((x, y, x + w, y + h))
        if not boxes:
            return []
        bearers: dict[tuple[tuple[int, int], int], list[int]] = {}
        for index in range(len(labels)):
            image = load(index)
            if image is None:
                continue
            detail = _detail(_grey(image))
            size = (detail.shape[0], detail.shape[1])
            for number, (left, top, right, bottom) in enumerate(boxes.get(size, [])):
                patch = detail[top:bottom, left:right]
                alike = max(
                    _correlation(patch, one[top:bottom, left:right]) for one in templates[size]
                )
                if alike >= _ALIKE:
                    bearers.setdefault((size, number), []).append(index)
        marks = []
        for (size, number), images in bearers.items():
            left, top, right, bottom = boxes[size][number]
            height, width = size
            box = (left / width, top / height, right / width, bottom / height)
            marks.append(Mark(box, tuple(images)))
        return sorted(marks, key=lambda mark: -len(mark.images))


def _grey(image: npt.NDArray[np.uint8]) -> Singles:
    import cv2

    ratio = _SIDE / max(image.shape[:2])
    if ratio < 1:
        size = [max(1, round(length * ratio)) for length in image.shape[1::-1]]
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(image.astype(np.float32).mean(axis=2), np.float32)


def _detail(grey: Singles) -> Singles:
    import cv2

    return np.asarray(grey - cv2.GaussianBlur(grey, (0, 0), 4.0), np.float32)


def _correlation(a: Singles, b: Singles) -> float:
    u, v = a - a.mean(), b - b.mean()
    power = float(np.sqrt((u * u).sum() * (v * v).sum()))
    return float((u * v).sum()) / power if power > 0 else 0.0
