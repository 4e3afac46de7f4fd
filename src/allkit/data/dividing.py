"""How a set is divided: who goes to which side, who may be on none, and the table of folds."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from allkit.data.allocation import allocate
from allkit.data.split import By, as_csv
from allkit.errors import DatasetError
from allkit.files import write_whole
from allkit.types import Ints

if TYPE_CHECKING:
    from allkit.data.dataset import Dataset

__all__ = ["allocated", "held_out_values", "parts_without_relatives", "write_folds"]


def allocated(
    data: Dataset, shares: Sequence[float], sides: Sequence[str], by: By, seed: int
) -> Ints:
    """Return the side `(N,)` of every image, as `allocate` does; say what is not known of them."""
    if by == "image":
        units, unit_name = np.arange(len(data)), "image"
    else:
        units, unit_name = data.fields, "group" if data.has_groups else "distinct field"
        if not data.has_groups:
            warnings.warn(
                f"{data.name} has no groups: images of the same field are kept together, every "
                f"other image stands alone. Images of one slide will lie on both sides and "
                f"figures will be too high; give a `group` or `case` column, or look at what "
                f"`allkit check` suggests.",
                stacklevel=3,
            )
    labels = [s.label for s in data.samples]
    return allocate(units, labels, shares, sides=sides, unit_name=unit_name, seed=seed)


def parts_without_relatives(data: Dataset, test: npt.NDArray[np.bool_], by: By) -> list[str | None]:
    """Return the part of every image; what shares a field with the test is in none."""
    relatives = np.isin(data.fields, data.fields[test]) if by == "group" else test
    return [
        "test" if t else None if relative else "train"
        for t, relative in zip(test.tolist(), relatives.tolist(), strict=True)
    ]


def held_out_values(data: Dataset, column: str) -> list[str]:
    """Return the values of a column; raise `DatasetError` when it has gaps or one value only."""
    values = data.column(column)
    gaps = sum(value is None for value in values)
    if gaps:
        raise DatasetError(
            f"{gaps} of {len(data)} images of {data.name} have no {column!r}. Fill the column."
        )
    found = sorted({value for value in values if value is not None})
    if len(found) < 2:
        raise DatasetError(
            f"The column {column!r} of {data.name} has one value only; leaving it out leaves "
            f"nothing to train on."
        )
    return found


def write_folds(data: Dataset, path: Path, folds: Sequence[int], by: By) -> None:
    """Write the set as a table with a column `fold`."""
    samples = [replace(s, fold=f, part=None) for s, f in zip(data, folds, strict=True)]
    rows = sorted(zip(data.hashes, folds, strict=True))
    fingerprint = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    write_whole(path, as_csv(data.same_images(samples, by), path, fingerprint=fingerprint))
