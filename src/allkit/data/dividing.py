"""Which images go to which side of a division, and which are in no part."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from allkit.data.allocation import allocate, joined_units
from allkit.errors import DatasetError
from allkit.types import Ints

__all__ = [
    "By",
    "KeptWhole",
    "allocated",
    "given_folds",
    "kept_whole",
    "parts_without_relatives",
    "require_folds",
    "sides_of",
    "values_to_leave_out",
]

By = Literal["group", "image"]
"""What a division is recorded to keep whole."""
KeptWhole = Literal["group", "slide", "image"]
"""What a division is asked to keep whole; slides, with groups, cases and fields, are recorded as group."""


class Divisible(Protocol):
    """What is asked of a set before it is divided."""

    name: str

    @property
    def fields(self) -> Ints:
        """`(N,)`: images with the same number are of one group, case or field."""

    @property
    def slides(self) -> Ints:
        """`(N,)`: the slide of each image; -1 where it is unknown."""

    @property
    def has_slides(self) -> bool:
        """Whether the slide of every image is known."""


def kept_whole(data: Divisible, by: KeptWhole) -> tuple[Ints | None, By]:
    """Return `(N,)` numbers of what stays together (`None`: nothing), and how that is recorded.

    Raises `DatasetError` for another word, and by slide where slides are unknown.
    """
    if by == "image":
        return None, "image"
    if by == "group":
        return data.fields, "group"
    if by != "slide":
        raise DatasetError(
            f"by = {by!r} is no way to divide {data.name}. Give 'group' (groups, cases and fields stay "
            f"whole), 'slide' (slides too), or 'image' (nothing does)."
        )
    if not data.has_slides:
        raise DatasetError(
            f"{data.name} cannot be divided by slide: the slides of its images are unknown, or of some. Give "
            f"a column `slide`, or take them from the names (`with_slides`, `--slide REGEX`)."
        )
    fields = data.fields
    return joined_units(len(fields), fields.tolist(), data.slides.tolist()), "group"


def sides_of(test: float, val: float) -> tuple[list[str], list[float]]:
    """Return the parts that a division has, and the share of the images that each shall hold.

    Raises `DatasetError` for shares that leave nothing to train on, or nothing to test.
    """
    if any(isinstance(share, bool) or not isinstance(share, numbers.Real) for share in (test, val)):
        raise DatasetError(
            f"test={test!r} and val={val!r}: give shares from 0 to 1, such as test=0.3."
        )
    if not (0 <= test < 1 and 0 <= val < 1 and 0 < test + val < 1):
        advice = "give shares from 0 to 1 that leave something to train on."
        raise DatasetError(f"test={test} and val={val}: {advice}")
    shares = {"train": 1 - test - val, "val": val, "test": test}
    names = [name for name, share in shares.items() if share > 0]
    return names, [shares[name] for name in names]


def allocated(
    labels: Sequence[str | None],
    fields: Ints | None,
    shares: Sequence[float],
    *,
    sides: Sequence[str],
    grouped: bool,
    on_slides: bool,
    name: str,
    seed: int,
) -> Ints:
    """Return the side `(N,)` of every image, as `allocate` does.

    Images with the same number in `fields` `(N,)` stay together; without `fields` every image stands
    alone. Where no groups are known (`grouped`) a warning about the set `name` explains the effect.
    """
    unit_name = "image"
    if fields is None:
        fields = np.arange(len(labels))
    else:
        unit_name = "group" if grouped else "distinct field"
        if not grouped:
            warnings.warn(
                f"{name} has no groups: images of the same field are kept together, every "
                f"other image stands alone. Images of one slide will lie on both sides and "
                f"figures will be too high; "
                + (
                    "divide by slide (by='slide', `--by slide`), whose slides are known."
                    if on_slides
                    else "give a `group` or `case` column, or look at what `allkit check` suggests."
                ),
                stacklevel=3,
            )
    return allocate(fields, labels, shares, sides=sides, unit_name=unit_name, seed=seed)


def require_folds(k: object) -> None:
    """Raise `DatasetError` where k is no number of folds."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 2:
        raise DatasetError(f"k = {k!r} is no number of folds. Give a whole number from 2.")


def given_folds(folds: Sequence[int | None], k: int) -> Ints | None:
    """Return the fold `(N,)` of every image, from 0, where the set names exactly k; else `None`."""
    numbers = sorted({fold for fold in folds if fold is not None})
    if None in folds or len(numbers) != k:
        return None
    return np.searchsorted(numbers, np.array(folds, dtype=np.int64)).astype(np.int64)


def parts_without_relatives(test: npt.NDArray[np.bool_], fields: Ints | None) -> list[str | None]:
    """Return the part of every image; images that share a field with the test are in none."""
    relatives = test if fields is None else np.isin(fields, fields[test])
    return [
        "test" if held_out else None if relative else "train"
        for held_out, relative in zip(test.tolist(), relatives.tolist(), strict=True)
    ]


def values_to_leave_out(values: Sequence[str | None], *, column: str, name: str) -> list[str]:
    """Return the values of a column; raise `DatasetError` when it has gaps or one value only."""
    gaps = sum(value is None for value in values)
    if gaps:
        raise DatasetError(
            f"{gaps} of {len(values)} images of {name} have no {column!r}. Fill the column."
        )
    distinct = sorted({value for value in values if value is not None})
    if len(distinct) < 2:
        raise DatasetError(
            f"The column {column!r} of {name} has one value only; leaving it out leaves "
            f"nothing to train on."
        )
    return distinct
