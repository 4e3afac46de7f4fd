"""What makes a model trustworthy, fitted after training: calibration and familiarity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from allkit.data.dataset import Dataset
from allkit.images.cells import FINDER, NO_CELLS, NO_SCALE, find_cells, shortcomings
from allkit.images.statistics import STATISTICS_VERSION, image_statistics
from allkit.trust.calibration import (
    confidence_floor,
    conformal_thresholds,
    examples_needed,
    fit_temperature,
)
from allkit.trust.ood import Part, cell_floor, fit_spaces, grouped_parts, statistic_ranges
from allkit.trust.verdict import Trust, signed_root
from allkit.types import Floats, Ints, Progress

__all__ = ["Fitted", "TrustSettings", "dataset_statistics", "fit_trust"]


FEWEST_TO_CALIBRATE = 20
CONTENT_WIDTH = 32


class VectorCache(Protocol):
    """What keeps vectors by keys; the feature cache does."""

    def get(self, keys: Sequence[bytes]) -> dict[bytes, npt.NDArray[np.float32]]:
        """Return the vectors that are there."""

    def put(self, vectors: dict[bytes, npt.NDArray[np.float32]]) -> None:
        """Keep vectors."""


@dataclass(frozen=True)
class TrustSettings:
    """`coverage` of the prediction sets; `familiar`: share of new images of known slides that
    should count as such; `error`: share of single answers that may be wrong."""

    coverage: float = 0.95
    familiar: float = 0.99
    error: float = 0.01


class Fitted(NamedTuple):
    """What `fit_trust` gives: the trust, the probabilities `(n, K)` of the held-out images as they
    were measured (among references that do not hold their groups), and what could not be fitted."""

    trust: Trust
    probabilities: npt.NDArray[np.float32]
    notes: tuple[str, ...]


def fit_trust(
    dataset: Dataset,
    features: Floats,
    rows: Ints,
    logits: Floats,
    *,
    settings: TrustSettings,
    divisions: Sequence[Part],
    frozen: bool,
    cache: VectorCache | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """Fit calibration and familiarity, and say in words what could not be fitted and why.

    `logits` `(n, K)` are of the images at `rows` `(n,)`, which the model had not learnt from.
    `features` `(N, D)` are those of all images of `dataset`, as the finished model computes them;
    `divisions` the (learnt from, held out) positions of the training. With a `frozen` backbone
    the thresholds of familiarity are measured over grouped folds of all images; otherwise only
    the held-out images are new to the features. Images without known groups stand alone.
    """
    classes, labels, notes = dataset.classes, dataset.labels, []
    statistics = dataset_statistics(dataset, cache=cache, progress=progress)
    everything = np.arange(len(dataset), dtype=np.int64)
    folds = grouped_parts(labels, dataset.fields)
    inside = folds if frozen else list(divisions)
    learnt = everything if frozen else np.unique(np.concatenate([a for a, _ in divisions]))
    known = fit_spaces(
        [
            (lambda own: statistics[own], statistics.shape[1]),
            (lambda own: signed_root(np.asarray(features[own])), CONTENT_WIDTH),
        ],
        labels, dataset.units, [folds, inside], [everything, learnt],
        len(classes), settings.familiar,
    )  # fmt: skip
    trust = Trust(classes, coverage=settings.coverage)
    by_content = np.zeros(len(rows))
    familiar = np.ones(len(rows), dtype=bool)
    if known is None:
        notes.append("No familiarity: too few images or groups to tell a known slide by.")
    else:
        trust = replace(
            trust, appearance=known.spaces[0], content=known.spaces[1], familiar=known.limit,
            ranges=statistic_ranges(statistics), cell_floor=cell_floor(statistics),
        )  # fmt: skip
        strange = known.strangeness(rows, logits.argmax(axis=1))
        # What was never kept out is not known to be strange.
        by_content = np.nan_to_num(strange[1], nan=0.0)
        familiar = ~(strange.sum(axis=0) > known.limit)
        if not dataset.has_groups:
            notes.append(
                "Familiarity was set without known groups: how new slides differ could not be "
                "measured, so more of them will look unfamiliar than need be."
            )
    if len(rows) < FEWEST_TO_CALIBRATE:
        notes.append(
            f"Not calibrated: {len(rows)} held-out images, {FEWEST_TO_CALIBRATE} needed. "
            f"Give a larger validation part or `folds`."
        )
        return Fitted(trust, trust.softened(logits, by_content), tuple(notes))
    temperature, softening = fit_temperature(logits, labels[rows], by_content)
    trust = replace(trust, temperature=temperature, softening=softening)
    probabilities = trust.softened(logits, by_content)
    trust = replace(
        trust, thresholds=conformal_thresholds(probabilities, labels[rows], settings.coverage)
    )
    single = trust.sets(probabilities).sum(axis=1) == 1
    floor = confidence_floor(probabilities, labels[rows], single & familiar, settings.error)
    notes += _too_few(labels[rows], classes, settings.coverage)
    return Fitted(replace(trust, confidence=floor), probabilities, tuple(notes))


def _too_few(labels: Ints, classes: Sequence[str], coverage: float) -> list[str]:
    needed = examples_needed(coverage)
    counts = np.bincount(labels, minlength=len(classes))
    return [
        f"{name}: {count} held-out images, {needed} needed to promise {coverage:.0%} coverage; "
        f"it is in every prediction set instead."
        for name, count in zip(classes, counts, strict=True)
        if count < needed
    ]


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
    """Return for every image why nothing can be said of it by its cells; empty where it can."""

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
