"""Limits for unseen slides, for a model that has none, from labelled slides of a laboratory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from allkit.adaptation.fields import LabFields
from allkit.adaptation.held_out import choose_strength
from allkit.adaptation.refit import UNCHANGED, anchors_of, fit_change, head_inputs, head_logits
from allkit.adaptation.trust import with_known_slides
from allkit.data.relations import fields_of
from allkit.evaluation.site_key import HiddenGroups
from allkit.images.same_field import match, unpack
from allkit.model.classifier import Classifier
from allkit.trust.fit import FEWEST_TO_CALIBRATE
from allkit.trust.groups import ClassGroups
from allkit.trust.ood import grouped_parts
from allkit.trust.slides import SlideLimits, cooled, least_evidence
from allkit.trust.unseen import (
    LeftOut,
    SlideEvidence,
    fit_slide_limits,
    notes_on_slides,
    slides_to_leave_out,
)
from allkit.trust.verdict import Trust
from allkit.types import Floats, Ints

__all__ = ["FittedLimits", "fit_limits"]

FEWEST_FIELDS = 4
"""Fields of a slide, so that to leave it out says something of it."""
FEWEST_SLIDES = 2
"""Slides of each group of classes, so that one can be left out while another is learnt from."""


class FittedLimits(NamedTuple):
    """The limits, `None` where none could be fitted, and what cannot be promised, in sentences."""

    limits: SlideLimits | None
    notes: tuple[str, ...]


def fit_limits(
    model: Classifier, lab: LabFields, *, strength: str | None, chosen: str
) -> FittedLimits:
    """Fit limits for a `model` without any: each slide of `lab` is left out of the adapting in turn.

    The head is adapted again without each slide, and without each pair of slides of two groups, as it
    was with all of them: `strength` is the one that was asked for, `chosen` the one that was taken.
    Slides that were trained on, and slides of several classes, are not left out. Recognised as known
    is nothing that was unfamiliar to the model before.
    """
    trust, groups = model.trust, model.trust.groups
    if groups is None:
        return FittedLimits(None, ())
    if not lab.data.has_slides:
        return FittedLimits(
            None,
            (
                f"Unseen slides: the slides of these fields are not known, or not all of them, so it cannot "
                f"be measured how the model does on others; {' or '.join(groups.names)} stays for review. "
                f"Give a column `slide`, or `--slide REGEX`.",
            ),
        )
    group_of, remarks = _usable_slides(model, lab, groups)
    why = _too_few_slides(groups, list(group_of.values()))
    if not why and (trust.appearance is None or trust.content is None):
        why = "the model has no out-of-distribution detection to recognise a slide by"
    if why:
        return FittedLimits(None, (*remarks, _no_limits(groups, why)))
    same_field = _fields_alone(lab)
    known = _scores_on_known_slides(trust, lab, same_field)
    left_out, appearance = _answers_without(model, lab, group_of, strength=strength, chosen=chosen)
    alone = [part.slides[0] for part in left_out if len(part.slides) == 1]
    why = _too_few_slides(groups, [group_of[slide] for slide in alone])
    if why:
        why += " that shares no case, group or field with the others"
        return FittedLimits(None, (*remarks, _no_limits(groups, why)))
    appearance_known, content_known, total_known = _with_training(model, known)
    evidence = SlideEvidence(
        labels=lab.labels,
        slides=lab.data.slides,
        fields=same_field,
        known_appearance=appearance_known,
        known_content=content_known,
        known_total=total_known,
        appearance=appearance,
    )
    classes = model.classes
    risk = model.info.config.slide_risk
    limits = fit_slide_limits(evidence, len(classes), groups, left_out, risk=risk)
    limits = _no_surer_than(limits, trust)
    fields = int(np.isin(lab.data.slides, list(group_of)).sum())
    several = [FEWEST_SLIDES] * len(classes)
    seen = {int(lab.labels[lab.data.slides == slide][0]) for slide in group_of}
    never = [name for index, name in enumerate(classes) if index not in seen]
    if never:
        remarks.append(
            f"Unseen slides: no slide of {', '.join(never)} was left out, so the limits do not say what "
            f"fields of {'this class' if len(never) == 1 else 'these classes'} need."
        )
    notes = (
        *remarks,
        *notes_on_slides(classes, groups, several, limits),
        f"Unseen slides: these limits rest on {fields} fields of {len(group_of)} slides of one laboratory. "
        f"What slides of another laboratory need is not known.",
    )
    return FittedLimits(limits, notes)


def _no_surer_than(limits: SlideLimits, trust: Trust) -> SlideLimits:
    """Return limits by which nothing is surer, or more like known slides, than by `trust`.

    A few fields that are all right would make the smallest temperature fit best, and any answer sure.
    On an unseen slide an answer is no surer than the calibration makes it on a known one.
    """
    least = cooled(trust.temperature or 1.0)
    temperatures = np.maximum(limits.temperatures, least)
    of_fields = np.maximum(limits.of_fields, least_evidence(temperatures)[:, None])
    return replace(
        limits,
        of_group=of_fields[0],
        of_fields=of_fields,
        temperatures=temperatures,
        appearance=min(limits.appearance, trust.familiar),
        content=np.minimum(limits.content, trust.familiar),
        total=min(limits.total, trust.familiar),
        # The training had a slide of each class, and which slides it had is not known.
        one_slide=np.zeros(len(limits.one_slide)),
    )


# ── which slides can be left out ───────────────────────────────────────────────────────────────


def _usable_slides(
    model: Classifier, lab: LabFields, groups: ClassGroups
) -> tuple[dict[int, int], list[str]]:
    """Return the group of classes of each slide that can be left out, and why others cannot."""
    slides, names = lab.data.slides, lab.data.slide_names
    trained = _trained_on(model, lab)
    old, small, mixed, group_of = [], [], [], {}
    for slide in np.unique(slides).tolist():
        rows = slides == slide
        if trained[rows].any():
            old.append(slide)
        elif rows.sum() < FEWEST_FIELDS:
            small.append(slide)
        elif len(np.unique(lab.labels[rows])) > 1:
            mixed.append(slide)
        else:
            group_of[slide] = groups.of_class[int(lab.labels[rows][0])]
    remarks = []
    if lab.data.slides_suggested:
        remarks.append(f"Unseen slides: {lab.data.slides_caution}")
    if old:
        remarks.append(
            f"Unseen slides: {len(old)} of {len(names)} slides were trained on before, or have a group of "
            f"the same name, so they say nothing about slides that are new."
        )
    others = HiddenGroups(model.info.data.groups_sha256).others
    if others:
        remarks.append(
            f"Unseen slides: whether slides were trained on before is unknown, as far as it shows by their "
            f"groups: the model keeps these under the key of another site ({', '.join(others)})."
        )
    if small:
        remarks.append(
            f"Unseen slides: {len(small)} of {len(names)} slides have fewer than {FEWEST_FIELDS} fields, so "
            f"they were not left out."
        )
    if mixed:
        remarks.append(
            f"Unseen slides: {len(mixed)} of {len(names)} slides hold fields of several classes, so "
            f"they were not left out."
        )
    return group_of, remarks


def _trained_on(model: Classifier, lab: LabFields) -> npt.NDArray[np.bool_]:
    """Return `(N,)` which images, their groups or their fields the model was trained on."""
    data = model.info.data
    images, groups = set(data.images_sha256), HiddenGroups(data.groups_sha256)
    result = np.array(
        [
            digest in images or groups.holds(sample.group or sample.case)
            for digest, sample in zip(lab.data.hashes, lab.data, strict=True)
        ]
    )
    again = [index for index, _ in match(lab.data.signatures, unpack(model.training))]
    result[again] = True
    return result


def _too_few_slides(groups: ClassGroups, group_of_slides: Sequence[int]) -> str:
    """Return which groups have too few slides to leave one out; empty where all have enough."""
    counts = np.bincount(np.array(group_of_slides, dtype=np.int64), minlength=len(groups))
    words = {0: "no slide", 1: "one slide"}
    return " and ".join(
        f"{name} has {words[int(count)]}"
        for name, count in zip(groups.names, counts, strict=True)
        if count < FEWEST_SLIDES
    )


def _no_limits(groups: ClassGroups, why: str) -> str:
    return (
        f"Unseen slides: {why}, so no limits could be chosen, and {' or '.join(groups.names)} is not "
        f"accepted on a slide that is not known. Each group of classes needs two new slides."
    )


# ── what heads say that were adapted without a slide ───────────────────────────────────────────


def _answers_without(
    model: Classifier,
    lab: LabFields,
    group_of: dict[int, int],
    *,
    strength: str | None,
    chosen: str,
) -> tuple[list[LeftOut], Floats]:
    """Return the answers on slides left out alone and in pairs, and OOD scores by appearance `(N,)`.

    A score is that of a field when its slide was left out alone, infinite where the class that was
    answered is not the nearest.
    """
    network, anchors = model.network, anchors_of(model.trust)
    slides, classes = lab.data.slides, len(model.classes)
    group_of_class = np.array(model.trust.groups.of_class) if model.trust.groups else lab.labels
    inputs = head_inputs(network, lab.roots)
    before = head_logits(network, inputs)
    appearance: Floats = np.full(len(lab.labels), np.inf)
    left_out = []
    for together in slides_to_leave_out(group_of):
        test = np.isin(slides, together)
        learn = np.flatnonzero(~test & ~np.isin(lab.units, lab.units[test]))
        rows = np.flatnonzero(test)
        if len(np.unique(group_of_class[lab.labels[learn]])) < len(set(group_of.values())):
            continue
        rest = lab.at(learn)
        change = fit_change(
            network,
            rest.roots,
            rest.labels,
            strength=UNCHANGED if chosen == UNCHANGED else strength or choose_strength(model, rest),
            anchors=anchors,
        )
        logits = before[rows] + change.logits([table[rows] for table in inputs])
        answered = np.arange(len(rows)), logits.argmax(axis=1)
        spaces = with_known_slides(model.trust, rest.statistics, rest.roots, rest.labels)
        if spaces.appearance is None or spaces.content is None:
            continue
        content = spaces.content.distances(lab.roots[rows], classes)[answered]
        left_out.append(LeftOut(together, rows, logits, spaces.content.ood_score(content)))
        if len(together) == 1:
            distances = spaces.appearance.distances(lab.statistics[rows], classes)
            scores = spaces.appearance.ood_score(distances[answered])
            nearest = distances.argmin(axis=1) == answered[1]
            appearance[rows] = np.where(nearest, scores, np.inf)
    return left_out, appearance


# ── how unlike fields of one slide are ─────────────────────────────────────────────────────────


def _fields_alone(lab: LabFields) -> Ints:
    """Return `(N,)`: images with the same number show the same field."""
    count = np.arange(len(lab.data), dtype=np.int64)
    return fields_of(lab.data.samples, count, lab.data.duplicates)


def _with_training(model: Classifier, known: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the OOD scores of known fields by appearance, by content and in all, `(N + R,)` each.

    `known` `(2, N)` are those of the laboratory. To these come R of the training, as many as it has
    references: their scores are not kept, but their median (0) and deviation (1) are, and the share of
    them that lies within the limit `familiar`. So they are those of a normal distribution.
    """
    from scipy.stats import norm

    trust = model.trust
    count = 0 if trust.appearance is None else len(trust.appearance.references)
    usual = norm.ppf((np.arange(count) + 0.5) / count)
    in_all = usual * trust.familiar / norm.ppf(model.info.config.familiar)
    return (
        np.concatenate([known[0], usual]),
        np.concatenate([known[1], usual]),
        np.concatenate([known.sum(axis=0), in_all]),
    )


