"""Where the training images lie, and how far from them another image is: its OOD score."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from allkit.types import Floats

__all__ = ["HIGHEST_SCORE", "NEAREST", "NEIGHBOURS", "Space", "signed_sqrt"]

NEIGHBOURS = 5
"""Training images of a class to which a distance is measured, the nearest."""
BLOCK = 1024
"""Images whose distances are in memory at once."""
NEAREST = 1e-3
"""Standard deviations: what is nearer than this is as near as a copy of the image."""
HIGHEST_SCORE = 10.0
"""OOD score above which a probability does not fall further."""


@dataclass(frozen=True)
class Space:
    """The training images in a space where the differences within a slide have unit variance.

    `mean` `(D,)` and `projection` `(D, d)` map a vector into it; `references` `(R, d)` are
    training images, `owners` `(R,)` the positions of their classes. `centre` and `scale` are
    median and spread of the logarithm of the distance that images of known slides have to the
    images of their own class. What is farther than `foreign` from all of them is unlike anything
    trained on. `seen` `(U, d)` are images that a laboratory showed without labels: smears, of which
    nobody said what they are.
    """

    mean: Floats
    projection: Floats
    references: Floats
    owners: npt.NDArray[np.int64]
    centre: float
    scale: float
    foreign: float
    seen: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def distances(self, vectors: Floats, classes: int) -> Floats:
        """Return `(N, K)`: root mean square distance to the five nearest images of each class.

        A class with fewer references takes what there is; one without is infinitely far.
        """
        result = np.full((len(vectors), classes), np.inf)
        for start in range(0, len(vectors), BLOCK):
            points = (vectors[start : start + BLOCK] - self.mean) @ self.projection
            squares = points @ self._doubled
            np.subtract(self._norms, squares, out=squares)
            squares += (points**2).sum(axis=1)[:, None]
            for index, references in self._by_class:
                result[start : start + BLOCK, index] = _to_nearest(squares[:, references])
        return result

    def distance_to_seen(self, vectors: Floats) -> Floats:
        """Return `(N,)`: root mean square distance to the five nearest of `seen`; else infinite."""
        result = np.full(len(vectors), np.inf)
        if not len(self.seen):
            return result
        for start in range(0, len(vectors), BLOCK):
            points = (vectors[start : start + BLOCK] - self.mean) @ self.projection
            squares = (points**2).sum(axis=1)[:, None] + (self.seen**2).sum(axis=1)
            result[start : start + BLOCK] = _to_nearest(squares - 2 * points @ self.seen.T)
        return result

    # What does not depend on the image, once: an answer takes a fraction of a millisecond then.

    @cached_property
    def _norms(self) -> Floats:
        squares: Floats = (self.references**2).sum(axis=1)
        return squares

    @cached_property
    def _doubled(self) -> Floats:
        doubled: Floats = np.ascontiguousarray(2 * self.references.T)
        return doubled

    @cached_property
    def _by_class(self) -> list[tuple[int, npt.NDArray[np.int64]]]:
        return [(int(i), np.flatnonzero(self.owners == i)) for i in np.unique(self.owners)]

    def ood_score(self, distances: Floats) -> Floats:
        """Return the OOD scores of distances: 0 is usual, each 1 a standard deviation farther."""
        result: Floats = (np.log(np.maximum(distances, NEAREST)) - self.centre) / self.scale
        return result


def _to_nearest(squares: Floats) -> Floats:
    """Return `(N,)`: root mean square of the five smallest distances, from their squares `(N, R)`.

    `allkit.network.pipeline` does the same in torch, for what is exported.
    """
    count = min(NEIGHBOURS, squares.shape[1])
    nearest = np.partition(squares, count - 1, axis=1)[:, :count]
    result: Floats = np.sqrt(np.maximum(nearest, 0).mean(axis=1))
    return result


def signed_sqrt(features: Floats) -> Floats:
    """Return sign(x) · √|x|, elementwise, as the head sees the features."""
    result: Floats = np.sign(features) * np.sqrt(np.abs(features))
    return result
