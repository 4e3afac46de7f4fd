"""The movement that puts one image onto another, and whether the two then show the same."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from allkit.images.same_field.signatures import SIDE, Array, Signature, without_corner
from allkit.types import Bytes

__all__ = ["MIRROR", "PIXELS", "Points", "align", "as_complex", "detail_of", "overlay", "points_of"]

# The bits of the mirrored image, from the bits: SIFT has 4 × 4 places of 8 directions each.
_HALF = np.arange(128).reshape(4, 4, 8)[::-1, :, -np.arange(8) % 8].ravel()
MIRROR = np.concatenate([_HALF, _HALF + 128])
PIXELS = 256
"""Longer side, in pixels, of the images whose detail is compared."""
_DIFFERING = 60  # keypoints may correspond if at most so many of their 256 bits differ
_TOLERANCE = 3.0  # pixels of `SIDE` between corresponding keypoints
_INLIERS, _SCALE, _OVERLAP = 6, 3.0, 0.1  # least, but most for the scale
_CORRELATION = ((12, 0.5), (0, 0.7))  # with so many inliers, at least so much: the first row holds


def as_complex(keypoints: npt.NDArray[np.int16], mirrored: bool) -> tuple[Array, Array]:
    """Return places, and sizes with directions, as complex numbers; mirrored: with -x for x."""
    x, y, size, angle = keypoints.astype(np.float64).T
    spots = (x + 1j * y) / 64
    turns = np.exp2(size / 1024) * np.exp(2j * np.pi * angle / 65536)
    return (-spots.conj(), -turns.conj()) if mirrored else (spots, turns)


class Points(NamedTuple):
    """The keypoints of a signature, made ready to be compared with those of others.

    `signs` `(K, 256)` float32 is 1 or -1 for each bit of the descriptors; `spots` and `turns` `(K,)` are
    what `as_complex` gives.
    """

    signs: npt.NDArray[np.float32]
    spots: Array
    turns: Array


def points_of(one: Signature, mirrored: bool) -> Points:
    """Return the keypoints of a signature, or of the mirrored image."""
    signs = np.unpackbits(one.descriptors, axis=1).astype(np.float32)
    signs *= 2
    signs -= 1
    return Points(signs[:, MIRROR] if mirrored else signs, *as_complex(one.keypoints, mirrored))


def align(a: Points, b: Points, mirrored: bool, least: int = _INLIERS) -> tuple[Array, int] | None:
    """Return the (3, 3) map from `a` to `b`, in pixels of `SIDE`, and how many keypoints share it.

    `a` are mirrored points where `mirrored`. `None` when they are too few to mean anything, and, without
    looking further, when it is plain that fewer than `least` can share one.
    """
    # The product counts the bits that agree, less those that differ.
    alike = a.signs @ b.signs.T
    nearest = alike.argmax(axis=1)
    length = a.signs.shape[1]
    i = np.flatnonzero(alike[np.arange(len(alike)), nearest] >= length - 2 * _DIFFERING)
    j = nearest[i]
    if min(len(i), len(set(j.tolist()))) < least:
        return None
    spots, turns = a.spots[i], a.turns[i]
    targets, target_turns = b.spots[j], b.turns[j]
    factors = target_turns / turns
    offsets = targets - factors * spots
    away = factors[:, None] * spots + (offsets[:, None] - targets)
    near = away.real**2 + away.imag**2 < (2 * _TOLERANCE) ** 2
    inside = near[np.count_nonzero(near, axis=1).argmax()]
    for _ in range(3):  # least squares over the keypoints that agree
        inliers = len(set(j[inside].tolist()))  # of `i` each is there once
        if inliers < _INLIERS:
            return None
        centre, target = spots[inside].mean(), targets[inside].mean()
        arms = spots[inside] - centre
        factor = ((targets[inside] - target) * arms.conj()).sum() / max(
            (abs(arms) ** 2).sum(), 1e-9
        )
        inside = np.abs(factor * (spots - centre) + target - targets) < _TOLERANCE
    x, y, flip = factor.real, factor.imag, -1 if mirrored else 1
    offset = target - factor * centre
    there = np.array([[flip * x, -y, offset.real], [flip * y, x, offset.imag], [0, 0, 1]])
    return (there, inliers) if 1 / _SCALE < abs(factor) < _SCALE else None


def detail_of(grey: Bytes) -> Array:
    """Return `grey`, as float32, without grain, light and background."""
    import cv2

    unit = max(grey.shape) / PIXELS
    fine = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), max(0.3, 1.5 * unit))
    return np.asarray(fine - cv2.GaussianBlur(fine, (0, 0), 14 * unit))


def overlay(
    a: Signature, b: Signature, there: Array, inliers: int, *, details: tuple[Array, Array]
) -> tuple[float, tuple[float, float], float] | None:
    """Return correlation, shift and overlap of `a` and `b`, moved by `there`; `None` if they differ.

    `details` are what `detail_of` gives of both."""
    import cv2

    detail_a, detail_b = details
    # In a small overlap with one large dark cell, a few keypoints may agree by chance.
    least = next(value for count, value in _CORRELATION if inliers >= count)

    frames = []
    for one, shape in ((a, detail_a.shape), (b, detail_b.shape)):
        unit = max(one.width, one.height) / SIDE
        x, y = unit * shape[1] / one.width, unit * shape[0] / one.height
        frames.append(np.array([[x, 0, -0.5], [0, y, -0.5], [0, 0, 1]]))
    inward = (frames[1] @ there @ np.linalg.inv(frames[0]))[:2]
    size, how = detail_a.shape[::-1], cv2.WARP_INVERSE_MAP
    over = cv2.warpAffine(detail_b, inward, size, flags=how | cv2.INTER_LINEAR)
    shown = cv2.warpAffine(np.ones(detail_b.shape, np.uint8), inward, size, flags=how)
    clear = cv2.warpAffine(without_corner(detail_b.shape), inward, size, flags=how)
    inside = (clear > 127) & (without_corner(detail_a.shape) > 0)
    overlap = float(shown.mean())
    if overlap < _OVERLAP or not inside.any():
        return None
    u, v = (part[inside] - part[inside].mean() for part in (detail_a, over))
    power = float(np.sqrt((u @ u) * (v @ v)))
    correlation = float(u @ v) / power if power > 0 else 0.0
    ends = [np.array([one.width, one.height]) for one in (a, b)]
    middle = np.linalg.inv(there) @ [*(ends[1] / ends[1].max() * SIDE / 2), 1]
    x, y = (middle[:2] * ends[0].max() / SIDE - ends[0] / 2).tolist()
    return (correlation, (x, y), overlap) if correlation >= least else None
