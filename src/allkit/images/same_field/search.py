"""The pairs of images that show the same field, from their signatures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from allkit.images.arrays import large_array
from allkit.images.same_field.geometry import (
    MIRROR,
    Points,
    align,
    as_complex,
    detail_of,
    overlay,
    points_of,
)
from allkit.images.same_field.reduction import reduced
from allkit.images.same_field.signatures import KEYPOINTS, SIDE, Array, Signature
from allkit.types import Bytes

__all__ = ["DuplicatePair", "closed_pairs", "clusters", "find_duplicates", "match"]

_TABLES, _WINDOW, _WINDOW_KNOWN = 4, 16, 32
_KEY_BITS = 22  # up to 255 images; one more with every doubling keeps chance meetings rare
_CELL, _TURNS = 20, 12  # two meetings agree within these pixels of `SIDE`, and 1/12 turn
# Without pixels. Of 1,907 real fields, 6 to 9 shared keypoints were 9 times chance; 10, never.
_INLIERS_ALONE = 10
_NEAR = 0.35  # of the longer side: the largest distance of the centres of near-duplicates
KEPT = 256  # images whose points are kept for the next comparison, 0.1 MB each
_LOWER = np.uint64(0xFFFFFFFF)


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


def find_duplicates(
    signatures: Sequence[Signature],
    load: Callable[[int], Bytes],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[DuplicatePair]:
    """Return pairs whose closure (`clusters`) holds all duplicates, sorted by `a` and `b`.

    `load` returns the image of an index, (H, W, 3) uint8 RGB, or its `reduced` form; `progress`
    gets the number of compared candidates and of all. Byte-identical images are paired with the
    first of them only, and only the first is compared with other fields.
    """
    first: dict[str, int] = {}
    pairs = {}
    for b, one in enumerate(signatures):
        a = first.setdefault(one.sha256, b)
        if a != b:
            pairs[a, b] = DuplicatePair(
                a, b, kind="exact", correlation=1.0, shift=(0.0, 0.0), overlap=1.0
            )
    distinct = list(first.values())

    @lru_cache(maxsize=8)
    def detail(index: int) -> Array:
        image = load(index)
        return detail_of(reduced(image) if image.ndim == 3 else image)

    points = _points_by_index(signatures)
    some = signatures
    if len(distinct) < len(signatures):
        some = [signatures[index] for index in distinct]
    candidates = _candidates(some, None)
    for done, code in enumerate(candidates, 1):
        i, j, mirrored = _ends(int(code))
        a, b = distinct[i], distinct[j]
        moved = align(points(a, mirrored), points(b, False), mirrored)
        pair = None if moved is None else _overlaid(signatures, (a, b), moved, detail)
        # Both ways round, mirrored or not, may hold: the better one counts.
        if pair is not None and ((a, b) not in pairs or pair.correlation > pairs[a, b].correlation):
            pairs[a, b] = pair
        if progress is not None:
            progress(done, len(candidates))
    return [pairs[key] for key in sorted(pairs)]


def _points_by_index(signatures: Sequence[Signature]) -> Callable[[int, bool], Points]:
    """Return what gives the points of a signature, mirrored or not, and keeps those of the last ones."""

    @lru_cache(maxsize=KEPT)
    def points(index: int, mirrored: bool) -> Points:
        return points_of(signatures[index], mirrored)

    return points


def _overlaid(
    signatures: Sequence[Signature],
    ends: tuple[int, int],
    moved: tuple[Array, int],
    detail: Callable[[int], Array],
) -> DuplicatePair | None:
    """Return the pair if two images, `moved` as `align` says, show the same field, else `None`."""
    a, b = ends
    there, inliers = moved
    details = detail(a), detail(b)
    agreeing = overlay(signatures[a], signatures[b], there, inliers, details=details)
    if agreeing is None:
        return None
    correlation, shift, overlap = agreeing
    near = np.hypot(*shift) <= _NEAR * max(signatures[a].width, signatures[a].height)
    return DuplicatePair(
        a,
        b,
        kind="near" if near else "overlap",
        correlation=correlation,
        shift=shift,
        overlap=overlap,
    )


def match(query: Sequence[Signature], known: Sequence[Signature]) -> list[tuple[int, int]]:
    """Return (index in `query`, index in `known`) of the images that show the same field, sorted.

    Only signatures are compared, because the images of `known` are not available: ten keypoints have
    to agree.
    """
    where: dict[str, list[int]] = {}
    for index, one in enumerate(known):
        where.setdefault(one.sha256, []).append(index)
    pairs = {(i, index) for i, one in enumerate(query) for index in where.get(one.sha256, ())}
    distinct = [known[indices[0]] for indices in where.values()]
    ours, theirs = _points_by_index(query), _points_by_index(distinct)
    for i, j, mirrored in (_ends(int(code)) for code in _candidates(query, distinct)):
        moved = align(ours(i, mirrored), theirs(j, False), mirrored, _INLIERS_ALONE)
        if moved is not None and moved[1] >= _INLIERS_ALONE:
            pairs.update((i, index) for index in where[distinct[j].sha256])
    return sorted(pairs)


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
    pairs = [np.zeros(0, np.int64)]
    window = _WINDOW if known is None else _WINDOW_KNOWN
    for _ in range(_TABLES):
        bits, end = rng.permutation(256)[:length], 0
        for keys in _keys(target, bits):
            table[end : (end := end + len(keys))] = keys
        table.sort()
        for mirrored in (False, True):
            among = known is None and not mirrored
            for keys in _keys(query, MIRROR[bits] if mirrored else bits):
                # Whose bits are the same stand one behind the other.
                start = np.searchsorted(table, keys + np.uint64(1) if among else keys & ~_LOWER)
                stop = np.searchsorted(table, keys | _LOWER, "right")
                count = np.minimum(stop - start, window)
                behind = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
                met = table[np.repeat(start, count) + behind]
                pair = (np.stack([np.repeat(keys, count), met]) & _LOWER).astype(np.int64)
                if known is None:
                    pair = pair[:, pair[0] // KEYPOINTS < pair[1] // KEYPOINTS]
                pair = _met_again(pair)
                moves = as_complex(origins[pair[0]], mirrored), as_complex(places[pair[1]], False)
                middle = SIDE / 2 * np.complex128(-1 + 1j if mirrored else 1 + 1j)
                agreeing = _agreeing(pair // KEYPOINTS, moves, middle)
                pairs.append(agreeing * 2 + mirrored)
    return np.unique(np.concatenate(pairs))


def _ends(code: int) -> tuple[int, int, bool]:
    """Return (index in `query`, index in `known`, mirrored)."""
    return code >> 32, (code & 0xFFFFFFFF) >> 1, bool(code & 1)


def _keys(signatures: Sequence[Signature], bits: Array) -> Iterator[npt.NDArray[np.uint64]]:
    """Yield, some images at a time, the chosen bits (upper half) and keypoint number (lower)."""
    for first in range(0, len(signatures), 64):
        part = signatures[first : first + 64]
        numbers = [
            np.arange(len(one.keypoints)) + i * KEYPOINTS for i, one in enumerate(part, first)
        ]
        chosen = np.unpackbits(np.concatenate([one.descriptors for one in part]), axis=1)[:, bits]
        key = np.zeros((len(chosen), 4), np.uint8)
        key[:, : (len(bits) + 7) // 8] = np.packbits(chosen, axis=1)
        high = key.view("<u4")[:, 0].astype(np.uint64) << np.uint64(32)
        yield high | np.concatenate(numbers).astype(np.uint64)


def _places(signatures: Sequence[Signature]) -> npt.NDArray[np.int16]:
    places = large_array((len(signatures), KEYPOINTS, 4), np.int16)
    for place, one in zip(places, signatures, strict=True):
        place[: len(one.keypoints)], place[len(one.keypoints) :] = one.keypoints, 0
    return places.reshape(-1, 4)


def _met_again(pair: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the meetings `(2, n)` of keypoints whose two images meet more than once: a few of all."""
    images = pair // KEYPOINTS
    _, which, count = np.unique(
        images[0] << 31 | images[1], return_inverse=True, return_counts=True
    )
    return pair[:, count[which] > 1]


def _agreeing(
    images: Array, moves: tuple[tuple[Array, Array], ...], middle: np.complex128
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
