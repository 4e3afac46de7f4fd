"""Calibration: from logits of images that a model had not learnt from to probabilities to trust."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from allkit.trust.space import HIGHEST_SCORE
from allkit.types import Floats, Ints

__all__ = ["confidence_floor", "conformal_thresholds", "examples_needed", "fit_temperature"]


SURE = 0.9
"""Share of calibration sets for which the promised coverage shall hold."""


def fit_temperature(
    logits: Floats, labels: Ints, ood_scores: Floats | None = None
) -> tuple[float, float]:
    """Return temperature T and density slope b: softmax(logits / (T · exp(b · s))) loses least.

    Guo et al. 2017; that an image with the OOD score s ≥ 0 deserves a higher temperature, and b
    ≥ 0 says by how much, is density-aware calibration (Tomani et al. 2023). Without `ood_scores`
    `(N,)` b is 0. The true class is asked for (n + 1) / (n + 2) instead of 1, as in Platt 1999:
    where every one of n images is right, nothing else keeps T from falling to zero. `logits` is
    `(N, K)`, `labels` `(N,)`.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    count, classes = logits.shape
    wanted = np.full((count, classes), 1 / (count + 2) / (classes - 1))
    wanted[np.arange(count), labels] = (count + 1) / (count + 2)
    scores = np.zeros(count) if ood_scores is None else np.clip(ood_scores, 0, HIGHEST_SCORE)

    def loss(parameters: npt.NDArray[np.float64]) -> float:
        divisor = np.exp(parameters[0] + parameters[1] * scores)[:, None]
        log_p = log_softmax(logits.astype(np.float64) / divisor, axis=1)
        return float(-(wanted * log_p).sum(axis=1).mean())

    bounds = [(math.log(0.02), math.log(50)), (0.0, 1.0 if scores.any() else 0.0)]
    best = minimize(loss, np.zeros(2), bounds=bounds, method="L-BFGS-B")
    return float(math.exp(best.x[0])), float(best.x[1])


def examples_needed(coverage: float) -> int:
    """Return how many examples of a class a promise of `coverage` needs at least."""
    # A millionth, since 1 / (1 - 0.95) is 20 but for the last bit.
    return math.ceil(coverage / (1 - coverage) - 1e-6)


def conformal_thresholds(probabilities: Floats, labels: Ints, coverage: float) -> Floats:
    """Return for each class the largest 1 − p of its true class that still is in the set, `(K,)`.

    Split conformal prediction, class by class (Vovk 2012; Sadinle, Lei & Wasserman 2019): for
    new images of that class, exchangeable with these, the set holds it with probability
    `coverage` at least. That promise is a mean over calibration sets; where there are examples
    enough, the threshold is raised until nine of ten calibration sets keep it (the coverage of
    the k-th of n scores is Beta(k, n + 1 − k)). Infinite for a class with fewer than
    `examples_needed` images: it is in every set, since nothing can be promised by leaving it out.
    """
    from scipy.stats import beta

    scores = 1 - probabilities[np.arange(len(labels)), labels].astype(np.float64)
    thresholds = np.full(probabilities.shape[1], np.inf)
    for index in range(len(thresholds)):
        scores_of_class = np.sort(scores[labels == index])
        count = len(scores_of_class)
        if count < examples_needed(coverage):
            continue
        ranks = np.arange(1, count + 1)
        sure = beta.sf(coverage, ranks, count + 1 - ranks) >= SURE
        on_average = math.ceil((count + 1) * coverage - 1e-9)
        rank = int(ranks[sure][0]) if sure.any() else count
        thresholds[index] = scores_of_class[max(rank, on_average) - 1]
    return thresholds


def confidence_floor(
    probabilities: Floats, labels: Ints, single: npt.NDArray[np.bool_], error: float
) -> float:
    """Return the lowest confidence above which single answers are wrong in at most `error`.

    `single` `(N,)` says which images have a set of one class. Never below one half: an answer
    that is more likely wrong than right is for review.
    """
    confidence = probabilities.max(axis=1)
    wrong = probabilities.argmax(axis=1) != labels
    order = np.flatnonzero(single)[np.argsort(-confidence[single], kind="stable")]
    if not len(order):
        return 0.5
    rate = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(rate <= error)
    if not len(good):
        return 1.0
    return max(0.5, float(confidence[order[good[-1]]]))
