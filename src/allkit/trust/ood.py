"""Familiarity: how far an image may lie from the training images before the model must not answer.

Distances are taken in a space where the differences between images of one slide have unit
variance, so that what varies within a slide counts little and what tells slides apart counts
much. The thresholds come from training groups that were kept out, never from images of other
kinds: how unknown slides, other stains or photographs look need not be known.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from allkit.images.statistics import STATISTICS
from allkit.trust.verdict import NEAREST, Space
from allkit.types import Floats, Ints

__all__ = ["Familiarity", "cell_floor", "fit_spaces", "grouped_parts", "statistic_ranges"]

Part = tuple[Ints, Ints]
"""Positions of images that serve as references, and of those whose distance to them is measured."""

Rows = Callable[[Ints], Floats]
"""Gives the vectors `(n, D)` of the images at positions `(n,)`."""

MOST_REFERENCES = 4000
FEWEST_IMAGES = 20
SHRINKAGE = 0.05
LEAST_SPREAD = 0.02
"""Of the logarithm of a distance: copies of one image would leave no room for any other."""
MARGIN = 1.2
"""A refusal claims more than a review does, so it asks for more distance."""


def grouped_parts(labels: Ints, units: Ints, folds: int = 5, seed: int = 0) -> list[Part]:
    """Return (references, kept out) for each of up to five folds, units whole."""
    from sklearn.model_selection import StratifiedGroupKFold

    # The division refuses more parts than every class has images.
    count = min(folds, len(np.unique(units)), int(np.bincount(labels).max(initial=0)))
    if count < 2:
        return []
    division = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer units than folds is in fewer of them: what can be measured is.
        warnings.simplefilter("ignore", UserWarning)
        return [
            (learn.astype(np.int64), kept.astype(np.int64))
            for learn, kept in division.split(labels, labels, units)
        ]


class Familiarity(NamedTuple):
    """What `fit_spaces` finds.

    `spaces`, and the `limit` of the strangeness summed over them. `distances` holds, for each
    space, those that images had to every class when they were kept out, `(N, K)`; NaN for images
    that never were.
    """

    spaces: tuple[Space, ...]
    limit: float
    distances: tuple[Floats, ...]

    def strangeness(self, rows: Ints, answered: Ints) -> Floats:
        """Return, for each space, how strange images `rows` were among the class `answered`."""
        return np.stack(
            [
                space.strangeness(distance[rows, answered])
                for space, distance in zip(self.spaces, self.distances, strict=True)
            ]
        )


def fit_spaces(
    spaces: Sequence[tuple[Rows, int]],
    labels: Ints,
    units: Ints,
    parts: Sequence[Sequence[Part]],
    references: Sequence[Ints],
    classes: int,
    familiar: float,
    seed: int = 0,
) -> Familiarity | None:
    """Return one space for each of `spaces`: what gives the vectors `(n, D)` of images by their
    positions, of which there may be more than the memory holds, and the dimensions at most.

    `parts` holds, for each space, the divisions in which images are kept out; `references` the
    images that become its references. The strangeness of the kept-out images of known slides is
    described by its median and the median deviation from it, and the limit is where the share
    `familiar` of them would lie within if it were normally distributed. A few slides that have
    nothing like them among the others do not move it (Leys et al. 2013), as a quantile would be
    moved: they are what an unknown slide looks like. `None` when there are too few images.
    """
    from scipy.stats import norm

    rng = np.random.default_rng(seed)
    tables = []
    for (read, width), divisions in zip(spaces, parts, strict=True):
        table = np.full((len(labels), classes), np.nan)
        for learn, kept in divisions:
            space = _space(read, labels, units, _sampled(learn, labels, rng), width)
            table[kept] = space.distances(read(kept), classes)
        tables.append(table)
    own = np.stack([table[np.arange(len(labels)), labels] for table in tables])
    # An image whose class was kept out whole is infinitely far: nothing is known of it.
    own = own[:, np.isfinite(own).all(axis=0)]
    if own.shape[1] < FEWEST_IMAGES:
        return None
    fitted = []
    for number, (read, width) in enumerate(spaces):
        chosen = _sampled(references[number], labels, rng)
        space = _space(read, labels, units, chosen, width)
        centre, scale = _median_and_spread(np.log(np.maximum(own[number], NEAREST)))
        fitted.append(
            replace(
                space,
                centre=centre,
                scale=max(scale, LEAST_SPREAD),
                foreign=_foreign(space, classes),
            )
        )
    total = np.sum([s.strangeness(d) for s, d in zip(fitted, own, strict=True)], axis=0)
    centre, scale = _median_and_spread(total)
    limit = centre + float(norm.ppf(familiar)) * scale
    return Familiarity(tuple(fitted), limit, tuple(tables))


def _median_and_spread(values: Floats) -> tuple[float, float]:
    """Return the median, and the median deviation from it as a standard deviation."""
    middle = float(np.median(values))
    return middle, 1.4826 * float(np.median(np.abs(values - middle)))


def _space(read: Rows, labels: Ints, units: Ints, rows: Ints, width: int) -> Space:
    """Return the whitened space of the images `rows`, without limits."""
    from sklearn.utils.extmath import randomized_svd

    points = read(rows).astype(np.float64)
    mean = points.mean(axis=0)
    centred = points - mean
    # Fewer dimensions for fewer images: a covariance needs several images for each.
    width = max(1, min(width, points.shape[1], len(rows) // 8))
    _, _, directions = randomized_svd(centred, width, n_iter=4, random_state=0)
    basis = directions.T
    reduced = centred @ basis
    unit, sizes = np.unique(units[rows], return_inverse=True, return_counts=True)[1:]
    # Without known groups the class takes the place of the slide.
    within = unit if (sizes > 1).sum() >= 2 else labels[rows]
    inner = reduced - _means(reduced, within)[within]
    freedom = max(1, len(rows) - len(np.unique(within)))
    covariance = inner.T @ inner / freedom
    floor = max(float(np.trace(covariance)) / width, 1e-12)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * floor * np.eye(width)
    values, vectors_ = np.linalg.eigh(covariance)
    projection = basis @ (vectors_ / np.sqrt(values))
    return Space(
        mean.astype(np.float32),
        projection.astype(np.float32),
        (centred @ projection).astype(np.float32),
        labels[rows],
        centre=0.0,
        scale=1.0,
        foreign=np.inf,
    )


def _means(points: Floats, group: Ints) -> Floats:
    count = int(group.max()) + 1
    sums = np.zeros((count, points.shape[1]))
    np.add.at(sums, group, points)
    means: Floats = sums / np.maximum(np.bincount(group, minlength=count), 1)[:, None]
    return means


def _foreign(space: Space, classes: int) -> float:
    """Return how far the training images of different classes are from each other, at most.

    What is farther than that from every training image is less like them than they, which are
    smears of different slides and stains, are like each other.
    """
    between = []
    for index in range(classes):
        own = space.owners == index
        if not own.any() or own.all():
            continue
        others = Space(
            np.zeros(space.references.shape[1], np.float32),
            np.eye(space.references.shape[1], dtype=np.float32),
            space.references[~own], space.owners[~own], 0.0, 1.0, np.inf,
        )  # fmt: skip
        between.append(others.distances(space.references[own], classes).min(axis=1))
    if not between:
        return float("inf")
    return MARGIN * float(np.quantile(np.concatenate(between), 0.999))


def _sampled(rows: Ints, labels: Ints, rng: np.random.Generator) -> Ints:
    """Return at most `MOST_REFERENCES` of `rows`, every class in proportion."""
    if len(rows) <= MOST_REFERENCES:
        return rows
    share = MOST_REFERENCES / len(rows)
    chosen = []
    for label in np.unique(labels[rows]):
        own = rows[labels[rows] == label]
        count = min(len(own), max(200, round(share * len(own))))
        chosen.append(rng.choice(own, count, replace=False))
    return np.sort(np.concatenate(chosen))


def statistic_ranges(statistics: Floats) -> Floats:
    """Return the 0.5 and 99.5 % quantiles of each statistic, `(M, 2)` float32."""
    result: Floats = np.quantile(statistics, [0.005, 0.995], axis=0).T.astype(np.float32)
    return result


def cell_floor(statistics: Floats) -> float:
    """Return the share of stained cells below which there is nothing to see.

    A quarter of what 99 % of the training images have.
    """
    share = np.exp(statistics[:, STATISTICS.index("cell_share")]) - 0.003
    return float(max(0.0, 0.25 * np.quantile(share, 0.01)))
