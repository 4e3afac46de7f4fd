"""Fits the limits for unseen slides, from answers on slides that were left out of the training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from allkit.trust.groups import ClassGroups
from allkit.trust.slides import (
    LEAST,
    SIZES,
    Limit,
    SlideLimits,
    bound,
    cooled,
    least_evidence,
    limit_of_slides,
)
from allkit.trust.softmax import softmax
from allkit.types import Doubles, Floats, Ints

__all__ = [
    "LeftOut",
    "SlideEvidence",
    "fit_slide_limits",
    "limits_of_known_slides",
    "notes_on_slides",
    "raised",
    "slides_to_leave_out",
]

FIELD_ERROR = 0.005
"""Share of a slide's fields that a limit may let pass with a wrong answer: it is a quantile."""
SLIDE_ERROR = 0.01
"""Share of a slide's fields above which it counts as a slide on which wrong answers were accepted."""
FEWEST_SLIDES = 2
"""Slides of other groups that have to be left out before a group may be accepted on unseen slides."""
MARGIN = 0.1
"""Share of itself by which the strictest limit is raised where slides are too few for a promise."""
MOST_PAIRS = 60
"""Pairs of slides at most: with many slides one at a time says enough."""
DRAWS = 300
"""Random draws of so many fields of a slide that was left out."""
KNOWN = (0.965, 0.985)
"""Shares of the fields of known slides that are to be recognised, at least and at most."""
CONTENT_OF_ONE, CONTENT_OF_SEVERAL = (0.965, 1.0), (0.99, 1.2)
"""The OOD score by content up to which a group may be answered: what this share of the fields of known
slides keep, times a factor. For a group of one class, and for one of several, which may have a subtype
that was not seen and so is farther from those that were."""
KNOWN_IN_ALL = 0.95
"""Share of the fields of known slides that are recognised by both scores together."""


class LeftOut(NamedTuple):
    """Logits `(n, K)` for the images `rows` `(n,)` of `slides`, by a head that learnt without these.

    `content` `(n,)` are their OOD scores by content among the other images, of the class that was
    answered; `fit_trust` finds them.
    """

    slides: tuple[int, ...]
    rows: Ints
    logits: Floats
    content: Floats = np.zeros(0)


class SlideEvidence(NamedTuple):
    """What is known of N training images for the limits.

    `labels`, `slides` and `fields` `(N,)` number classes, slides and what shows the same field.
    `known_appearance`, `known_content` and `known_total` `(N,)` are OOD scores of each image among the
    others of known slides, by appearance, by content and in all, NaN where they are not known.
    `appearance` `(N,)` is that of an image when its slide was left out, infinite where the class that
    was answered is not the nearest.
    """

    labels: Ints
    slides: Ints
    fields: Ints
    known_appearance: Floats
    known_content: Floats
    known_total: Floats
    appearance: Floats


def slides_to_leave_out(group_of: Mapping[int, int]) -> list[tuple[int, ...]]:
    """Return each slide, and each pair of slides of two groups unless there are more than `MOST_PAIRS`.

    `group_of` says of which group of classes each slide is.
    """
    alone: list[tuple[int, ...]] = [(slide,) for slide in group_of]
    pairs = [(a, b) for a, b in itertools.combinations(group_of, 2) if group_of[a] != group_of[b]]
    return alone if len(pairs) > MOST_PAIRS else [*alone, *pairs]


