"""Whether adapting helps: fields judged by heads that were adapted without their groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from allkit.adaptation.fields import LabFields, join_fields
from allkit.adaptation.refit import STRENGTHS, anchors_of, fit_change, head_inputs, head_logits
from allkit.adaptation.trust import with_known_slides
from allkit.evaluation.answers import Answers
from allkit.model.classifier import Classifier
from allkit.trust.ood import grouped_parts
from allkit.trust.softmax import log_sum_exp
from allkit.trust.verdict import Outputs, Trust
from allkit.types import Floats

__all__ = ["HeldOutFields", "choose_strength", "judge_held_out"]

FOLDS, INNER_FOLDS = 5, 3
UNJUDGED = "medium"


@dataclass(frozen=True)
class HeldOutFields:
    """The outputs for held-out fields, of heads that were adapted without them and of the model.

    `logits` `(N, K)` are those after the adapting; `by_content` `(N,)` is the OOD score of a field by
    its features, and `familiar` `(N,)` says whether it counts as a familiar slide.
    """

    lab: LabFields
    before: Answers
    after: Answers
    logits: Floats
    by_content: Floats
    familiar: npt.NDArray[np.bool_]
    protocol: str


class _Side(NamedTuple):
    """The answers on fields that were held out once, before and after the adapting."""

    logits: Floats
    before: npt.NDArray[np.float32]
    after: npt.NDArray[np.float32]
    accepted_before: npt.NDArray[np.bool_]
    accepted_after: npt.NDArray[np.bool_]
    by_content: Floats
    familiar: npt.NDArray[np.bool_]


def judge_held_out(
    model: Classifier, lab: LabFields, test: LabFields | None, strength: str | None
) -> HeldOutFields | None:
    """Judge fields by heads that were adapted without their groups; `None` where there are none.

    These are the fields of `test` if there are any, otherwise those of `lab` in turn.
    """
    if test is not None:
        sides = [(lab, test)]
        protocol = "Judged on the rows `test`, which were not adapted with."
    else:
        if lab.held_out_classes < 2:
            return None
        sides = []
        for learn, rows in grouped_parts(lab.labels, lab.units, FOLDS):
            rows = rows[np.isin(lab.labels[rows], lab.labels[learn])]
            if len(rows):
                sides.append((lab.at(learn), lab.at(rows)))
        protocol = f"Each was judged by a head that was adapted without its group ({len(sides)} divisions)."
    parts = [_adapted_answers(model, learn, judged, strength) for learn, judged in sides]
    every = _Side(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    judged = join_fields([judged for _, judged in sides])
    before, after = (
        Answers(model.classes, judged.labels, table.astype(np.float64), accepted)
        for table, accepted in (
            (every.before, every.accepted_before),
            (every.after, every.accepted_after),
        )
    )
    return HeldOutFields(
        lab=judged,
        before=before,
        after=after,
        logits=every.logits,
        by_content=every.by_content,
        familiar=every.familiar,
        protocol=protocol,
    )


def _adapted_answers(
    model: Classifier, learn: LabFields, judged: LabFields, strength: str | None
) -> _Side:
    """Adapt with some fields, and return the outputs for others."""
    network = model.network
    change = fit_change(
        network,
        learn.roots,
        learn.labels,
        strength=strength or choose_strength(model, learn),
        anchors=anchors_of(model.trust),
    )
    inputs = head_inputs(network, judged.roots)
    before = head_logits(network, inputs)
    after = before + change.logits(inputs)
    trust = with_known_slides(model.trust, learn.statistics, learn.roots, learn.labels)
    p_before, accepted_before = _judged(model.trust, judged, before)
    p_after, accepted_after = _judged(trust, judged, after)
    by_content, total = _ood_scores(trust, judged, after)
    return _Side(
        logits=after,
        before=p_before,
        after=p_after,
        accepted_before=accepted_before,
        accepted_after=accepted_after,
        by_content=by_content,
        familiar=total <= trust.familiar,
    )


def _judged(
    trust: Trust, lab: LabFields, logits: Floats
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return probabilities `(N, K)`, and `(N,)` which answers are accepted."""
    outputs = Outputs(logits.astype(np.float32), lab.features)
    probabilities, decisions = trust.judge(outputs, lab.statistics)
    accepted = [decision.verdict == "accepted" for decision in decisions]
    return probabilities, np.array(accepted, dtype=bool)


def _ood_scores(trust: Trust, lab: LabFields, logits: Floats) -> tuple[Floats, Floats]:
    """Return the OOD scores of fields, relative to the answered class, `(N,)` each.

    First by the features alone, then the sum over image statistics and features."""
    by_content: Floats = np.zeros(len(logits))
    total: Floats = by_content
    answered = (np.arange(len(logits)), logits.argmax(axis=1))
    for space, rows in ((trust.appearance, lab.statistics), (trust.content, lab.roots)):
        if space is not None:
            by_content = space.ood_score(space.distances(rows, len(trust.classes))[answered])
            total = total + by_content
    return by_content if trust.content is not None else np.zeros(len(logits)), total


def choose_strength(model: Classifier, lab: LabFields) -> str:
    """Return the strength with the smallest loss on groups that were not adapted with.

    Where no groups of two classes can be held out it is `medium`: on the public set every strength
    helped on slides that were neither trained on nor adapted with.
    """
    anchors, network = anchors_of(model.trust), model.network
    if lab.held_out_classes < 2:
        return UNJUDGED
    temperature = model.trust.temperature or 1.0
    losses = dict.fromkeys(STRENGTHS, 0.0)
    for learn, rows in grouped_parts(lab.labels, lab.units, INNER_FOLDS):
        rows = rows[np.isin(lab.labels[rows], lab.labels[learn])]
        if not len(rows):
            continue
        inputs = head_inputs(network, lab.roots[rows])
        before, labels = head_logits(network, inputs), lab.labels[rows]
        weight = 1 / np.bincount(lab.labels)[labels]
        for name in STRENGTHS:
            change = fit_change(
                network, lab.roots[learn], lab.labels[learn], strength=name, anchors=anchors
            )
            logits = (before + change.logits(inputs)) / temperature
            total = log_sum_exp(logits)
            losses[name] += float(weight @ (total - logits[np.arange(len(labels)), labels]))
    return min(losses, key=lambda name: losses[name])
