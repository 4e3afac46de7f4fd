"""What makes a model trustworthy, fitted after training: calibration and OOD detection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from allkit.trust.calibration import (
    confidence_floor,
    conformal_thresholds,
    examples_needed,
    fit_temperature,
)
from allkit.trust.groups import ClassGroups
from allkit.trust.ood import (
    FittedSpaces,
    Part,
    Rows,
    SpaceInput,
    cell_floor,
    distances_without,
    fit_spaces,
    grouped_parts,
    statistic_ranges,
)
from allkit.trust.slides import LEAST, SlideLimits
from allkit.trust.space import signed_sqrt
from allkit.trust.unseen import (
    LeftOut,
    SlideEvidence,
    fit_slide_limits,
    limits_of_known_slides,
    notes_on_slides,
)
from allkit.trust.verdict import Trust
from allkit.types import Floats, Ints

__all__ = ["Fitted", "TrainingImages", "TrustSettings", "fit_trust"]


FEWEST_TO_CALIBRATE = 20
CONTENT_WIDTH = 32


@dataclass(frozen=True)
class TrustSettings:
    """`coverage` of the prediction sets; `familiar`: share of new images of known slides that
    should count as such; `error`: share of single answers that may be wrong; `slide_risk`: share of
    unseen slides on which wrong answers may be accepted."""

    coverage: float = 0.95
    familiar: float = 0.99
    error: float = 0.01
    slide_risk: float = 0.05


class TrainingImages(NamedTuple):
    """What is known of N training images.

    `labels` `(N,)` are positions in `classes`; `units` and `fields` `(N,)` number what was acquired
    together and what shows the same field; `grouped` says whether any group is known. `statistics`
    `(N, M)`, and `features` `(N, D)` as the finished model computes them, float32. `slides` `(N,)`
    number the slides, `None` where they are not known; `same_field` `(N,)` is as `fields`, but of
    images that show the same field only.
    """

    classes: tuple[str, ...]
    labels: Ints
    units: Ints
    fields: Ints
    grouped: bool
    statistics: Floats
    features: Floats
    slides: Ints | None = None
    same_field: Ints | None = None


class Fitted(NamedTuple):
    """What `fit_trust` gives: the trust, the probabilities `(n, K)` of the held-out images as they
    were measured (among references that do not hold their groups), and what could not be fitted."""

    trust: Trust
    probabilities: npt.NDArray[np.float32]
    notes: tuple[str, ...]


def fit_trust(
    images: TrainingImages,
    rows: Ints,
    logits: Floats,
    *,
    settings: TrustSettings,
    divisions: Sequence[Part],
    frozen: bool,
    groups: ClassGroups | None = None,
    left_out: Sequence[LeftOut] = (),
) -> Fitted:
    """Fit calibration and OOD detection, and say in words what could not be fitted and why.

    `logits` `(n, K)` are of the images at `rows` `(n,)`, which the model had not learnt from.
    `divisions` are the (learnt from, held out) positions of the training. With a `frozen` backbone
    the limits of OOD detection are measured over grouped folds of all images; otherwise only
    the held-out images are new to the features. Images without known groups stand alone. `groups` are
    those of the classes, and `left_out` the answers on slides that were left out (`allkit.trust.unseen`).
    """
    classes, labels, statistics = images.classes, images.labels, images.statistics
    notes: list[str] = []
    spaces = _spaces(images, divisions, frozen=frozen, familiar=settings.familiar)
    trust = Trust(classes, coverage=settings.coverage, groups=groups)
    by_content = np.zeros(len(rows))
    familiar = np.ones(len(rows), dtype=bool)
    if spaces is None:
        notes.append(
            "No out-of-distribution detection: too few images or groups to tell a known slide by."
        )
    else:
        appearance, content = spaces.spaces
        trust = replace(
            trust,
            appearance=appearance,
            content=content,
            familiar=spaces.limit,
            ranges=statistic_ranges(statistics),
            cell_floor=cell_floor(statistics),
        )
        scores = spaces.ood_scores(rows, logits.argmax(axis=1))
        # The score of what was never kept out is not known; it counts as usual.
        by_content = np.nan_to_num(scores[1], nan=0.0)
        familiar = ~(scores.sum(axis=0) > spaces.limit)
        if not images.grouped:
            notes.append(
                "Known slides were measured without known groups: how new slides differ is not "
                "known, so more of them will look unfamiliar than need be."
            )
    if groups is not None:
        slides = (
            None
            if not frozen
            else _slide_limits(
                images,
                spaces,
                groups,
                left_out,
                risk=settings.slide_risk,
                familiar=settings.familiar,
            )
        )
        notes += notes_on_slides(classes, groups, _slides_of_class(images), slides)
        trust = replace(trust, slides=slides)
    if len(rows) < FEWEST_TO_CALIBRATE:
        notes.append(
            f"Not calibrated: {len(rows)} held-out images, {FEWEST_TO_CALIBRATE} needed. "
            f"Give a larger validation part or `folds`."
        )
        return Fitted(trust, trust.probabilities_at(logits, by_content), tuple(notes))
    temperature, density_slope = fit_temperature(logits, labels[rows], by_content)
    trust = replace(trust, temperature=temperature, density_slope=density_slope)
    probabilities = trust.probabilities_at(logits, by_content)
    thresholds = conformal_thresholds(probabilities, labels[rows], settings.coverage)
    # Where nearly all answers are right, few sets would hold 95 % of the truths, and many would be empty.
    trust = replace(trust, thresholds=np.maximum(thresholds, 1 - LEAST))
    single = trust.sets(probabilities).sum(axis=1) == 1
    floor = confidence_floor(probabilities, labels[rows], single & familiar, settings.error)
    notes += _too_few(labels[rows], classes, settings.coverage)
    trust = replace(trust, confidence=floor)
    return Fitted(trust, probabilities, tuple(notes))


def _slide_limits(
    images: TrainingImages,
    spaces: FittedSpaces | None,
    groups: ClassGroups,
    left_out: Sequence[LeftOut],
    *,
    risk: float,
    familiar: float,
) -> SlideLimits | None:
    """Return the limits for unseen slides; `None` where known ones cannot be told from others.

    Where no slide could be left out they are infinite, and only known slides are recognised.
    """
    every = np.arange(len(images.labels), dtype=np.int64)
    classes = len(images.classes)
    if spaces is None or images.same_field is None:
        return None
    if images.slides is None:
        # Groups may be slides or parts of them: then how unlike known slides are is not known either.
        if images.grouped:
            return None
        return limits_of_known_slides(spaces.ood_scores(every, images.labels), None, groups, risk)
    known = _scores_on_known_slides(images, spaces, images.slides)
    if np.isfinite(known).all(axis=0).sum() < FEWEST_TO_CALIBRATE:
        # Each slide is one group, so fields of known slides are those that other fields are left of.
        alike = images._replace(fields=images.same_field)
        by_field = _spaces(alike, [], frozen=True, familiar=familiar)
        if by_field is None:
            return None
        known = _scores_on_known_slides(alike, by_field, images.slides)
        if np.isfinite(known).all(axis=0).sum() < FEWEST_TO_CALIBRATE:
            return None
    if not left_out:
        return limits_of_known_slides(known, _slides_of_class(images), groups, risk)
    appearance, scored = np.full(len(every), np.inf), []
    by_appearance, by_content = spaces.spaces
    for part in left_out:
        # In the spaces of the training without the slide, on the scale of those of all.
        answered = np.arange(len(part.rows)), part.logits.argmax(axis=1)
        distances = _distances_without(images, part.rows, "content")
        # Of a class that is left out whole there is nothing to be near to but the other classes.
        nearest_one = np.where(np.isinf(distances), distances.min(axis=1)[:, None], distances)
        scored.append(part._replace(content=by_content.ood_score(nearest_one[answered])))
        if len(part.slides) == 1:
            distances = _distances_without(images, part.rows, "appearance")
            nearest = distances.argmin(axis=1) == answered[1]
            scores = by_appearance.ood_score(distances[answered])
            appearance[part.rows] = np.where(nearest, scores, np.inf)
    evidence = SlideEvidence(
        labels=images.labels,
        slides=images.slides,
        fields=images.same_field,
        known_appearance=known[0],
        known_content=known[1],
        known_total=known.sum(axis=0),
        appearance=appearance,
    )
    return fit_slide_limits(evidence, classes, groups, scored, risk=risk)


def _spaces(
    images: TrainingImages, divisions: Sequence[Part], *, frozen: bool, familiar: float
) -> FittedSpaces | None:
    """Return the spaces of appearance and content; `None` when there are too few images."""
    labels = images.labels
    every = np.arange(len(labels), dtype=np.int64)
    folds = grouped_parts(labels, images.fields)
    by_appearance = SpaceInput(
        *_vectors(images, "appearance"),
        divisions=folds,
        references=every,
    )
    learnt = every if frozen else np.unique(np.concatenate([a for a, _ in divisions]))
    by_content = SpaceInput(
        *_vectors(images, "content"),
        divisions=folds if frozen else list(divisions),
        references=learnt,
    )
    return fit_spaces(
        [by_appearance, by_content],
        labels,
        images.units,
        classes=len(images.classes),
        familiar=familiar,
    )


def _vectors(images: TrainingImages, of: Literal["appearance", "content"]) -> tuple[Rows, int]:
    """Return what reads the vectors of a space by the positions of images, and its dimensions at most."""
    if of == "appearance":
        return (lambda rows: images.statistics[rows]), images.statistics.shape[1]
    return (lambda rows: signed_sqrt(np.asarray(images.features[rows]))), CONTENT_WIDTH


def _distances_without(
    images: TrainingImages, left_out: Ints, of: Literal["appearance", "content"]
) -> Floats:
    """Return the distances `(n, K)` of the images `left_out` `(n,)` in a space of the others."""
    read, width = _vectors(images, of)
    return distances_without(
        read, images.labels, images.units, left_out, classes=len(images.classes), width=width
    )


def _scores_on_known_slides(images: TrainingImages, spaces: FittedSpaces, slides: Ints) -> Floats:
    """Return the OOD scores `(S, N)` of images whose slide had other images among the references.

    NaN for the others: where the whole slide was kept out, the image was not one of a known slide.
    """
    every = np.arange(len(images.labels), dtype=np.int64)
    known = spaces.ood_scores(every, images.labels)
    for references, kept_out in grouped_parts(images.labels, images.fields):
        alone = ~np.isin(slides[kept_out], slides[references])
        known[:, kept_out[alone]] = np.nan
    known[~np.isfinite(known)] = np.nan
    return known


def _slides_of_class(images: TrainingImages) -> list[int] | None:
    """Return the number of slides of each class; `None` where slides are not known."""
    if images.slides is None:
        return None
    return [len(np.unique(images.slides[images.labels == k])) for k in range(len(images.classes))]


def _too_few(labels: Ints, classes: Sequence[str], coverage: float) -> list[str]:
    needed = examples_needed(coverage)
    counts = np.bincount(labels, minlength=len(classes))
    return [
        f"{name}: {count} held-out images, {needed} needed to promise {coverage:.0%} coverage; "
        f"it is in every prediction set instead."
        for name, count in zip(classes, counts, strict=True)
        if count < needed
    ]
