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

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["DuplicatePair", "Signature", "clusters", "find_duplicates", "match", "pack"]
__all__ += ["signature", "unpack"]

_Bytes = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float32]
_Map = npt.NDArray[np.float64]

_KEYPOINTS = 96
_SIDE = 128  # keypoints are sought, and positions kept, in an image with this longer side
_THUMBNAIL = 40
_PIXELS = 256  # longer side of the images that are compared
_STEP = 64.0  # positions are kept in 1/64 pixel
_LEVELS = (10, 45)  # a descriptor entry (0–255) becomes two bits: above the one, above the other
_CORNER = (0.86, 0.81)  # from this share of the rows and columns on: the scale bar
# The bits of the mirrored image, from the bits: SIFT has 4 × 4 places of 8 directions each.
_ENTRIES = np.arange(128).reshape(4, 4, 8)[::-1, :, -np.arange(8) % 8].ravel()
_MIRROR = np.concatenate([_ENTRIES, _ENTRIES + 128])
_TABLES = 4
_WINDOW = 8
_KEY_BITS = 20  # of the shortest key; log2(number of images) - 8 more keep chance meetings rare
_CELL, _TURNS = 20, 12  # two meetings agree within these pixels of `_SIDE`, and 1/12 turn
_SAME_BITS = 60  # keypoints may correspond if at most so many of their 256 bits differ
_TOLERANCE = 3.0  # pixels of `_SIDE` between corresponding keypoints
_SCALE = 3.0  # largest change of scale
_INLIERS = 8
_OVERLAP = 0.1
_CORRELATION = 0.6
_LOWER = np.uint64(0xFFFFFFFF)


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
    mask = _cornerless(small.shape)
    sift = cv2.SIFT_create(nfeatures=_KEYPOINTS, contrastThreshold=0.01)
    found, raw = sift.detectAndCompute(small, mask)
    order = sorted(range(len(found)), key=lambda i: (-found[i].response, found[i].pt, i))
    order = order[:_KEYPOINTS]
    keypoints, descriptors = np.zeros((0, 4), np.int16), np.zeros((0, 32), np.uint8)
    if order:
        points = [(*found[i].pt, found[i].size, found[i].angle) for i in order]
        x, y, size, angle = np.array(points).T
        parts = ((x + 0.5) * _STEP, (y + 0.5) * _STEP, np.log2(size) * 1024, angle * 65536 / 360)
        keypoints = (
            np.stack(parts, axis=1).round().astype(np.int64).astype(np.int16)
        )  # wraps angles
        bits = np.concatenate([raw[order] > level for level in _LEVELS], axis=1)
        descriptors = np.packbits(bits, axis=1)
    thumbnail = cv2.resize(image[:, :, 1], (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return Signature(sha256, width, height, keypoints, descriptors, thumbnail)


def find_duplicates(
    signatures: Sequence[Signature],
    load: Callable[[int], _Bytes],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[DuplicatePair]:
    """Return the pairs that make the clusters of duplicates, sorted by `a` and `b`.

    `load` reads the image of an index again, (H, W, 3) uint8 RGB; `progress` is told how many of
    how many candidates are compared. Byte-identical images are paired with the first of them only,
    and only the first is compared with other fields: `clusters` closes the pairs.
    """
    first: dict[str, int] = {}
    for index, one in enumerate(signatures):
        first.setdefault(one.sha256, index)
    pairs = [
        DuplicatePair(first[one.sha256], index, "exact", 1.0, (0.0, 0.0), 1.0)
        for index, one in enumerate(signatures)
        if first[one.sha256] != index
    ]
    kept = list(first.values())
    detail = lru_cache(maxsize=32)(lambda index: _detail(_scaled(load(index), _PIXELS)))
    candidates = _candidates([signatures[index] for index in kept], None)
    for done, (i, j, mirrored) in enumerate(candidates, 1):
        a, b = kept[i], kept[j]
        there = _align(signatures[a], signatures[b], mirrored)
        if there is not None:
            correlation, shift, overlap = _compare(
                signatures[a], signatures[b], there, detail(a), detail(b)
            )
            if correlation >= _CORRELATION and overlap >= _OVERLAP:
                pairs.append(DuplicatePair(a, b, "near", correlation, shift, overlap))
        if progress is not None:
            progress(done, len(candidates))
    near = {(pair.a, pair.b): pair for pair in sorted(pairs, key=lambda pair: pair.correlation)}
    return [near[key] for key in sorted(near)]


def match(query: Sequence[Signature], known: Sequence[Signature]) -> list[tuple[int, int]]:
    """Return (index in `query`, index in `known`) of the images that show the same field, sorted.

    Only signatures are compared: thumbnails of 40 pixels take the place of the images.
    """
    places: dict[str, list[int]] = {}
    for index, one in enumerate(known):
        places.setdefault(one.sha256, []).append(index)
    found = {(i, j) for i, one in enumerate(query) for j in places.get(one.sha256, ())}
    kept = [where[0] for where in places.values()]
    for i, j, mirrored in _candidates(query, [known[index] for index in kept]):
        a, b = query[i], known[kept[j]]
        there = _align(a, b, mirrored)
        if there is not None:
            details = _detail(a.thumbnail), _detail(b.thumbnail)
            correlation, _, overlap = _compare(a, b, there, *details)
            if correlation >= _CORRELATION_THUMBNAILS and overlap >= _OVERLAP:
                found |= {(i, index) for index in places[b.sha256]}
    return sorted(found)


def clusters(n: int, pairs: Iterable[DuplicatePair | tuple[int, int]]) -> list[list[int]]:
    """Return the sorted groups of two and more of `n` images that `pairs` join, sorted."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = [(p.a, p.b) if isinstance(p, DuplicatePair) else p for p in pairs]
    i, j = np.array(ends, np.int64).reshape(-1, 2).T
    _, names = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(n, n)))
    groups: dict[int, list[int]] = {}
    for index, name in enumerate(names.tolist()):
        groups.setdefault(name, []).append(index)
    return sorted(group for group in groups.values() if len(group) > 1)


def pack(signatures: Sequence[Signature]) -> dict[str, npt.NDArray[Any]]:
    """Return `signatures` as plain arrays; image i owns `counts[i]` rows of the keypoints."""
    keypoints = [np.zeros((0, 4), np.int16), *(one.keypoints for one in signatures)]
    descriptors = [np.zeros((0, 32), np.uint8), *(one.descriptors for one in signatures)]
    thumbnails = [one.thumbnail for one in signatures]
    digests = b"".join(bytes.fromhex(one.sha256) for one in signatures)
    return {
        "sha256": np.frombuffer(digests, np.uint8).reshape(-1, 32).copy(),
        "sizes": np.array([(o.width, o.height) for o in signatures], np.int32).reshape(-1, 2),
        "counts": np.array([len(one.keypoints) for one in signatures], np.int32),
        "keypoints": np.concatenate(keypoints),
        "descriptors": np.concatenate(descriptors),
        "thumbnails": np.array(thumbnails, np.uint8).reshape(-1, _THUMBNAIL, _THUMBNAIL),
    }


def unpack(arrays: Mapping[str, npt.NDArray[Any]]) -> list[Signature]:
    """Return the signatures that `pack` made into `arrays`."""
    ends = np.cumsum(arrays["counts"], dtype=np.int64)
    spans = [slice(int(end - n), int(end)) for end, n in zip(ends, arrays["counts"], strict=True)]
    return [
        Signature(
            bytes(arrays["sha256"][i]).hex(),
            *(int(side) for side in arrays["sizes"][i]),
            arrays["keypoints"][rows],
            arrays["descriptors"][rows],
            arrays["thumbnails"][i],
        )
        for i, rows in enumerate(spans)
    ]


def _scaled(image: _Bytes, side: int) -> _Bytes:
    """Return the green channel, where both stains absorb, with `side` as the longer side."""
    import cv2

    ratio = side / max(image.shape[:2])
    size = [max(1, round(length * ratio)) for length in image.shape[1::-1]]
    how = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(image[:, :, 1]), size, interpolation=how))


def _cornerless(shape: tuple[int, ...]) -> _Bytes:
    mask = np.full(shape, 255, np.uint8)
    mask[int(_CORNER[0] * shape[0]) :, int(_CORNER[1] * shape[1]) :] = 0
    return mask


def _candidates(
    query: Sequence[Signature], known: Sequence[Signature] | None
) -> list[tuple[int, int, bool]]:
    """Return (index in `query`, index in `known`, mirrored); without `known`, among `query`."""
    target = query if known is None else known
    rng = np.random.default_rng(0)
    length = min(32, _KEY_BITS + max(0, len(target).bit_length() - 8))
    places = _places(target)
    origins = places if known is None else _places(query)
    found: set[tuple[int, int, bool]] = set()
    for _ in range(_TABLES):
        bits = rng.permutation(256)[:length]
        table = np.concatenate([np.zeros(0, np.uint64), *_keys(target, bits)])
        table.sort()
        for mirrored in (False, True):
            for keys in _keys(query, _MIRROR[bits] if mirrored else bits):
                after = keys if known is None and not mirrored else keys & ~_LOWER
                start = np.searchsorted(table, after, "right")
                p, q = [], []
                for place in (start + step for step in range(_WINDOW)):
                    hit = place < len(table)
                    hit[hit] = table[place[hit]] >> 32 == keys[hit] >> 32
                    p.append((keys[hit] & _LOWER).astype(np.int64))
                    q.append((table[place[hit]] & _LOWER).astype(np.int64))
                pair = np.stack([np.concatenate(p), np.concatenate(q)])
                if known is None:
                    pair = pair[:, pair[0] // _KEYPOINTS < pair[1] // _KEYPOINTS]
                agreeing = _agreeing(
                    pair // _KEYPOINTS, origins[pair[0]], places[pair[1]], mirrored
                )
                found.update((i, j, mirrored) for i, j in agreeing)
    return sorted(found)


def _keys(
    signatures: Sequence[Signature], bits: npt.NDArray[Any]
) -> Iterator[npt.NDArray[np.uint64]]:
    """Yield, some images at a time, the chosen bits (upper half) and keypoint number (lower)."""
    for first in range(0, len(signatures), 256):
        part = signatures[first : first + 256]
        owners = [
            np.arange(len(s.keypoints)) + (first + i) * _KEYPOINTS for i, s in enumerate(part)
        ]
        chosen = np.unpackbits(np.concatenate([s.descriptors for s in part]), axis=1)[:, bits]
        key = np.zeros((len(chosen), 4), np.uint8)
        key[:, : (len(bits) + 7) // 8] = np.packbits(chosen, axis=1)
        yield key.view(np.uint32)[:, 0].astype(np.uint64) << 32 | np.concatenate(owners).astype(
            "u8"
        )


def _places(signatures: Sequence[Signature]) -> npt.NDArray[np.int16]:
    places = np.zeros((len(signatures) * _KEYPOINTS, 4), np.int16)
    for i, one in enumerate(signatures):
        places[i * _KEYPOINTS : i * _KEYPOINTS + len(one.keypoints)] = one.keypoints
    return places


def _agreeing(
    images: npt.NDArray[np.int64],
    from_: npt.NDArray[np.int16],
    to: npt.NDArray[np.int16],
    mirrored: bool,
) -> list[tuple[int, int]]:
    """Return the columns of `images` for which two meetings move the image alike."""
    spots, turns = _complex(from_, mirrored)
    targets, target_turns = _complex(to, False)
    factor = target_turns / turns
    middle = np.complex128((-1 if mirrored else 1) * _SIDE / 2 + 1j * _SIDE / 2)
    lands = targets + factor * (middle - spots)
    turn = np.angle(factor) / (2 * np.pi)
    pair, which = np.unique(images[0] << 32 | images[1], return_inverse=True)
    good = np.zeros(len(pair), np.bool_)
    for half in (0, 0.5):  # two grids: what one divides, the other holds together
        cell = np.floor(turn * _TURNS + half) % _TURNS
        x, y = (np.floor(part / _CELL + half) % 1024 for part in (lands.real, lands.imag))
        code = ((which * 1024 + x.astype(np.int64)) * 1024 + y.astype(np.int64)) * _TURNS
        _, first, votes = np.unique(
            code + cell.astype(np.int64), return_index=True, return_counts=True
        )
        good[which[first[votes > 1]]] = True
    return [(int(code >> 32), int(code & 0xFFFFFFFF)) for code in pair[good]]


def _complex(
    keypoints: npt.NDArray[np.int16], mirrored: bool
) -> tuple[npt.NDArray[np.complex128], npt.NDArray[np.complex128]]:
    """Return places, and sizes with directions, as complex numbers; mirrored: with -x for x."""
    x, y, size, angle = keypoints.astype(np.float64).T
    spots = (x + 1j * y) / _STEP
    turns = np.exp2(size / 1024) * np.exp(2j * np.pi * angle / 65536)
    return (-spots.conj(), -turns.conj()) if mirrored else (spots, turns)


def _align(a: Signature, b: Signature, mirrored: bool) -> _Map | None:
    """Return the (3, 3) map that carries enough keypoints of `a` onto such of `b`.

    The unit of its input and output is a pixel of `_SIDE`.
    """
    import cv2

    bits = a.descriptors
    if mirrored:
        bits = np.packbits(np.unpackbits(bits, axis=1)[:, _MIRROR], axis=1)
    differing, nearest = cv2.batchDistance(
        bits, b.descriptors, cv2.CV_32S, normType=cv2.NORM_HAMMING, K=1
    )
    i = np.nonzero(differing[:, 0] <= _SAME_BITS)[0]
    j = nearest[i, 0]
    spots, turns = _complex(a.keypoints[i], mirrored)
    targets, target_turns = _complex(b.keypoints[j], False)
    factors = target_turns / turns
    offsets = targets - factors * spots
    near = np.abs(factors[:, None] * spots + offsets[:, None] - targets) < 2 * _TOLERANCE
    if len(i) < _INLIERS:
        return None
    inside = near[near.sum(axis=1).argmax()]
    for _ in range(3):  # least squares over the keypoints that agree
        if min(len(np.unique(i[inside])), len(np.unique(j[inside]))) < _INLIERS:
            return None
        centre, target = spots[inside].mean(), targets[inside].mean()
        arms = spots[inside] - centre
        factor = ((targets[inside] - target) * arms.conj()).sum() / (abs(arms) ** 2).sum()
        offset = target - factor * centre
        inside = np.abs(factor * spots + offset - targets) < _TOLERANCE
    if not 1 / _SCALE < abs(factor) < _SCALE:
        return None
    flip = -1 if mirrored else 1
    linear = [[flip * factor.real, -factor.imag], [flip * factor.imag, factor.real]]
    return np.vstack([np.column_stack([linear, [offset.real, offset.imag]]), [0, 0, 1]])


def _detail(grey: _Bytes) -> _Floats:
    """Return `grey` without grain, light and background."""
    import cv2

    unit = max(grey.shape) / 256
    fine = grey.astype(np.float32)
    if unit > 0.5:
        fine = cv2.GaussianBlur(fine, (0, 0), 1.5 * unit)
    return np.asarray(fine - cv2.GaussianBlur(fine, (0, 0), 14 * unit))


def _frame(one: Signature, shape: tuple[int, ...]) -> _Map:
    """Return the (3, 3) map from places of keypoints to pixels of `one` shown in `shape`."""
    unit = max(one.width, one.height) / _SIDE
    x, y = unit * shape[1] / one.width, unit * shape[0] / one.height
    return np.array([[x, 0, -0.5], [0, y, -0.5], [0, 0, 1]])


def _compare(
    a: Signature, b: Signature, there: _Map, detail_a: _Floats, detail_b: _Floats
) -> tuple[float, tuple[float, float], float]:
    """Return correlation, shift and overlap of `a` and `b`, laid over each other by `there`."""
    import cv2

    frame = _frame(a, detail_a.shape)
    inward = (_frame(b, detail_b.shape) @ there @ np.linalg.inv(frame))[:2]
    size, how = detail_a.shape[::-1], cv2.WARP_INVERSE_MAP
    over = cv2.warpAffine(detail_b, inward, size, flags=how | cv2.INTER_LINEAR)
    shown = cv2.warpAffine(np.ones(detail_b.shape, np.uint8), inward, size, flags=how)
    clear = cv2.warpAffine(_cornerless(detail_b.shape), inward, size, flags=how)
    inside = (clear > 127) & (_cornerless(detail_a.shape) > 0)
    unit = max(a.width, a.height) / _SIDE
    middle = np.array([b.width, b.height, 0]) * _SIDE / 2 / max(b.width, b.height) + [0, 0, 1]
    x, y = ((np.linalg.inv(there) @ middle)[:2] * unit - np.array([a.width, a.height]) / 2).tolist()
    u, v = (part[inside] - part[inside].mean() for part in (detail_a, over))
    power = float(np.sqrt((u @ u) * (v @ v)))
    return float(u @ v) / power if power > 0 else 0.0, (x, y), float(shown.mean())
