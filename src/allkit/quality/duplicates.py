"""Finding images that show the same field: byte-identical, or photographed again.

Every image is read once and leaves a `Signature` of about 6 KB. Three steps, each stricter and
dearer than the one before, lead from signatures to pairs:

1. *Candidates*: keypoints whose descriptors agree in all bits of a random subset meet in a sorted
   table; two images that meet there with two different keypoints are a candidate. Each keypoint
   meets at most `_WINDOW` others per table, so the work grows as n log n.
2. *Geometry*: one shift, rotation and scaling (mirrored or not) has to carry many keypoints of the
   one image onto keypoints of the other.
3. *Pixels*: the two images are read again, laid over each other, and the detail in the overlap,
   freed of light and background, has to correlate. `match` has no pixels and uses thumbnails.

The lower right corner, where microscopes burn in a scale bar, takes no part in any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from allkit.data.split import join
from allkit.errors import ConfigError

__all__ = [
    "DuplicatePair",
    "Signature",
    "clusters",
    "find_duplicates",
    "match",
    "pack",
    "signature",
    "unpack",
]

_Bytes = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float32]

_KEYPOINTS = 96
_SIDE = 128  # keypoints are sought, and positions kept, in an image with this longer side
_THUMBNAIL = 40
_PIXELS = 256  # longer side of the images that are compared
_STEP = 64.0  # positions are kept in 1/64 pixel
_LEVELS = (10, 45)  # a descriptor entry (0–255) becomes two bits: above the one, above the other
_CORNER = (0.86, 0.81)  # from this share of the rows and columns on: the scale bar
_TABLES = 4
_WINDOW = 8
_MIRROR = np.arange(128).reshape(4, 4, 8)[::-1][:, :, -np.arange(8) % 8].ravel()
_MIRROR = np.concatenate([_MIRROR, _MIRROR + 128])  # bits of the mirrored image, from the bits
_SAME_BITS = 60  # keypoints may correspond if at most so many of their 256 bits differ
_TOLERANCE = 3.0  # pixels of `_SIDE` between corresponding keypoints
_INLIERS = 8
_OVERLAP = 0.1
_CORRELATION = 0.5  # of pixels
_CORRELATION_THUMBNAILS = 0.4


@dataclass(frozen=True, slots=True)
class Signature:
    """What is kept of an image to recognise its field.

    `keypoints` is (K, 4) int16, K ≤ 96: x and y in 1/64 pixel of the image scaled to a longer side
    of 128, log2 of the diameter in 1/1024, angle in 1/65536 turn. `descriptors` is (K, 32) uint8,
    256 bits each. `thumbnail` is (40, 40) uint8, the green channel.
    """

    sha256: str
    width: int
    height: int
    keypoints: npt.NDArray[np.int16]
    descriptors: _Bytes
    thumbnail: _Bytes


@dataclass(frozen=True)
class DuplicatePair:
    """Images `a` < `b` show the same field.

    `shift` is where the centre of `b` lies in `a`, from the centre of `a`, in pixels (x, y);
    `overlap` is the share of `a` that `b` shows; `correlation` is that of the detail in it.
    """

    a: int
    b: int
    kind: Literal["exact", "near"]
    correlation: float
    shift: tuple[float, float]
    overlap: float


def signature(image: _Bytes, sha256: str) -> Signature:
    """Return the signature of `image`, (H, W, 3) uint8 RGB, whose file has the digest `sha256`."""
    import cv2

    height, width = image.shape[:2]
    small = _scaled(image, _SIDE)
    rows, columns = small.shape
    mask = np.full(small.shape, 255, np.uint8)
    mask[int(_CORNER[0] * rows) :, int(_CORNER[1] * columns) :] = 0
    sift = cv2.SIFT_create(nfeatures=_KEYPOINTS, contrastThreshold=0.01)
    found, raw = sift.detectAndCompute(small, mask)
    order = sorted(
        range(len(found)), key=lambda i: (-found[i].response, *found[i].pt, found[i].angle)
    )[:_KEYPOINTS]
    keypoints, descriptors = np.zeros((0, 4), np.int16), np.zeros((0, 32), np.uint8)
    if order:
        points = [(*found[i].pt, found[i].size, found[i].angle) for i in order]
        x, y, size, angle = np.array(points).T
        columns_ = (x * _STEP, y * _STEP, np.log2(size) * 1024, angle * (65536 / 360))
        keypoints = np.stack(columns_, 1).round().astype(np.int64).astype(np.int16)  # wraps angles
        bits = np.concatenate([raw[order] > level for level in _LEVELS], 1)
        descriptors = np.packbits(bits, 1)
    thumbnail = cv2.resize(image[:, :, 1], (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return Signature(sha256, width, height, keypoints, descriptors, thumbnail)


def _scaled(image: _Bytes, side: int) -> _Bytes:
    import cv2

    green = np.ascontiguousarray(image[:, :, 1])
    height, width = green.shape
    ratio = side / max(height, width)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    how = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(green, size, interpolation=how), dtype=np.uint8)


def _candidates(query: Sequence[Signature], known: Sequence[Signature] | None) -> list[tuple[int, int, bool]]:
    """Return (index in `query`, index in `known`, mirrored); without `known`, among `query`."""
    target = query if known is None else known
    rng = np.random.default_rng(0)
    length = int(np.clip(np.ceil(16+np.log2(max(1, len(target)))), 20, 32))
    met = []
    for _ in range(_TABLES):
        bits = rng.permutation(256)[:length]
        table = np.concatenate([np.zeros(0, np.uint64), *_keys(target, bits)])
        table.sort()
        for mirrored in (False, True):
            order = _MIRROR[bits] if mirrored else bits
            for chunk in _keys(query, order):
                own = known is None and not mirrored
                start = np.searchsorted(table, chunk if own else chunk & ~np.uint64(0xFFFFFFFF), "right" if own else "left")
                for step in range(_WINDOW):
                    place = np.minimum(start + step, len(table) - 1)
                    hit = (table[place] >> 32 == chunk >> 32) & (start + step < len(table))
                    p, q = chunk[hit] & 0xFFFFFFFF, table[place[hit]] & 0xFFFFFFFF
                    if known is None:
                        keep = p // _KEYPOINTS < q // _KEYPOINTS
                        p, q = p[keep], q[keep]
                    met.append(((p * 2 + mirrored) << 32) | q)
    if not met:
        return []
    pairs = np.unique(np.concatenate(met))
    p, q = pairs >> 33, pairs & 0xFFFFFFFF
    images = ((p // _KEYPOINTS) << 33) | ((q // _KEYPOINTS) << 1) | (pairs >> 32 & 1)
    global STAT
    STAT = (length, len(pairs), images)
    found, votes = np.unique(images, return_counts=True)
    chosen = found[votes >= 2]
    return [(int(c >> 33), int(c >> 1 & 0xFFFFFFFF), bool(c & 1)) for c in chosen]


def _keys(signatures: Sequence[Signature], bits: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.uint64]]:
    """Yield, some images at a time, the chosen bits (upper half) and keypoint number (lower)."""
    for first in range(0, len(signatures), 256):
        part = signatures[first : first + 256]
        numbers = np.concatenate(
            [np.arange(len(s.descriptors)) + (first + i) * _KEYPOINTS for i, s in enumerate(part)]
        ).astype(np.uint64)
        chosen = np.unpackbits(np.concatenate([s.descriptors for s in part]), axis=1)[:, bits]
        key = np.zeros((len(chosen), 4), np.uint8)
        packed = np.packbits(chosen, 1)
        key[:, : packed.shape[1]] = packed
        yield key.view(">u4")[:, 0].astype(np.uint64) << 32 | numbers


def _align(a: Signature, b: Signature, mirrored: bool) -> tuple[npt.NDArray[np.float64], int] | None:
    """Return the (2, 3) map from `a` to `b`, in pixels of `_SIDE`, and its inliers."""
    bits = [np.unpackbits(s.descriptors, axis=1).astype(np.float32) * 2 - 1 for s in (a, b)]
    if mirrored:
        bits[0] = bits[0][:, _MIRROR]
    same = bits[0] @ bits[1].T
    i = np.arange(len(same))
    j = same.argmax(1)
    near = same[i, j] >= 256 - 2 * _SAME_BITS
    i, j = i[near], j[near]
    if len(i) < 3:
        return None
    za, turn_a = _complex(a, i)
    zb, turn_b = _complex(b, j)
    if mirrored:
        za, turn_a = -za.conj(), -turn_a.conj()
    factor = turn_b / turn_a
    offset = zb - factor * za
    far = np.abs(factor[:, None] * za + offset[:, None] - zb)
    best = (far < 2 * _TOLERANCE).sum(1).argmax()
    inside = far[best] < 2 * _TOLERANCE
    for _ in range(3):
        ca, cb = za[inside].mean(), zb[inside].mean()
        spread = (np.abs(za[inside] - ca) ** 2).sum()
        if inside.sum() < 3 or spread == 0:
            return None
        f = ((zb[inside] - cb) * (za[inside] - ca).conj()).sum() / spread
        t = cb - f * ca
        inside = np.abs(f * za + t - zb) < _TOLERANCE
    n = min(len(np.unique(i[inside])), len(np.unique(j[inside])))
    flip = -1 if mirrored else 1
    return np.array([[flip * f.real, -f.imag, t.real], [flip * f.imag, f.real, t.imag]]), n


def _complex(s: Signature, chosen: npt.NDArray[Any]) -> tuple[npt.NDArray[np.complex128], npt.NDArray[np.complex128]]:
    x, y, size, angle = s.keypoints[chosen].astype(np.float64).T
    return (x + 1j * y) / _STEP, np.exp2(size / 1024) * np.exp(2j * np.pi * angle / 65536)


def _detail(grey: _Bytes) -> _Floats:
    """Return `grey` without light, background and grain: a band of 1/4 octaves."""
    import cv2

    unit = max(grey.shape) / 256
    fine = grey.astype(np.float32)
    if unit > 0.5:
        fine = cv2.GaussianBlur(fine, (0, 0), 1.5 * unit)
    return np.asarray(fine - cv2.GaussianBlur(fine, (0, 0), 14 * unit))


def _compare(a: _Floats, b: _Floats, forward: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return correlation and overlap of details `a` and `b`; `forward` maps unit squares... """
    import cv2

    sizes = [np.array([d.shape[1], d.shape[0]]) for d in (a, b)]
    m = forward
    warped = cv2.warpAffine(b, m, sizes[0].tolist(), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    seen = np.ones(b.shape, np.uint8)
    covers = cv2.warpAffine(seen, m, sizes[0].tolist(), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    overlap = float(covers.mean())
    seen[int(_CORNER[0] * b.shape[0]) :, int(_CORNER[1] * b.shape[1]) :] = 0
    covers = cv2.warpAffine(seen, m, sizes[0].tolist(), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    covers[int(_CORNER[0] * a.shape[0]) :, int(_CORNER[1] * a.shape[1]) :] = 0
    inside = covers > 0
    if inside.sum() < 16:
        return 0.0, overlap
    u, v = a[inside], warped[inside]
    u, v = u - u.mean(), v - v.mean()
    scale = float(np.sqrt((u * u).sum() * (v * v).sum()))
    return (float((u * v).sum()) / scale if scale > 0 else 0.0), overlap


def _frame(s: Signature, shape) -> npt.NDArray[np.float64]:
    """3x3 from work px to px of array of shape."""
    ratio = _SIDE / max(s.width, s.height)
    sx, sy = shape[1] / max(1, round(s.width * ratio)), shape[0] / max(1, round(s.height * ratio))
    return np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]])


def _map(a, b, forward, shape_a, shape_b):
    full = np.vstack([forward, [0, 0, 1]])
    return (_frame(b, shape_b) @ full @ np.linalg.inv(_frame(a, shape_a)))[:2]