def fit_slide_limits(
    images: SlideEvidence,
    classes: int,
    groups: ClassGroups,
    left_out: Sequence[LeftOut],
    *,
    risk: float,
    seed: int = 0,
) -> SlideLimits:
    """Return the limits, from what slides that were left out alone or in pairs need.

    `risk` is the share of unseen slides on which more than `FIELD_ERROR` of the fields may be accepted
    wrongly. Each slide counts once, with the strictest limit that it needs in any of its trainings.
    """
    of_class = np.array(groups.of_class)
    needs = _Needs(len(groups))
    rng = np.random.default_rng(seed)
    content = _content_limits(images.known_content, groups)
    alone: dict[int, _Alone] = {}
    for part in left_out:
        by_group = groups.log_odds(part.logits)
        table = np.column_stack([by_group, part.content])
        for slide in part.slides:
            rows = np.flatnonzero(images.slides[part.rows] == slide)
            group = int(of_class[images.labels[part.rows[rows[0]]]])
            if len(part.slides) == 1:
                alone[slide] = _Alone(by_group[rows], part.content[rows], group)
            clusters = images.fields[part.rows[rows]]
            means = [_means(table[rows], clusters, size, rng) for size in SIZES[1:]]
            for wrong in range(len(groups)):
                if wrong == group:
                    continue
                # What is too unlike the training to be answered so needs no evidence against it.
                near = part.content[rows] <= content[wrong]
                needs.add(0, wrong, slide, _quantile(np.where(near, by_group[rows, wrong], 0.0)))
                for size, of_size in enumerate(means, start=1):
                    near = of_size[:, -1] <= content[wrong]
                    needs.add(size, wrong, slide, float(of_size[near, wrong].max(initial=0.0)))
    temperatures = _temperatures([(part.evidence, part.group) for part in alone.values()])
    # Nothing is accepted at a probability that is a guess, however easy the slides were.
    needs.least = least_evidence(temperatures)
    # A class that no slide left out had may look like anything: nothing says what it needs.
    left_out_classes = images.labels[[part.rows[0] for part in left_out if len(part.slides) == 1]]
    missing = of_class[np.setdiff1d(np.arange(classes), left_out_classes)]
    unbounded = [bool((missing != group).any()) for group in range(len(groups))]
    limits = [
        [
            Limit(math.inf, True) if no else needs.limit(size, g, risk)
            for g, no in enumerate(unbounded)
        ]
        for size in range(len(SIZES))
    ]
    slides_of = [len(np.unique(images.slides[images.labels == k])) for k in range(classes)]
    counts, tested, wrong_slides = np.zeros((3, len(groups)))
    for slide, answered in alone.items():
        counts[answered.group] += 1
        if needs.none_without(slide, answered.group, risk):
            continue
        tested[answered.group] += 1
        wrong_slides[answered.group] += (
            needs.wrong_share(slide, answered, content, risk=risk) > SLIDE_ERROR
        )
    return SlideLimits(
        of_group=np.array([limit for limit, _ in limits[0]]),
        # More fields never need more evidence.
        of_fields=np.minimum.accumulate([[limit for limit, _ in row] for row in limits], axis=0),
        temperatures=temperatures,
        appearance=_recognised(images, left_out),
        content=content,
        total=_quantile_of(images.known_total, KNOWN_IN_ALL),
        counts=counts,
        tested=tested,
        wrong=wrong_slides,
        one_slide=_one_slide(slides_of),
        risk=risk,
        margin=MARGIN,
        empirical=any(empirical for _, empirical in limits[0]),
    )


def limits_of_known_slides(
    known: Floats, slides_of_class: Sequence[int] | None, groups: ClassGroups, risk: float
) -> SlideLimits:
    """Return the limits where no slide was left out: infinite, but known slides are recognised.

    `known` `(2, N)` are OOD scores of known fields by appearance and content, NaN where unknown.
    `slides_of_class` `(K,)` are the numbers of slides of each class, `None` where slides are unknown.
    """
    count = len(groups)
    return SlideLimits(
        of_group=np.full(count, np.inf),
        of_fields=np.full((len(SIZES), count), np.inf),
        temperatures=np.ones(len(SIZES)),
        appearance=_quantile_of(known[0], KNOWN[1]),
        content=_content_limits(known[1], groups),
        total=_quantile_of(known.sum(axis=0), KNOWN_IN_ALL),
        counts=np.zeros(count),
        tested=np.zeros(count),
        wrong=np.zeros(count),
        one_slide=_one_slide(slides_of_class or [0] * len(groups.of_class)),
        risk=risk,
        margin=MARGIN,
    )


def _one_slide(slides_of_class: Sequence[int]) -> Doubles:
    """Return 1 for each class `(K,)` that was seen on one slide only, else 0."""
    return np.array([count == 1 for count in slides_of_class], dtype=np.float64)


def _content_limits(known: Floats, groups: ClassGroups) -> Doubles:
    """Return the OOD scores by content `(G,)` up to which each group may be answered."""
    kinds = [CONTENT_OF_ONE if single else CONTENT_OF_SEVERAL for single in groups.single]
    return np.array([factor * _quantile_of(known, share) for share, factor in kinds])


def _quantile_of(scores: Floats, share: float) -> float:
    """Return a quantile of the scores that are known; infinite where none is."""
    finite = scores[np.isfinite(scores)]
    return float(np.quantile(finite, share)) if len(finite) else math.inf


