"""What a laboratory's images change about out-of-distribution detection and calibration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from allkit.trust.calibration import (
    confidence_floor,
    conformal_thresholds,
    examples_needed,
    fit_temperature,
)
from allkit.trust.fit import FEWEST_TO_CALIBRATE, TrustSettings
from allkit.trust.ood import MOST_REFERENCES
from allkit.trust.space import Space
from allkit.trust.unseen import raised
from allkit.trust.verdict import Trust
from allkit.types import Floats, Ints

__all__ = ["recalibrate", "with_known_slides", "with_seen_images", "with_stricter_limits"]


def with_known_slides(trust: Trust, statistics: Floats, roots: Floats, labels: Ints) -> Trust:
    """Return `trust` with labelled images `(N, …)` added to the familiar slides of their class.

    The spaces and the limits stay as they were measured on the training.
    """
    return replace(
        trust,
        appearance=_with_references(trust.appearance, statistics, labels),
        content=_with_references(trust.content, roots, labels),
    )


def _with_references(space: Space | None, vectors: Floats, labels: Ints) -> Space | None:
    if space is None:
        return None
    rows = _few(len(vectors))
    return replace(
        space,
        references=np.concatenate([space.references, _into(space, vectors[rows])]),
        owners=np.concatenate([space.owners, labels[rows]]),
    )


def with_seen_images(trust: Trust, statistics: Floats, roots: Floats) -> Trust:
    """Return `trust` with images `(N, …)` without labels, known as smears but not as familiar slides."""

    def shown(space: Space | None, vectors: Floats) -> Space | None:
        if space is None:
            return None
        new = _into(space, vectors[_few(len(vectors))])
        return replace(space, seen=np.concatenate([space.seen, new]) if len(space.seen) else new)

    return replace(
        trust, appearance=shown(trust.appearance, statistics), content=shown(trust.content, roots)
    )


def _into(space: Space, vectors: Floats) -> npt.NDArray[np.float32]:
    points: npt.NDArray[np.float32] = ((vectors - space.mean) @ space.projection).astype(np.float32)
    return points


def _few(count: int) -> Ints:
    """Return positions of at most `MOST_REFERENCES` of `count` images, at equal distances."""
    return np.arange(0, count, max(1, -(-count // MOST_REFERENCES)), dtype=np.int64)


def with_stricter_limits(trust: Trust, logits: Floats, labels: Ints) -> Trust:
    """Return `trust` with limits for unseen slides that held-out fields of the laboratory need as well.

    The head has moved, so the limits of the training may be too low for it; they are never lowered,
    since fields of one laboratory say nothing of the slides of others.
    """
    if trust.slides is None or trust.groups is None or not len(labels):
        return trust
    evidence = trust.groups.log_odds(logits)
    group = np.array(trust.groups.of_class)[labels]
    return replace(trust, slides=raised(trust.slides, evidence, group))


def recalibrate(
    trust: Trust,
    logits: Floats,
    labels: Ints,
    *,
    by_content: Floats,
    familiar: npt.NDArray[np.bool_],
) -> tuple[Trust, list[str]]:
    """Return `trust` calibrated on held-out fields of the laboratory, and notes on what did not change.

    `logits` `(n, K)` are of heads that were adapted without these fields; `by_content` `(n,)` is
    their OOD score by the features, and `familiar` `(n,)` says which count as familiar slides, both
    measured without references of their own groups. With too few fields of a class the old
    calibration stays, and answers need a higher probability than before to be accepted.
    """
    trust = with_stricter_limits(trust, logits, labels)
    if not trust.calibrated or trust.thresholds is None:
        return trust, ["The model is not calibrated, and stays so: train it with more images."]
    if len(labels) < FEWEST_TO_CALIBRATE:
        return trust, [
            f"The calibration stays: {len(labels)} fields could be held out, "
            f"{FEWEST_TO_CALIBRATE} are needed."
        ]
    needed = examples_needed(trust.coverage)
    counts = np.bincount(labels, minlength=len(trust.classes))
    present = counts > 0
    notes = []
    if (counts[present] >= needed).all() and present.all():
        temperature, density_slope = fit_temperature(logits, labels, by_content)
        trust = replace(trust, temperature=temperature, density_slope=density_slope)
        probabilities = trust.probabilities_at(logits, by_content)
        fresh = conformal_thresholds(probabilities, labels, trust.coverage)
        trust = replace(trust, thresholds=fresh)
    else:
        short = ", ".join(
            f"{name} {count}"
            for name, count in zip(trust.classes, counts, strict=True)
            if count < needed
        )
        notes.append(
            f"Temperature and prediction sets stay: {needed} held-out fields of every class "
            f"are needed to promise {trust.coverage:.0%} coverage ({short})."
        )
        probabilities = trust.probabilities_at(logits, by_content)
    single = trust.sets(probabilities).sum(axis=1) == 1
    floor = confidence_floor(probabilities, labels, single & familiar, TrustSettings().error)
    return replace(trust, confidence=max(trust.confidence, floor)), notes
