"""Out-of-distribution (OOD) detection: how far from the training images the model may still answer.

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

from allkit.images.statistics import STATISTIC_NAMES
from allkit.trust.space import NEAREST, Space
from allkit.types import Floats, Ints

__all__ = [
    "FittedSpaces",
    "SpaceInput",
    "cell_floor",
    "distances_without",
    "fit_spaces",
    "grouped_parts",
    "statistic_ranges",
]

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
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer units than folds is in fewer of them: what can be measured is.
        warnings.simplefilter("ignore", UserWarning)
        return [
            (references.astype(np.int64), kept_out.astype(np.int64))
            for references, kept_out in splitter.split(labels, labels, units)
        ]


class SpaceInput(NamedTuple):
    """What one space is fitted on.

    `read` gives the vectors of images by their positions: there may be more of them than the
    memory holds. `width` is the number of dimensions at most. `divisions` say which images are
    kept out in turn, and `references` which become the references of the space.
    """

    read: Rows
    width: int
    divisions: Sequence[Part]
    references: Ints


class FittedSpaces(NamedTuple):
    """What `fit_spaces` finds.

    `spaces`, and the `limit` of the OOD score summed over them. `distances` holds, for each
    space, those that images had to every class when they were kept out, `(N, K)`; NaN for images
    that never were.
    """

    spaces: tuple[Space, ...]
    limit: float
    distances: tuple[Floats, ...]

    def ood_scores(self, rows: Ints, answered: Ints) -> Floats:
        """Return the OOD scores of images `rows` `(n,)` in each of S spaces, `(S, n)`.

        They are among the images of the class `answered` `(n,)`.
        """
        return np.stack(
            [
                space.ood_score(distance[rows, answered])
                for space, distance in zip(self.spaces, self.distances, strict=True)
            ]
        )


def fit_spaces(
    inputs: Sequence[SpaceInput],
    labels: Ints,
    units: Ints,
    *,
    classes: int,
    familiar: float,
    seed: int = 0,
) -> FittedSpaces | None:
    """Return one space for each of `inputs`; `None` when there are too few images.

    `labels` and `units` `(N,)` say of which of so many `classes` each image is, and what was
    acquired together. The OOD scores of the kept-out images of known slides are described by their
    median and the median deviation from it, and the limit is where the share `familiar` of them
    would lie within if they were normally distributed. A few slides that have nothing like them
    among the others do not move it (Leys et al. 2013), as a quantile would be moved: they are what
    an unknown slide looks like.
    """
    from scipy.stats import norm

    rng = np.random.default_rng(seed)
    tables = []
    for given in inputs:
        table = np.full((len(labels), classes), np.nan)
        for learnt, kept_out in given.divisions:
            rows = _sampled(learnt, labels, rng)
            space = _space(given.read(rows), labels[rows], units[rows], given.width)
            table[kept_out] = space.distances(given.read(kept_out), classes)
        tables.append(table)
    to_true_class = np.stack([table[np.arange(len(labels)), labels] for table in tables])
    # An image whose class was kept out whole is infinitely far: nothing is known of it.
    to_true_class = to_true_class[:, np.isfinite(to_true_class).all(axis=0)]
    if to_true_class.shape[1] < FEWEST_IMAGES:
        return None
    fitted = []
    for given, distances in zip(inputs, to_true_class, strict=True):
        rows = _sampled(given.references, labels, rng)
        space = _space(given.read(rows), labels[rows], units[rows], given.width)
        centre, scale = _median_and_spread(np.log(np.maximum(distances, NEAREST)))
        scale, foreign = max(scale, LEAST_SPREAD), _foreign(space, classes)
        fitted.append(replace(space, centre=centre, scale=scale, foreign=foreign))
    scores = [s.ood_score(d) for s, d in zip(fitted, to_true_class, strict=True)]
    centre, scale = _median_and_spread(np.sum(scores, axis=0))
    limit = centre + float(norm.ppf(familiar)) * scale
    return FittedSpaces(tuple(fitted), limit, tuple(tables))


def distances_without(
    read: Rows, labels: Ints, units: Ints, left_out: Ints, *, classes: int, width: int
) -> Floats:
    """Return the distances `(n, K)` of the images `left_out` `(n,)` in a space of the others' vectors.

    `read` and `width` are those of `SpaceInput`. Images that share a unit with those left out are not
    in the space.
    """
    rest = np.flatnonzero(~np.isin(units, units[left_out]))
    rows = _sampled(rest, labels, np.random.default_rng(0))
    space = _space(read(rows), labels[rows], units[rows], width)
    return space.distances(read(left_out), classes)


def _median_and_spread(values: Floats) -> tuple[float, float]:
    """Return the median, and the median deviation from it as a standard deviation."""
    middle = float(np.median(values))
    return middle, 1.4826 * float(np.median(np.abs(values - middle)))


def _space(vectors: Floats, labels: Ints, units: Ints, width: int) -> Space:
    """Return the whitened space of n images, vectors `(n, D)`, without limits."""
    from sklearn.utils.extmath import randomized_svd

    points = vectors.astype(np.float64)
    mean = points.mean(axis=0)
    centred = points - mean
    # Fewer dimensions for fewer images: a covariance needs several images for each.
    width = max(1, min(width, points.shape[1], len(points) // 8))
    _, _, directions = randomized_svd(centred, width, n_iter=4, random_state=0)
    basis = directions.T
    reduced = centred @ basis
    unit, sizes = np.unique(units, return_inverse=True, return_counts=True)[1:]
    # Without known groups the class takes the place of the slide.
    within = unit if (sizes > 1).sum() >= 2 else labels
    inner = reduced - _means(reduced, within)[within]
    freedom = max(1, len(points) - len(np.unique(within)))
    covariance = inner.T @ inner / freedom
    floor = max(float(np.trace(covariance)) / width, 1e-12)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * floor * np.eye(width)
    variances, axes = np.linalg.eigh(covariance)
    projection = basis @ (axes / np.sqrt(variances))
    return Space(
        mean=mean.astype(np.float32),
        projection=projection.astype(np.float32),
        references=(centred @ projection).astype(np.float32),
        owners=labels,
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
    dimensions = space.references.shape[1]
    for index in range(classes):
        of_class = space.owners == index
        if not of_class.any() or of_class.all():
            continue
        others = replace(
            space,
            # The references lie in the space already.
            mean=np.zeros(dimensions, np.float32),
            projection=np.eye(dimensions, dtype=np.float32),
            references=space.references[~of_class],
            owners=space.owners[~of_class],
        )
        distances = others.distances(space.references[of_class], classes)
        between.append(distances.min(axis=1))
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
        of_class = rows[labels[rows] == label]
        count = min(len(of_class), max(200, round(share * len(of_class))))
        chosen.append(rng.choice(of_class, count, replace=False))
    return np.sort(np.concatenate(chosen))


def statistic_ranges(statistics: Floats) -> Floats:
    """Return the 0.5 and 99.5 % quantiles of each statistic, `(M, 2)` float32."""
    result: Floats = np.quantile(statistics, [0.005, 0.995], axis=0).T.astype(np.float32)
    return result


def cell_floor(statistics: Floats) -> float:
    """Return the share of stained cells below which there is nothing to see.

    A quarter of what 99 % of the training images have.
    """
    share = np.exp(statistics[:, STATISTIC_NAMES.index("cell_share")]) - 0.003
    return float(max(0.0, 0.25 * np.quantile(share, 0.01)))
