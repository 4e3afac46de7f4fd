"""Finding images that show the same field: byte-identical, or photographed again.

Every image is read once and leaves a `Signature` of 3.5 KB. Three steps, each stricter and dearer
than the one before, lead from signatures to pairs:

1. *Candidates*: keypoints whose descriptors agree in a random subset of bits meet in a sorted
   table; two images that are moved alike by two meetings are a candidate. Each keypoint meets at
   most `_WINDOW` others per table, so the work grows as n log n.
2. *Geometry*: one shift, rotation and scaling (mirrored or not) has to carry several keypoints of
   the one image onto keypoints of the other.
3. *Pixels*: the two images, reduced, are laid over each other, and the detail in the overlap,
   freed of light and background, has to correlate. `match` has no pixels and asks for more
   keypoints instead.

Two images are *near-duplicates* when their centres lie at most 35 % of the longer side apart: most
of what the one shows, the other shows too. Further apart they *overlap*: some cells are in both.

The lower right corner, where microscopes burn in a scale bar, takes no part in any of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from allkit.images.arrays import large_array
from allkit.records import SCALE_BAR
from allkit.types import Bytes

__all__ = ["DuplicatePair", "Signature", "closed_pairs", "clusters", "find_duplicates", "match"]
__all__ += ["SignatureStore", "pack", "signature", "unpack"]

_Array = npt.NDArray[Any]

_KEYPOINTS = 88
_SIDE = 128  # keypoints are sought, and places kept, in an image with this longer side
_PIXELS = 256  # longer side of the images that are compared
_ROOM = 2**30  # bytes that the images which are compared may take, in a temporary file
_LEVELS = (10, 45)  # a descriptor entry (0–255) becomes two bits: above the one, above the other
# The bits of the mirrored image, from the bits: SIFT has 4 × 4 places of 8 directions each.
_MIRROR = np.arange(128).reshape(4, 4, 8)[::-1, :, -np.arange(8) % 8].ravel()
_MIRROR = np.concatenate([_MIRROR, _MIRROR + 128])
_BLACK = 4
_TABLES, _WINDOW, _WINDOW_KNOWN = 4, 16, 32
_KEY_BITS = 22  # up to 255 images; one more with every doubling keeps chance meetings rare
_CELL, _TURNS = 20, 12  # two meetings agree within these pixels of `_SIDE`, and 1/12 turn
_DIFFERING = 60  # keypoints may correspond if at most so many of their 256 bits differ
_TOLERANCE = 3.0  # pixels of `_SIDE` between corresponding keypoints
_INLIERS, _SCALE, _OVERLAP = 6, 3.0, 0.1  # least, but most for the scale
# Without pixels. Of 1,907 real fields, 6 to 9 shared keypoints were 9 times chance; 10, never.
_INLIERS_ALONE = 10
_NEAR = 0.35  # of the longer side: the largest distance of the centres of near-duplicates
_CORRELATION = ((12, 0.5), (0, 0.7))  # with so many inliers, at least so much: the first row holds
_LOWER = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Signature:
    """What is kept of an image to recognise its field.

    `keypoints` is (K, 4) int16, K ≤ 88: x and y in 1/64 pixel of the image scaled to a longer side
    of 128, log2 of the diameter in 1/1024, angle in 1/65536 turn. `descriptors` is (K, 32) uint8,
    256 bits each. No pixel is kept.
    """

    sha256: str
    width: int
    height: int
    keypoints: npt.NDArray[np.int16]
    descriptors: Bytes


@dataclass(frozen=True)
class DuplicatePair:
    """Images `a` < `b` show the same field, or parts of it.

    `kind` is `exact` for the same bytes, `near` when the centres lie at most 35 % of the longer
    side apart, else `overlap`.
    `shift` leads from the centre of `a` to where the centre of `b` lies, in pixels of `a` (x, y);
    `overlap` is the share of `a` that `b` shows; `correlation` is that of the detail in it.
    """

    a: int
    b: int
    kind: Literal["exact", "near", "overlap"]
    correlation: float
    shift: tuple[float, float]
    overlap: float


def signature(image: Bytes, sha256: str) -> Signature:
    """Return the signature of `image`, (H, W, 3) uint8 RGB, whose file has the digest `sha256`."""
    import cv2

    small = _green(image, _SIDE)
    sift: Any = cv2.SIFT.create(nfeatures=_KEYPOINTS, contrastThreshold=0.01)
    found, raw = sift.detectAndCompute(small, _without_corner(small.shape))
    order = sorted(range(len(found)), key=lambda i: (-found[i].response, found[i].pt, i))
    order = order[:_KEYPOINTS]
    rows = [(*found[i].pt, found[i].size, found[i].angle) for i in order]
    x, y, size, angle = np.array(rows, np.float64).reshape(-1, 4).T
    parts = ((x + 0.5) * 64, (y + 0.5) * 64, np.log2(size) * 1024, angle * 65536 / 360)
    keypoints = np.stack(parts, axis=1).round().astype(np.int64).astype(np.int16)  # wraps angles
    entries = raw[order] if order else np.zeros((0, 128))
    bits = np.concatenate([entries > level for level in _LEVELS], axis=1)
    height, width = image.shape[:2]
    return Signature(sha256, width, height, keypoints, np.packbits(bits, axis=1))


class SignatureStore:
    """Room for the signatures of `count` images, which need not fit into the memory."""

    def __init__(self, count: int) -> None:
        self._keypoints = large_array((count, _KEYPOINTS, 4), np.int16)
        self._descriptors = large_array((count, _KEYPOINTS, 32), np.uint8)

    def keep(self, index: int, one: Signature) -> Signature:
        """Return `one` with its arrays in this store, as those of image number `index`."""
        found = len(one.keypoints)
        self._keypoints[index, :found] = one.keypoints
        self._descriptors[index, :found] = one.descriptors
        return replace(
            one,
            keypoints=self._keypoints[index, :found],
            descriptors=self._descriptors[index, :found],
        )


class ReducedStore:
    """Room for the `reduced` images of `count` images; none where they would take over 1 GiB.

    Without room an image of no pixels stands for each.
    """

    def __init__(self, count: int) -> None:
        room = count * _PIXELS * _PIXELS
        self._rows = large_array((count, _PIXELS * _PIXELS), np.uint8) if room <= _ROOM else None

    def keep(self, index: int, grey: Bytes) -> Bytes:
        """Return `grey` in this store, as that of image number `index`."""
        if self._rows is None:
            return np.empty((0, 0), np.uint8)
        row = self._rows[index, : grey.size]
        row[:] = grey.ravel()
        return np.asarray(row.reshape(grey.shape))


def reduced(image: Bytes) -> Bytes:
    """Return what of `image` `(H, W, 3)` uint8 is laid over another one: `(h, w)` uint8, 256 a side."""
    return _green(image, _PIXELS)


def find_duplicates(
    signatures: Sequence[Signature],
    load: Callable[[int], Bytes],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[DuplicatePair]:
    """Return pairs whose closure (`clusters`) is all duplicates, sorted by `a` and `b`.

    `load` gives the image of an index, (H, W, 3) uint8 RGB, or what `reduced` makes of it; `progress`
    is told how many of how many candidates are compared. Byte-identical images are paired with the
    first of them only, and only the first is compared with other fields.
    """
    first: dict[str, int] = {}
    pairs = {}
    for b, one in enumerate(signatures):
        a = first.setdefault(one.sha256, b)
        if a != b:
            pairs[a, b] = DuplicatePair(a, b, "exact", 1.0, (0.0, 0.0), 1.0)
    kept = list(first.values())

    @lru_cache(maxsize=8)
    def detail(index: int) -> _Array:
        image = load(index)
        return _detail(reduced(image) if image.ndim == 3 else image)

    candidates = _candidates([signatures[index] for index in kept], None)
    for done, code in enumerate(candidates, 1):
        i, j, mirrored = _ends(int(code))
        a, b = kept[i], kept[j]
        there = _align(signatures[a], signatures[b], mirrored)
        if there is not None:
            seen = _compare(signatures[a], signatures[b], *there, detail(a), detail(b))
            if seen is not None and ((a, b) not in pairs or seen[0] > pairs[a, b].correlation):
                side = max(signatures[a].width, signatures[a].height)
                kind: Literal["near", "overlap"] = (
                    "near" if np.hypot(*seen[1]) <= _NEAR * side else "overlap"
                )
                pairs[a, b] = DuplicatePair(a, b, kind, *seen)
        if progress is not None:
            progress(done, len(candidates))
    return [pairs[key] for key in sorted(pairs)]


def match(query: Sequence[Signature], known: Sequence[Signature]) -> list[tuple[int, int]]:
    """Return (index in `query`, index in `known`) of the images that show the same field, sorted.

    Only signatures are compared, since no image of `known` is at hand: ten keypoints have to agree.
    """
    where: dict[str, list[int]] = {}
    for index, one in enumerate(known):
        where.setdefault(one.sha256, []).append(index)
    found = {(i, index) for i, one in enumerate(query) for index in where.get(one.sha256, ())}
    kept = [known[indices[0]] for indices in where.values()]
    for i, j, mirrored in (_ends(int(code)) for code in _candidates(query, kept)):
        a, b = query[i], kept[j]
        there = _align(a, b, mirrored)
        if there is not None and there[1] >= _INLIERS_ALONE:
            found.update((i, index) for index in where[b.sha256])
    return sorted(found)


def clusters(n: int, pairs: Iterable[DuplicatePair | tuple[int, int]]) -> list[list[int]]:
    """Return the sorted groups of two and more of `n` images that `pairs` join, sorted."""
    group = {index: [index] for index in range(n)}
    for pair in pairs:
        a, b = (pair.a, pair.b) if isinstance(pair, DuplicatePair) else pair
        large, small = sorted((group[a], group[b]), key=len, reverse=True)
        if large is not small:
            large += small
            group.update(dict.fromkeys(small, large))
    joined = {id(members): sorted(members) for members in group.values() if len(members) > 1}
    return sorted(joined.values())


def closed_pairs(
    n: int, pairs: Iterable[DuplicatePair], *kinds: Literal["exact", "near", "overlap"]
) -> list[tuple[int, int]]:
    """Return every pair of the clusters that the pairs of these kinds make, sorted."""
    groups = clusters(n, (pair for pair in pairs if pair.kind in kinds))
    return sorted(both for group in groups for both in itertools.combinations(group, 2))


def pack(signatures: Sequence[Signature]) -> dict[str, _Array]:
    """Return `signatures` as plain arrays; image i owns `counts[i]` rows of the keypoints."""
    digests = [list(bytes.fromhex(one.sha256)) for one in signatures]
    keypoints = [np.zeros((0, 4), np.int16), *(one.keypoints for one in signatures)]
    descriptors = [np.zeros((0, 32), np.uint8), *(one.descriptors for one in signatures)]
    return {
        "sha256": np.array(digests, np.uint8).reshape(-1, 32),
        "sizes": np.array([(o.width, o.height) for o in signatures], np.int32).reshape(-1, 2),
        "counts": np.array([len(one.keypoints) for one in signatures], np.int32),
        "keypoints": np.concatenate(keypoints),
        "descriptors": np.concatenate(descriptors),
    }


def unpack(arrays: Mapping[str, _Array]) -> list[Signature]:
    """Return the signatures that `pack` made into `arrays`; none of no arrays."""
    if not arrays:
        return []
    ends = np.cumsum(arrays["counts"])
    keypoints = np.split(arrays["keypoints"], ends)[:-1]
    descriptors = np.split(arrays["descriptors"], ends)[:-1]
    rest = zip(arrays["sha256"], arrays["sizes"].tolist(), keypoints, descriptors, strict=True)
    return [
        Signature(digest.tobytes().hex(), width, height, points, bits)
        for digest, (width, height), points, bits in rest
    ]


def _green(image: Bytes, side: int) -> Bytes:
    """Return the green channel, where both stains absorb, with `side` as the longer side.

    Black is what someone cut away: it is filled, lest the outline of the cut correlates.
    """
    import cv2

    ratio = side / max(image.shape[:2])
    size = [max(1, round(length * ratio)) for length in image.shape[1::-1]]
    how = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    green = np.ascontiguousarray(image[:, :, 1])
    shown = green > _BLACK
    if 0 < shown.mean() < 0.98:
        green = np.where(shown, green, np.uint8(green[shown].mean()))
    return np.asarray(cv2.resize(green, size, interpolation=how), np.uint8)


def _without_corner(shape: tuple[int, ...]) -> Bytes:
    mask = np.full(shape, 255, np.uint8)
    mask[int(SCALE_BAR[0] * shape[0]) :, int(SCALE_BAR[1] * shape[1]) :] = 0
    return mask


def _candidates(
    query: Sequence[Signature], known: Sequence[Signature] | None
) -> npt.NDArray[np.int64]:
    """Return the `_ends` of the pairs to look at; without `known`, among `query`."""
    target = query if known is None else known
    rng = np.random.default_rng(0)
    length = min(32, _KEY_BITS + max(0, len(target).bit_length() - 8))
    places = _places(target)
    origins = places if known is None else _places(query)
    table = large_array((sum(len(one.keypoints) for one in target),), np.uint64)
    found = [np.zeros(0, np.int64)]
    for _ in range(_TABLES):
        bits, end = rng.permutation(256)[:length], 0
        for keys in _keys(target, bits):
            table[end : (end := end + len(keys))] = keys
        table.sort()
        for mirrored in (False, True):
            own = known is None and not mirrored
            for keys in _keys(query, _MIRROR[bits] if mirrored else bits):
                start = np.searchsorted(table, keys + np.uint64(1) if own else keys & ~_LOWER)
                met = []
                for place in (
                    start + step for step in range(_WINDOW if known is None else _WINDOW_KNOWN)
                ):
                    hit = place < len(table)
                    hit[hit] = table[place[hit]] >> 32 == keys[hit] >> 32
                    met.append(np.stack([keys[hit], table[place[hit]]]) & _LOWER)
                pair = np.concatenate(met, axis=1).astype(np.int64)
                if known is None:
                    pair = pair[:, pair[0] // _KEYPOINTS < pair[1] // _KEYPOINTS]
                moves = _complex(origins[pair[0]], mirrored), _complex(places[pair[1]], False)
                middle = _SIDE / 2 * np.complex128(-1 + 1j if mirrored else 1 + 1j)
                agreeing = _agreeing(pair // _KEYPOINTS, moves, middle)
                found.append(agreeing * 2 + mirrored)
    return np.unique(np.concatenate(found))


def _ends(code: int) -> tuple[int, int, bool]:
    """Return (index in `query`, index in `known`, mirrored)."""
    return code >> 32, (code & 0xFFFFFFFF) >> 1, bool(code & 1)


def _keys(signatures: Sequence[Signature], bits: _Array) -> Iterator[npt.NDArray[np.uint64]]:
    """Yield, some images at a time, the chosen bits (upper half) and keypoint number (lower)."""
    for first in range(0, len(signatures), 64):
        part = signatures[first : first + 64]
        own = [np.arange(len(one.keypoints)) + i * _KEYPOINTS for i, one in enumerate(part, first)]
        chosen = np.unpackbits(np.concatenate([one.descriptors for one in part]), axis=1)[:, bits]
        key = np.zeros((len(chosen), 4), np.uint8)
        key[:, : (len(bits) + 7) // 8] = np.packbits(chosen, axis=1)
        high = key.view("<u4")[:, 0].astype(np.uint64) << np.uint64(32)
        yield high | np.concatenate(own).astype(np.uint64)


def _places(signatures: Sequence[Signature]) -> npt.NDArray[np.int16]:
    places = large_array((len(signatures), _KEYPOINTS, 4), np.int16)
    for place, one in zip(places, signatures, strict=True):
        place[: len(one.keypoints)], place[len(one.keypoints) :] = one.keypoints, 0
    return places.reshape(-1, 4)


def _agreeing(
    images: _Array, moves: tuple[tuple[_Array, _Array], ...], middle: np.complex128
) -> npt.NDArray[np.int64]:
    """Return first × 2^31 + second of the `images`, (2, n), that two `moves` move alike."""
    (spots, turns), (targets, target_turns) = moves
    factor = target_turns / turns
    lands = (targets + factor * (middle - spots)) / _CELL
    turn = np.angle(factor) / (2 * np.pi) * _TURNS
    pair, which = np.unique(images[0] << 31 | images[1], return_inverse=True)
    good = np.zeros(len(pair), np.bool_)
    for half in (0, 0.5):  # two grids: what one divides, the other holds together
        code = which
        for value, size in ((lands.real, 1024), (lands.imag, 1024), (turn, _TURNS)):
            code = code * size + (np.floor(value + half) % size).astype(np.int64)
        _, first, votes = np.unique(code, return_index=True, return_counts=True)
        good[which[first[votes > 1]]] = True
    return pair[good]


def _complex(keypoints: npt.NDArray[np.int16], mirrored: bool) -> tuple[_Array, _Array]:
    """Return places, and sizes with directions, as complex numbers; mirrored: with -x for x."""
    x, y, size, angle = keypoints.astype(np.float64).T
    spots = (x + 1j * y) / 64
    turns = np.exp2(size / 1024) * np.exp(2j * np.pi * angle / 65536)
    return (-spots.conj(), -turns.conj()) if mirrored else (spots, turns)


def _align(a: Signature, b: Signature, mirrored: bool) -> tuple[_Array, int] | None:
    """Return the (3, 3) map from `a` to `b`, in pixels of `_SIDE`, and how many keypoints share it.

    `None` when they are too few to mean anything.
    """
    import cv2

    bits = a.descriptors
    if mirrored:
        bits = np.packbits(np.unpackbits(bits, axis=1)[:, _MIRROR], axis=1)
    differing, nearest = cv2.batchDistance(
        bits, b.descriptors, cv2.CV_32S, normType=cv2.NORM_HAMMING, K=1
    )
    i = np.nonzero(differing[:, 0] <= _DIFFERING)[0]
    j = nearest[i, 0]
    if len(i) < _INLIERS:
        return None
    spots, turns = _complex(a.keypoints[i], mirrored)
    targets, target_turns = _complex(b.keypoints[j], False)
    factors = target_turns / turns
    offsets = targets - factors * spots
    near = np.abs(factors[:, None] * spots + offsets[:, None] - targets) < 2 * _TOLERANCE
    inside = near[near.sum(axis=1).argmax()]
    for _ in range(3):  # least squares over the keypoints that agree
        inliers = min(len(np.unique(i[inside])), len(np.unique(j[inside])))
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


def _detail(grey: Bytes) -> _Array:
    """Return `grey`, as float32, without grain, light and background."""
    import cv2

    unit = max(grey.shape) / _PIXELS
    fine = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), max(0.3, 1.5 * unit))
    return np.asarray(fine - cv2.GaussianBlur(fine, (0, 0), 14 * unit))


def _compare(
    a: Signature, b: Signature, there: _Array, inliers: int, detail_a: _Array, detail_b: _Array
) -> tuple[float, tuple[float, float], float] | None:
    """Return correlation, shift and overlap of `a` and `b`, moved by `there`, if they agree."""
    import cv2

    # Few keypoints and much of one dark cell in a small overlap may agree by chance.
    least = next(value for count, value in _CORRELATION if inliers >= count)

    frames = []
    for one, shape in ((a, detail_a.shape), (b, detail_b.shape)):
        unit = max(one.width, one.height) / _SIDE
        x, y = unit * shape[1] / one.width, unit * shape[0] / one.height
        frames.append(np.array([[x, 0, -0.5], [0, y, -0.5], [0, 0, 1]]))
    inward = (frames[1] @ there @ np.linalg.inv(frames[0]))[:2]
    size, how = detail_a.shape[::-1], cv2.WARP_INVERSE_MAP
    over = cv2.warpAffine(detail_b, inward, size, flags=how | cv2.INTER_LINEAR)
    shown = cv2.warpAffine(np.ones(detail_b.shape, np.uint8), inward, size, flags=how)
    clear = cv2.warpAffine(_without_corner(detail_b.shape), inward, size, flags=how)
    inside = (clear > 127) & (_without_corner(detail_a.shape) > 0)
    overlap = float(shown.mean())
    if overlap < _OVERLAP or not inside.any():
        return None
    u, v = (part[inside] - part[inside].mean() for part in (detail_a, over))
    power = float(np.sqrt((u @ u) * (v @ v)))
    correlation = float(u @ v) / power if power > 0 else 0.0
    ends = [np.array([one.width, one.height]) for one in (a, b)]
    middle = np.linalg.inv(there) @ [*(ends[1] / ends[1].max() * _SIDE / 2), 1]
    x, y = (middle[:2] * ends[0].max() / _SIDE - ends[0] / 2).tolist()
    return (correlation, (x, y), overlap) if correlation >= least else None
