"""What is measured on every image of a set, and kept in the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from allkit.data.dataset import Dataset
from allkit.images.cells import FINDER, NO_CELLS, NO_SCALE, find_cells, shortcomings
from allkit.images.statistics import STATISTICS_VERSION, image_statistics
from allkit.types import Progress

__all__ = ["VectorCache", "dataset_shortcomings", "dataset_statistics"]


class VectorCache(Protocol):
    """What keeps vectors by keys; the feature cache does."""

    def get(self, keys: Sequence[bytes]) -> dict[bytes, npt.NDArray[np.float32]]:
        """Return the vectors that are there."""

    def put(self, vectors: dict[bytes, npt.NDArray[np.float32]]) -> None:
        """Keep vectors."""


def dataset_statistics(
    dataset: Dataset,
    *,
    cache: VectorCache | None = None,
    progress: Progress | None = None,
) -> npt.NDArray[np.float32]:
    """Return the statistics of every image, `(N, M)` float32, from the cache where they are in it.

    Raises `DatasetError` that lists every unreadable image.
    """
    return _kept(
        dataset, image_statistics, f"statistics {STATISTICS_VERSION}", "statistics", cache, progress
    )


def dataset_shortcomings(
    dataset: Dataset,
    *,
    cache: VectorCache | None = None,
    progress: Progress | None = None,
) -> list[tuple[str, ...]]:
    """Return for every image the codes of why its cells say nothing; empty where they do."""

    def measured(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        reasons = shortcomings(find_cells(image))
        return np.array([reason in reasons for reason in (NO_CELLS, NO_SCALE)], np.float32)

    rows = _kept(dataset, measured, f"shortcomings {FINDER}", "cells", cache, progress)
    return [
        tuple(reason for reason, holds in zip((NO_CELLS, NO_SCALE), row, strict=True) if holds)
        for row in rows
    ]


def _kept(
    dataset: Dataset,
    measure: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]],
    name: str,
    label: str,
    cache: VectorCache | None,
    progress: Progress | None,
) -> npt.NDArray[np.float32]:
    """Return what `measure` says of every image, from the cache where it is known by `name`."""
    keys = [hashlib.sha256(f"{name} {digest}".encode()).digest() for digest in dataset.hashes]
    known = cache.get(keys) if cache else {}
    # Each file once, however often it occurs.
    todo = {key: i for i, key in reversed(list(enumerate(keys))) if key not in known}
    part = dataset.subset(sorted(todo.values()))
    done = len(dataset) - len(part)

    def report(number: int, _: int) -> None:
        if progress:
            progress(label, done + number, len(dataset))

    values = part.each(lambda index: measure(part.read(index)), report)
    fresh = {keys[i]: value for i, value in zip(sorted(todo.values()), values, strict=True)}
    if cache and fresh:
        cache.put(fresh)
    known = known | fresh
    return np.stack([known[key] for key in keys])
