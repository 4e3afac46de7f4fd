"""What adapting is worth: fields judged by heads that were adapted without their groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.adaptation.fields import LabFields, joined
from allkit.adaptation.refit import STRENGTHS, anchors_of, change, head_inputs, head_logits
from allkit.adaptation.trust import knowing
from allkit.evaluation.answers import Answers
from allkit.model.classifier import Classifier
from allkit.trust.ood import grouped_parts
from allkit.trust.softmax import log_sum_exp
from allkit.trust.verdict import Outputs, Trust
from allkit.types import Floats

__all__ = ["HeldOut", "choose", "held_out"]


FOLDS, INNER_FOLDS = 5, 3
UNJUDGED = "medium"


@dataclass(frozen=True)
class HeldOut:
    """What heads that were adapted without them say of fields, beside what the model said."""

    lab: LabFields
    before: Answers
    after: Answers
    logits: Floats
    by_content: Floats
    familiar: npt.NDArray[np.bool_]
    protocol: str


def held_out(
    model: Classifier, own: LabFields, test: LabFields | None, strength: str | None
) -> HeldOut | None:
    """Judge fields by heads that were adapted without their groups; `None` where there are none."""
    if test is not None:
        sides = [(own, test)]
        protocol = "Judged on the rows `test`, which took no part in the adapting."
    else:
        if own.held_out_classes < 2:
            return None
        sides = [
            (own.at(learn), own.at(kept[np.isin(own.labels[kept], own.labels[learn])]))
            for learn, kept in grouped_parts(own.labels, own.units, FOLDS)
        ]
        sides = [(learn, kept) for learn, kept in sides if len(kept.labels)]
        protocol = f"Each was judged by a head that was adapted without its group ({len(sides)} divisions)."
    parts = [_asked(model, learn, kept, strength) for learn, kept in sides]
    lab = joined([kept for _, kept in sides])
    tables = [np.concatenate(column) for column in zip(*parts, strict=True)]
    first, p_before, p_after, accepted_before, accepted_after, by_content, familiar = tables
    answers = [
        Answers(model.classes, lab.labels, p.astype(np.float64), accepted)
        for p, accepted in ((p_before, accepted_before), (p_after, accepted_after))
    ]
    return HeldOut(lab, answers[0], answers[1], first, by_content, familiar, protocol)


def _asked(
    model: Classifier, learn: LabFields, kept: LabFields, strength: str | None
) -> tuple[npt.NDArray[Any], ...]:
    """Adapt with some fields, and return what is said of others."""
    network = model.network
    moved = change(
        network, learn.roots, learn.labels, strength or choose(model, learn),
        anchors_of(model.trust),
    )  # fmt: skip
    inputs = head_inputs(network, kept.roots)
    before = head_logits(network, inputs)
    after = before + moved.logits(inputs)
    trust = knowing(model.trust, learn.statistics, learn.roots, learn.labels)
    found: list[npt.NDArray[Any]] = [after]
    accepted = []
    for own, logits in ((model.trust, before), (trust, after)):
        outputs = Outputs(logits.astype(np.float32), kept.features)
        probabilities, decisions = own.judge(outputs, kept.statistics)
        found.append(probabilities)
        accepted.append(np.array([d.verdict == "accepted" for d in decisions], dtype=bool))
    by_content, total = _ood_scores(trust, kept, after)
    return (*found, *accepted, by_content, total <= trust.familiar)


def _ood_scores(trust: Trust, kept: LabFields, logits: Floats) -> tuple[Floats, Floats]:
    """Return OOD scores `(n,)` of fields by content, and in all, in the class that was answered."""
    by_content: Floats = np.zeros(len(logits))
    total: Floats = by_content
    answered = (np.arange(len(logits)), logits.argmax(axis=1))
    for space, rows in ((trust.appearance, kept.statistics), (trust.content, kept.roots)):
        if space is not None:
            by_content = space.ood_score(space.distances(rows, len(trust.classes))[answered])
            total = total + by_content
    return by_content if trust.content is not None else np.zeros(len(logits)), total


def choose(model: Classifier, own: LabFields) -> str:
    """Return the strength whose heads lose least on groups that they were not adapted with.

    Where no group of two classes can be held out it is `medium`: on the public set, where that can be
    measured on slides of neither, each strength helped, and a slide is taught by any.
    """
    anchors, network = anchors_of(model.trust), model.network
    if own.held_out_classes < 2:
        return UNJUDGED
    temperature = model.trust.temperature or 1.0
    losses = dict.fromkeys(STRENGTHS, 0.0)
    for learn, kept in grouped_parts(own.labels, own.units, INNER_FOLDS):
        kept = kept[np.isin(own.labels[kept], own.labels[learn])]
        if not len(kept):
            continue
        inputs = head_inputs(network, own.roots[kept])
        before, labels = head_logits(network, inputs), own.labels[kept]
        weight = 1 / np.bincount(own.labels)[labels]
        for name in STRENGTHS:
            moved = change(network, own.roots[learn], own.labels[learn], name, anchors)
            logits = (before + moved.logits(inputs)) / temperature
            total = log_sum_exp(logits)
            losses[name] += float(weight @ (total - logits[np.arange(len(labels)), labels]))
    return min(losses, key=lambda name: losses[name])
