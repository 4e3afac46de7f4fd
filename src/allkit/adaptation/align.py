"""The shift of a laboratory's features from those that a model was trained on, without labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from allkit.trust.softmax import softmax
from allkit.trust.space import Space
from allkit.types import Floats

__all__ = ["FEWEST", "stain_shift"]


FEWEST = 5
"""Images below which no shift is estimated."""
ROUNDS = 20
TOLD_APART = 0.9
"""Share of the training images that must be nearest to the middle of their own class."""


def stain_shift(roots: Floats, space: Space, classes: int) -> Floats | None:
    """Return by how much the stain of N images shifts their features, `(D,)`, whatever their classes.

    `roots` `(N, D)` are the signed square roots of their features, `space` holds the training images
    in the space of the out-of-distribution detection. Adaptive batch normalisation (Li et al. 2018)
    replaces the mean of the training images by that of the new images; it would mistake a slide of
    one class for another stain. Here the images are a mixture of the training classes, in unknown
    proportions and moved by one shift. Expectation–maximisation finds proportions and shift that fit
    best, in the directions that this space keeps, where all classes have the same variance. `None`
    for fewer than five images, and where the class means do not separate even the training images
    (fewer than nine of ten are nearest to their own): then shift and class cannot be distinguished.
    """
    present = np.unique(space.owners[space.owners < classes])
    if len(roots) < FEWEST or len(present) < 2:
        return None
    middles = np.stack([space.references[space.owners == i].mean(axis=0) for i in present])
    if _told_apart(space, present, middles) < TOLD_APART:
        return None
    breadth = np.mean(
        [
            ((space.references[space.owners == i] - middle) ** 2).mean()
            for i, middle in zip(present, middles, strict=True)
        ]
    )
    points = (roots - space.mean) @ space.projection
    shift = np.zeros(points.shape[1])
    for _ in range(ROUNDS):
        squares = ((points - shift)[:, None] - middles[None]) ** 2
        near = -squares.sum(axis=2) / (2 * breadth)
        shares = softmax(near).mean(axis=0)
        shift = points.mean(axis=0) - shares @ middles
    back: Floats = shift @ np.linalg.pinv(space.projection.astype(np.float64))
    return back


def _told_apart(space: Space, present: npt.NDArray[np.int64], middles: Floats) -> float:
    """Return the mean share, over the classes, of images that are nearest to their own middle."""
    squares = ((space.references[:, None] - middles[None]) ** 2).sum(axis=2)
    nearest = present[squares.argmin(axis=1)]
    return float(np.mean([(nearest[space.owners == i] == i).mean() for i in present]))
