"""Familiarity: how far an image may lie from the training images before the model must not answer.

Distances are taken in a space where the differences between images of one slide have unit
variance, so that what varies within a slide counts little and what tells slides apart counts
much. The thresholds come from training groups that were kept out, never from images of other
kinds: how unknown slides, other stains or photographs look need not be known.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.runtime.smear import STATISTICS
from allkit.runtime.trust import Space

__all__ = ["cell_floor", "fit_spaces", "grouped_parts", "statistic_ranges"]

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Part = tuple[Ints, Ints]
"""Positions of images that serve as references, and of those whose distance to them is measured."""

MOST_REFERENCES = 4000
FEWEST_IMAGES = 20
SHRINKAGE = 0.05
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


def fit_spaces(
    spaces: Sequence[tuple[Floats, int]],
    labels: Ints,
    units: Ints,
    parts: Sequence[Sequence[Part]],
    references: Sequence[Ints],
    classes: int,
    familiar: float,
    seed: int = 0,
) -> tuple[list[Space], npt.NDArray[np.bool_]] | None:
    """Return one space for each of `spaces` (vectors `(N, D)`, dimensions at most), and which
    images were found familiar when they were kept out, `(N,)` (also where that is not known).

    `parts` holds, for each space, the divisions in which thresholds are measured; `references`
    the images that become its references. The thresholds are such that the share `familiar` of
    the images that were kept out lies within all of them at once. `None` when there are too few
    images for that.
    """
    rng = np.random.default_rng(seed)
    distances = []
    for (vectors, width), divisions in zip(spaces, parts, strict=True):
        own = np.full(len(labels), np.nan)
        for learn, kept in divisions:
            space = _space(vectors, labels, units, _sampled(learn, labels, rng), width)
            found = space.distances(vectors[kept], classes)
            own[kept] = found[np.arange(len(kept)), labels[kept]]
        distances.append(own)
    table = np.stack(distances)
    measured = np.isfinite(table).all(axis=0)
    if measured.sum() < FEWEST_IMAGES:
        return None
    table = table[:, measured]
    # The rank of an image among all, in the space where it is most unusual.
    ranks = np.argsort(np.argsort(table, axis=1), axis=1).max(axis=0) / (table.shape[1] - 1)
    level = float(np.quantile(ranks, familiar))
    result = []
    for number, (vectors, width) in enumerate(spaces):
        chosen = _sampled(references[number], labels, rng)
        space = _space(vectors, labels, units, chosen, width)
        result.append(
            Space(
                space.mean, space.projection, space.references, space.owners,
                familiar=float(np.quantile(table[number], level)),
                foreign=_foreign(space, classes),
            )
        )  # fmt: skip
    known = np.ones(len(labels), dtype=bool)
    known[measured] = ranks <= level
    return result, known


def _space(vectors: Floats, labels: Ints, units: Ints, rows: Ints, width: int) -> Space:
    """Return the whitened space of the images `rows`, without thresholds."""
    points = vectors[rows].astype(np.float64)
    mean = points.mean(axis=0)
    centred = points - mean
    # Fewer dimensions for fewer images: a covariance needs several images for each.
    width = max(1, min(width, points.shape[1], len(rows) // 8))
    _, _, basis = np.linalg.svd(centred, full_matrices=False)
    basis = basis[:width].T
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
        familiar=np.inf,
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
            space.references[~own], space.owners[~own], np.inf, np.inf,
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