def _scores_on_known_slides(trust: Trust, lab: LabFields, same_field: Ints) -> Floats:
    """Return OOD scores `(2, N)` by appearance and content, among references with other fields of a slide.

    NaN where no other field of the slide was among the references. Fields of one group are kept out
    together, unless that leaves too few scores.
    """
    scores: Floats = np.full((2, len(lab.data)), np.nan)
    if trust.appearance is None or trust.content is None:
        return scores
    slides = lab.data.slides
    for units in (lab.data.fields, same_field):
        scores = np.full((2, len(lab.data)), np.nan)
        for references, kept_out in grouped_parts(lab.labels, units):
            rows = kept_out[np.isin(slides[kept_out], slides[references])]
            if not len(rows):
                continue
            others = lab.at(references)
            known = with_known_slides(trust, others.statistics, others.roots, others.labels)
            for place, (space, vectors) in enumerate(
                ((known.appearance, lab.statistics), (known.content, lab.roots))
            ):
                if space is not None:
                    distances = space.distances(vectors[rows], len(trust.classes))
                    scores[place, rows] = space.ood_score(
                        distances[np.arange(len(rows)), lab.labels[rows]]
                    )
        if np.isfinite(scores).all(axis=0).sum() >= FEWEST_TO_CALIBRATE:
            break
    return scores
