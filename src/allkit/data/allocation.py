"""Dividing units of images between sides, so that every class keeps its share on every side."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from allkit.errors import DatasetError

__all__ = ["allocate", "joined_units", "require_enough", "torn"]


def joined_units(count: int, *keys: Sequence[Hashable | None]) -> npt.NDArray[np.int64]:
    """Return the unit of each of `count` images: images that share any key share a unit.

    Each of `keys` holds one value per image; `None` joins nothing. Units are numbered from 0 in
    the order of their first image; the result is `(count,)` int64.
    """
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for values in keys:
        first: dict[Hashable, int] = {}
        for index, value in enumerate(values):
            if value is not None:
                a, b = root(first.setdefault(value, index)), root(index)
                parent[max(a, b)] = min(a, b)
    roots = [root(index) for index in range(count)]
    number = {value: position for position, value in enumerate(sorted(set(roots)))}
    return np.array([number[value] for value in roots], dtype=np.int64)


def torn(units: npt.NDArray[np.int64], sides: Sequence[str | None]) -> tuple[int, int]:
    """Return how many units are on two sides, and how many images they have; `None` is no side."""
    held: dict[int, set[str]] = {}
    for unit, side in zip(units.tolist(), sides, strict=True):
        if side is not None:
            held.setdefault(unit, set()).add(side)
    split = [unit for unit, found in held.items() if len(found) > 1]
    return len(split), int(np.isin(units, split).sum())


def allocate(
    units: npt.NDArray[np.int64],
    labels: Sequence[str | None],
    shares: Sequence[float],
    *,
    sides: Sequence[str],
    unit_name: str,
    seed: int,
) -> npt.NDArray[np.int64]:
    """Return the side of every image, `(N,)` int64, units whole, classes in proportion.

    Units are placed from the largest to the smallest (in random order among equals), each on the
    side where the squared distance to the wanted share of every class becomes smallest. Raises
    `DatasetError` that names the classes with too few units to be on every side. Images without a
    label count as one more class.
    """
    counts = require_enough(units, labels, sides, unit_name=unit_name)
    total = counts.sum(axis=0)
    target = np.outer(np.asarray(shares) / np.sum(shares), total)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(counts))
    order = order[np.argsort(-(counts[order] / total).max(axis=1), kind="stable")]
    filled = np.zeros_like(target)
    side_of = np.zeros(len(counts), dtype=np.int64)
    for unit in order:
        share = counts[unit] / total
        gap = (filled - target) / total
        side = int(np.argmin(((gap + share) ** 2 - gap**2).sum(axis=1)))
        side_of[unit] = side
        filled[side] += counts[unit]
    _fill_empty(counts, side_of, len(sides))
    return side_of[units]


def require_enough(
    units: npt.NDArray[np.int64],
    labels: Sequence[str | None],
    sides: Sequence[str],
    *,
    unit_name: str,
) -> npt.NDArray[np.float64]:
    """Return how many images of each class `(U, K)` each unit holds, classes in their order.

    Raises `DatasetError` that names the classes which have fewer units than there are sides.
    """
    classes = sorted(set(labels), key=lambda label: label or "")
    column = np.array([classes.index(label) for label in labels])
    counts = np.zeros((int(units.max()) + 1 if len(units) else 0, len(classes)))
    np.add.at(counts, (units, column), 1)
    units_of_class = (counts > 0).sum(axis=0)
    short = [
        f"{'no label' if name is None else repr(name)} has {n} {unit_name}{'' if n == 1 else 's'} "
        f"({int(images)} image{'' if images == 1 else 's'})"
        for name, n, images in zip(classes, units_of_class, counts.sum(axis=0), strict=True)
        if n < len(sides)
    ]
    if short:
        raise DatasetError(
            f"Cannot put every class on every side ({_sides(sides)}): {'; '.join(short)}. "
            f"Each class needs at least {len(sides)}: add images of another slide, leave the "
            f"class out, or ask for fewer sides."
        )
    return counts


def _sides(sides: Sequence[str]) -> str:
    return ", ".join(sides) if len(sides) <= 3 else f"{len(sides)} of them"


def _fill_empty(
    counts: npt.NDArray[np.float64], side_of: npt.NDArray[np.int64], sides: int
) -> None:
    """Give every side a unit of every class, moving the smallest unit of the fullest side."""
    for _ in range(counts.size * sides):
        held = np.zeros((sides, counts.shape[1]))  # units of each class on each side
        np.add.at(held, side_of, counts > 0)
        empty = np.argwhere(held == 0)
        if len(empty) == 0:
            return
        side, column = empty[0]
        # Only a unit that leaves no other class empty may move.
        spare = [
            unit
            for unit in np.flatnonzero(counts[:, column] > 0)
            if (held[side_of[unit]][counts[unit] > 0] > 1).all()
        ]
        if not spare:
            break
        smallest = min(spare, key=lambda unit: (counts[unit].sum(), unit))
        side_of[smallest] = side
    raise DatasetError(
        "No division puts every class on every side while keeping the groups whole: the groups "
        "mix classes in a way that does not allow it. Ask for fewer sides or other groups."
    )
