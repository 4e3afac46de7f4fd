"""The group of classes of several fields of one slide: the coarse answer, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from allkit.records import Prediction, Verdict
from allkit.trust.groups import ClassGroups
from allkit.trust.reasons import (
    FIELDS_DISAGREE,
    GROUP_UNCERTAIN,
    NOT_CALIBRATED_FOR_SLIDES,
    SUBTYPE_UNKNOWN,
    UNLIKE_TRAINING,
    UNUSUAL,
    texts_of,
)
from allkit.trust.verdict import Trust
from allkit.types import Doubles

__all__ = ["CoarseAnswer", "FineAnswer", "answer_coarsely", "coarse_by_class", "with_coarse"]

Reasons = Sequence[tuple[str, str]]
"""Reasons as (text, code)."""

OF_ONE_FIELD = (GROUP_UNCERTAIN, SUBTYPE_UNKNOWN, NOT_CALIBRATED_FOR_SLIDES)
"""What is said of a field about its group; of several fields together it is said anew."""


class FineAnswer(NamedTuple):
    """The class of several fields: probabilities `(K,)`, the names of the classes, the verdict by the
    fields alone, and the reasons against accepting it."""

    probabilities: Doubles
    classes: Sequence[str]
    verdict: Verdict
    reasons: Reasons


class CoarseAnswer(NamedTuple):
    """The group of classes of several fields, with its probability and verdict.

    `members` are its classes. `fields_needed` says how many more fields would settle it, 0 where it
    is settled and `None` where that is not known. `code` is the reason against accepting it, if any.
    """

    group: str
    members: tuple[str, ...]
    probability: float
    verdict: Verdict
    fields_needed: int | None = None
    code: str | None = None


def answer_coarsely(
    fields: Sequence[Prediction], fine: FineAnswer, trust: Trust
) -> CoarseAnswer | None:
    """Return the coarse answer of a slide from the answers for its fields, of which none is refused.

    It is accepted where the mean evidence of the fields exceeds what slides that were left out of the
    training needed, or where `fine` is accepted by the fields alone and lies in that group: then the
    slide is a known one. The same picture counts once, however often it was given. Where the fields are
    unlike the training, on average or most of them, or most are out of focus, nothing is accepted.
    `None` where the classes are in no groups.
    """
    groups = trust.groups
    if groups is None or any(set(p.coarse_evidence) != set(groups.names) for p in fields):
        return None

    if trust.slides is None:
        return coarse_by_class(fine, trust, NOT_CALIBRATED_FOR_SLIDES)
    by_class = groups.probabilities(fine.probabilities[None])[0]
    evidence, scores = _of_each_picture(fields, groups)
    slide = trust.slides.slide(evidence, scores)
    uncertain = _for_review(trust.classes, groups, slide.group)._replace(
        probability=slide.probability
    )
    if len({p.coarse for p in fields if p.coarse_verdict == "accepted"}) > 1:
        return uncertain._replace(code=FIELDS_DISAGREE)
    near = scores <= trust.slides.content.max()
    if 2 * near.sum() < len(near) or not scores.mean() <= trust.slides.content.max():
        return uncertain._replace(code=UNLIKE_TRAINING)
    blurred = sum(UNUSUAL["sharpness"] in p.reason_codes for p in fields)
    if 2 * blurred > len(fields):
        return uncertain._replace(code=UNUSUAL["sharpness"])
    accepted = uncertain._replace(verdict="accepted", fields_needed=0, code=None)
    alike = groups.of_class[int(fine.probabilities.argmax())] == slide.group
    if alike and fine.verdict == "accepted":
        return accepted._replace(probability=max(slide.probability, float(by_class[slide.group])))
    # A head that followed a stain without labels accepts no more than the fields did before.
    if alike and slide.accepted and trust.calibrated and trust.offset is None:
        return accepted
    return uncertain._replace(fields_needed=slide.fields_needed or None)


def coarse_by_class(fine: FineAnswer, trust: Trust, code: str) -> CoarseAnswer | None:
    """Return the group with the most probable classes, for review; `None` without groups.

    It rests on nothing that was measured of several fields; `code` says why.
    """
    if trust.groups is None:
        return None
    by_class = trust.groups.probabilities(fine.probabilities[None])[0]
    best = int(by_class.argmax())
    answer = _for_review(trust.classes, trust.groups, best)
    return answer._replace(probability=float(by_class[best]), code=code)


def _of_each_picture(fields: Sequence[Prediction], groups: ClassGroups) -> tuple[Doubles, Doubles]:
    """Return the evidence `(n, G)` and the OOD scores `(n,)` of n pictures that differ.

    Two answers with the same numbers, but for the last digits, are of the same pixels.
    """
    pictures: dict[tuple[float, ...], tuple[float, ...]] = {}
    for p in fields:
        score = np.inf if p.ood_score is None else p.ood_score
        row = (*(p.coarse_evidence[name] for name in groups.names), score)
        pictures.setdefault(tuple(np.round([*row, *p.probabilities.values()], 4)), row)
    table = np.array(list(pictures.values()))
    return table[:, :-1], table[:, -1]


def _for_review(classes: Sequence[str], groups: ClassGroups, group: int) -> CoarseAnswer:
    """Return an answer for review with the group at a position, whose probability is not yet known."""
    members = [name for name, of in zip(classes, groups.of_class, strict=True) if of == group]
    return CoarseAnswer(groups.names[group], tuple(members), 0.0, "review", code=GROUP_UNCERTAIN)


def with_coarse(fine: FineAnswer, coarse: CoarseAnswer) -> FineAnswer:
    """Return the fine answer as it may stand beside the coarse one.

    Within an accepted group of a single class that class is accepted, with the probability of the
    group. Within one of several classes it is accepted if the fields accept it, and in no other.
    """
    if coarse.code == NOT_CALIBRATED_FOR_SLIDES:
        # Of models without limits for slides: their verdict stays.
        return fine._replace(reasons=_with_first((), fine.reasons, (coarse.code,)))
    if coarse.verdict != "accepted":
        codes = () if coarse.code is None else (coarse.code,)
        return fine._replace(verdict="review", reasons=_with_first(codes, fine.reasons))
    if fine.verdict == "accepted":
        return fine
    if len(coarse.members) > 1:
        return fine._replace(reasons=_with_first((SUBTYPE_UNKNOWN,), fine.reasons))
    position = list(fine.classes).index(coarse.members[0])
    others = fine.probabilities.copy()
    others[position] = 0.0
    probabilities = others / max(float(others.sum()), 1e-12) * (1 - coarse.probability)
    probabilities[position] = coarse.probability
    return FineAnswer(probabilities, fine.classes, "accepted", ())


def _with_first(
    first: Sequence[str], reasons: Reasons, last: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """Return reasons between further ones by code, each once, and none of a field about its group."""
    between = [(text, code) for text, code in reasons if code not in (*OF_ONE_FIELD, *first)]
    before, after = (list(zip(texts_of(codes), codes, strict=True)) for codes in (first, last))
    return [*before, *between, *after]