def raised(limits: SlideLimits, evidence: Floats, group: Ints) -> SlideLimits:
    """Return limits at which fields with `evidence` `(n, G)`, of the groups `(n,)`, are not wrong either.

    As for a slide that was left out; limits for means over more fields rise by the same factor.
    """
    of_group = limits.of_group.copy()
    for wrong in range(len(of_group)):
        others = evidence[group != wrong, wrong]
        if len(others):
            of_group[wrong] = max(of_group[wrong], _quantile(others) * (1 + limits.margin))
    finite = np.isfinite(limits.of_group)
    factor = np.ones(len(of_group))
    factor[finite] = of_group[finite] / limits.of_group[finite]
    return replace(limits, of_group=of_group, of_fields=limits.of_fields * factor)


def notes_on_slides(
    classes: Sequence[str],
    groups: ClassGroups,
    slides_of_class: Sequence[int] | None,
    limits: SlideLimits | None,
) -> list[str]:
    """Return what can and cannot be said of unseen slides, in sentences.

    `slides_of_class` `(K,)` are the numbers of slides of each class, `None` where slides are unknown.
    """
    if slides_of_class is None:
        return [
            f"Unseen slides: the slides of the training images are not known, or not all of them, so it "
            f"cannot be measured how the model does on others. Only fields that look like those it learnt "
            f"from are accepted as {' or '.join(groups.names)}. Give a column `slide`, or `--slide REGEX`."
        ]
    one = [name for name, count in zip(classes, slides_of_class, strict=True) if count == 1]
    notes = []
    if one:
        notes.append(
            f"{', '.join(one)}: seen on one slide only. How the class looks on another slide is not known, "
            f"and no figure here says it."
        )
    if limits is None or not limits.counts.any():
        few = [
            name
            for name, members in zip(groups.names, groups.members, strict=True)
            if sum(n for n, inside in zip(slides_of_class, members, strict=True) if inside) < 2
        ]
        why = " and ".join(f"{name} has one slide" for name in few) or "no slide could be left out"
        notes.append(
            f"Unseen slides: {why}, so no limits could be chosen, and {' or '.join(groups.names)} is not "
            f"accepted on a slide that is not known. Each group of classes needs two slides."
        )
        return notes
    total, wrong = int(limits.tested.sum()), int(limits.wrong.sum())
    parts = [
        f"{name}: {int(w)} of {int(n)}, up to {bound(int(w), int(n)):.0%}"
        for name, n, w in zip(groups.names, limits.tested, limits.wrong, strict=True)
    ]
    if total:
        notes.append(
            f"Unseen slides: wrong answers accepted, in over {SLIDE_ERROR:.0%} of the fields, on {wrong} "
            f"of {total} slides, each left out of the training and of the choice of limits; up to "
            f"{bound(wrong, total):.0%} of slides possible (exact, 95 %). By group: {'; '.join(parts)}."
        )
    untested = int(limits.counts.sum()) - total
    if untested:
        notes.append(
            f"Unseen slides: for {untested} of {int(limits.counts.sum())} slides that were left out the "
            f"others were too few to choose limits without them, so nothing is measured on them."
        )
    if limits.empirical:
        fewest = int(limits.counts.min())
        notes.append(
            f"A risk of {limits.risk:.0%} of unseen slides cannot be guaranteed with {fewest} slides of a "
            f"group ({int(np.ceil(1 / limits.risk)) - 1} are needed): the limits are empirical, the "
            f"strictest that any slide needed and {limits.margin:.0%} more."
        )
    unlimited = [
        n for n, limit in zip(groups.names, limits.of_group, strict=True) if np.isinf(limit)
    ]
    if unlimited:
        notes.append(
            f"{' and '.join(unlimited)} cannot be accepted on unseen slides: fewer than {FEWEST_SLIDES} "
            f"slides of other groups, or none of one of their classes, could be left out to choose a limit."
        )
    return notes


class _Alone(NamedTuple):
    """The evidence `(n, G)` and OOD scores by content `(n,)` of a slide that was left out alone, and
    its group."""

    evidence: Floats
    content: Floats
    group: int


class _Needs:
    """The limits that slides need: for each number of fields, group and slide the strictest one."""

    def __init__(self, groups: int) -> None:
        self.groups = groups
        self.least: Floats = np.zeros(len(SIZES))
        self.values: dict[tuple[int, int], dict[int, float]] = {}

    def add(self, size: int, wrong: int, slide: int, need: float) -> None:
        """Record that `slide` needs a limit of `need` against the wrong group `wrong`.

        `size` is the position in `SIZES` of the number of fields.
        """
        slides = self.values.setdefault((size, wrong), {})
        slides[slide] = max(slides.get(slide, -np.inf), need)

    def limit(self, size: int, wrong: int, risk: float, without: int | None = None) -> Limit:
        """Return the limit, and whether it is empirical."""
        slides = self.values.get((size, wrong), {})
        needs = [need for slide, need in slides.items() if slide != without]
        if len(needs) < FEWEST_SLIDES:
            return Limit(math.inf, True)
        limit, empirical = limit_of_slides(np.array(needs), risk, MARGIN)
        return Limit(max(limit, float(self.least[size])), empirical)

    def none_without(self, slide: int, group: int, risk: float) -> bool:
        """Return whether the other slides are too few to choose any limit against which this one, of
        `group`, could be answered wrongly."""
        others = [g for g in range(self.groups) if g != group]
        return all(math.isinf(self.limit(0, g, risk, without=slide)[0]) for g in others)

    def wrong_share(self, slide: int, fields: _Alone, content: Floats, *, risk: float) -> float:
        """Return the share of a slide's fields that limits chosen without it accept wrongly."""
        beyond = [
            (fields.evidence[:, g] > self.limit(0, g, risk, without=slide)[0])
            & (fields.content <= content[g])
            for g in range(self.groups)
            if g != fields.group
        ]
        return float(np.any(beyond, axis=0).mean())


def _quantile(values: Floats) -> float:
    """Return the smallest value that at most `FIELD_ERROR` of `values` exceed."""
    return float(np.quantile(values, 1 - FIELD_ERROR, method="higher"))


def _means(table: Floats, clusters: Ints, size: int, rng: np.random.Generator) -> Doubles:
    """Return means `(D, C)` of a table `(n, C)` over draws of `size` fields, one of each cluster.

    Draws are random, without replacement, and all runs of consecutive fields. With fewer clusters all
    of them are taken.
    """
    _, first, owner, sizes = np.unique(
        clusters, return_index=True, return_inverse=True, return_counts=True
    )
    count, size = len(first), min(size, len(first))
    by_cluster = np.argsort(owner, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    draws = DRAWS if size < count else 1
    chosen = np.argsort(rng.random((draws, count)), axis=1)[:, :size]
    member = starts[chosen] + (rng.random((draws, size)) * sizes[chosen]).astype(np.int64)
    random = table[by_cluster[member]].mean(axis=1)
    # Runs of consecutive fields: the first of each cluster, in the order of the images.
    one = table[np.sort(first)].astype(np.float64)
    sums = np.concatenate([np.zeros((1, one.shape[1])), np.cumsum(one, axis=0)])
    runs = (sums[size:] - sums[:-size]) / size
    return np.concatenate([random, runs])


def _temperatures(alone: Sequence[tuple[Floats, int]]) -> Doubles:
    """Return the temperature of the evidence of a field, and those of the mean over more fields.

    Each slide counts alike.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    def loss(log_temperature: float) -> float:
        total = 0.0
        for evidence, group in alone:
            scale = np.exp(log_temperature) * (2 if evidence.shape[1] == 2 else 1)
            total -= float(log_softmax(evidence / scale, axis=1)[:, group].mean())
        return total

    best = minimize_scalar(loss, bounds=(np.log(0.05), np.log(50.0)), method="bounded")
    return cooled(float(np.exp(best.x)))


def _recognised(images: SlideEvidence, left_out: Sequence[LeftOut]) -> float:
    """Return the OOD score by appearance up to which a field counts as one of a known slide.

    The strictest that a slide needs, so that not more than `FIELD_ERROR` of its fields are taken for
    ones of a known slide and named wrongly; but the shares `KNOWN` of known fields stay recognised.
    """
    known = images.known_appearance[np.isfinite(images.known_appearance)]
    low, high = (float(np.quantile(known, share)) for share in KNOWN)
    limit = high
    for part in left_out:
        if len(part.slides) > 1:
            continue
        wrong = part.logits.argmax(axis=1) != images.labels[part.rows]
        sure = softmax(part.logits.astype(np.float64)).max(axis=1) > LEAST
        scores = np.sort(images.appearance[part.rows[wrong & sure]])
        allowed = int(FIELD_ERROR * len(part.rows))
        if len(scores) > allowed and np.isfinite(scores[allowed]):
            limit = min(limit, float(scores[allowed]) - 1e-6)
    return max(limit, low)
