"""The evaluation of a model on a labelled set: its answer on every image, and their metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from allkit.data.dataset import Dataset
from allkit.data.mapping import Mapped
from allkit.data.passes import Measure
from allkit.data.relations import SAME_FIELD
from allkit.data.rows import unreadable_error
from allkit.errors import DatasetError
from allkit.evaluation.answers import Answers
from allkit.evaluation.cases import metrics_of_cases
from allkit.evaluation.coarse import coarse_decision, coarse_of, mapped_groups
from allkit.evaluation.judged import Judged
from allkit.evaluation.judged_images import JudgedImages
from allkit.evaluation.result import Evaluation, evaluate
from allkit.evaluation.shortcuts import PROBE_INPUTS, QUICK, collect, seen_of, strongest, too_few
from allkit.evaluation.units import JudgedUnits, Unit, judge_units
from allkit.records import Prediction, Predictor
from allkit.trust.groups import ClassGroups
from allkit.trust.reasons import codes_of
from allkit.trust.verdict import Decision, Trust, set_table
from allkit.types import Progress

__all__ = [
    "PROBED",
    "Judged",
    "as_answers",
    "ask",
    "evaluation_of",
    "evaluation_of_mapped",
    "require_labels",
    "strongest_probe",
]


SMALL_BATCH = 4
"""Images that are read ahead together for an exported file."""
PROBED = (*SAME_FIELD, PROBE_INPUTS)
"""What is measured on every image for the strongest shortcut probe."""


def ask(
    predictor: Predictor,
    dataset: Dataset,
    progress: Progress | None = None,
    *,
    also: Sequence[Measure] = (),
) -> Judged:
    """Return the answers of an exported file on every image of a set.

    Each image is decoded once; the measures `also` are taken in the same pass. Raises `DatasetError`
    that lists every unreadable image.
    """
    # In small batches: the file itself reads ahead as far as the memory allows.
    passing = dataset.passes.survey(
        also, range(len(dataset)), lambda frame: frame.pixels, size=SMALL_BATCH
    )
    images = (pixels for batch in passing for _, pixels in batch)
    found: list[Prediction] = []
    for answer in predictor.stream(images):
        found.append(answer)
        if progress:
            progress("answers", len(found), len(dataset))
    errors = [
        f"{sample.image}: {answer.error}"
        for sample, answer in zip(dataset, found, strict=True)
        if answer.verdict == "unreadable"
    ]
    if errors:
        raise unreadable_error(errors, len(dataset), dataset.name)
    classes = predictor.classes
    # Only what comes with allkit has it; a plugin's file need not.
    trust = getattr(predictor, "trust", None)
    decisions = [
        Decision(
            a.verdict,
            a.reason_codes or codes_of(a.reasons),
            tuple(classes.index(name) for name in a.prediction_set),
            coarse_decision(
                a.coarse,
                a.coarse_probability,
                a.coarse_verdict,
                evidence=a.coarse_evidence,
                ood_score=a.ood_score,
                groups=None if trust is None else trust.groups,
            ),
        )
        for a in found
    ]
    table = np.array([[a.probabilities[name] for name in classes] for a in found], np.float32)
    # A file without calibration makes no sets; one with calibration may make an empty one.
    known = any(decision.prediction_set for decision in decisions)
    return Judged(table, decisions, set_table(decisions, len(classes)) if known else None)


def evaluation_of(
    dataset: Dataset,
    judged: Judged,
    classes: tuple[str, ...],
    notes: Sequence[str],
    *,
    probes: bool = True,
    by: Unit = "field",
    trust: Trust | None = None,
    groups: ClassGroups | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Return the evaluation of a model's answers on a set, with the strongest probe.

    By slide or case, units are counted in place of images (`judge_units`, which takes the model's
    `trust`). `groups` are those of `classes`, by default those of `trust`. `extra` are further values
    of the result. Raises `DatasetError` when the model does not know a label, and where the set has
    no such units.
    """
    groups = groups or (None if trust is None else trust.groups)
    if by != "field":
        require_labels(dataset, classes)
        units = judge_units(dataset, judged, classes, by=by, trust=trust)
        return _of_units(units, units.judged, classes, notes, groups=groups, extra=extra or {})
    answers = as_answers(dataset, judged, classes)
    further = coarse_of(groups, answers.truth, judged.decisions)
    further |= metrics_of_cases(
        dataset, judged.probabilities, judged.decisions, classes, trust=trust
    )
    if probes:
        further["shortcut_probe"] = strongest_probe(dataset)
    return evaluate(
        answers.truth,
        judged.probabilities,
        classes,
        verdicts=[decision.verdict for decision in judged.decisions],
        sets=judged.sets,
        units=dataset.units if dataset.has_groups else None,
        notes=notes,
        extra=further | dict(extra or {}),
        images=JudgedImages(
            dataset,
            classes,
            answers.truth,
            judged.probabilities,
            decisions=tuple(judged.decisions),
        ),
    )


def _of_units(
    units: JudgedUnits,
    judged: Judged,
    classes: tuple[str, ...],
    notes: Sequence[str],
    *,
    groups: ClassGroups | None,
    extra: Mapping[str, Any],
) -> Evaluation:
    """Return the evaluation of answers for slides or cases; `judged` is theirs under `classes`."""
    answers = as_answers(units.dataset, judged, classes)
    # Slides of one patient or group are drawn together.
    together = units.dataset.units
    apart = len(np.unique(together)) == len(together)
    left_out = (
        f"{units.mixed} {units.by}{'s have' if units.mixed > 1 else ' has'} fields of several "
        f"labels and {'are' if units.mixed > 1 else 'is'} left out."
    )
    further = coarse_of(groups, answers.truth, judged.decisions)
    further |= {
        "by": units.by,
        "fields": units.fields,
        "mixed_labels": units.mixed,
        "unanswered": units.unanswered,
    }
    return evaluate(
        answers.truth,
        judged.probabilities,
        classes,
        verdicts=[decision.verdict for decision in judged.decisions],
        sets=judged.sets,
        units=together,
        unit=units.by if apart else "group",
        notes=[*notes, *([left_out] if units.mixed else [])],
        extra=further | dict(extra),
        images=JudgedImages(
            units.dataset,
            classes,
            answers.truth,
            judged.probabilities,
            decisions=tuple(judged.decisions),
            by=units.by,
            names=tuple(answer.case for answer in units.answers),
        ),
    )


def evaluation_of_mapped(
    mapped: Mapped,
    judged: Judged,
    notes: Sequence[str],
    *,
    classes: Sequence[str],
    probes: bool = True,
    by: Unit = "field",
    trust: Trust | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Return the evaluation of a model's answers on the images of `mapped`, under the mapped classes.

    The probability of a mapped class is the sum over its members; it is in a prediction set when
    one of them is. Verdicts are those of the model, about its own `classes`. The rest is as in
    `evaluation_of`.
    """
    groups, unjudged = mapped_groups(
        None if trust is None else trust.groups, mapped.members, mapped.classes
    )
    notes = [*notes, *mapped.notes, *unjudged]
    if by != "field":
        units = judge_units(mapped.dataset, judged, classes, by=by, trust=trust)
        judged = _mapped(mapped, units.judged)
        return _of_units(units, judged, mapped.classes, notes, groups=groups, extra=extra or {})
    judged = _mapped(mapped, judged)
    return evaluation_of(
        mapped.dataset,
        judged,
        mapped.classes,
        notes,
        probes=probes,
        groups=groups,
        extra=extra,
    )


def _mapped(mapped: Mapped, judged: Judged) -> Judged:
    members = mapped.members
    decisions = []
    for decision in judged.decisions:
        possible = members[list(decision.prediction_set)].any(axis=0)
        positions = tuple(int(i) for i in np.flatnonzero(possible))
        decisions.append(decision._replace(prediction_set=positions))
    sets = None if judged.sets is None else judged.sets.astype(int) @ members.astype(int) > 0
    table = (judged.probabilities @ members).astype(np.float32)
    return Judged(table, decisions, sets)


def require_labels(dataset: Dataset, classes: tuple[str, ...]) -> None:
    """Raise `DatasetError` when a set has no images, or labels that a model does not know."""
    if len(dataset) == 0:
        raise DatasetError(f"{dataset.name} holds no images to evaluate.")
    strange = sorted(set(dataset.label_names) - set(classes))
    if strange:
        raise DatasetError(
            f"{dataset.name} has the labels {', '.join(map(repr, strange))}, which this model "
            f"does not know. It knows: {', '.join(classes)}. Give "
            f"`label_map` (--map FILE) to map them."
        )


def strongest_probe(dataset: Dataset, column: str | None = None) -> dict[str, Any]:
    """Return the strongest shortcut probe on a set, or why there is none, as plain values.

    With `column`, each of its values is left out in turn, as in `leave_one_group_out`.
    """
    dataset.passes.measure(PROBED)
    labels, units = dataset.labels, dataset.fields
    reason = too_few(labels, units, dataset.classes)
    if reason:
        return {"name": None, "reason": reason}
    seen = collect(dataset.passes.measure([PROBE_INPUTS])[0])
    names = seen_of(dataset.samples, QUICK)
    if column is None:
        best = strongest(seen, labels, units, names=names)
    else:
        groups = np.unique([str(v) for v in dataset.column(column)], return_inverse=True)[1]
        best = strongest(seen, labels, units, names=names, groups=groups, trees=30)
    return {
        "name": best.name,
        "balanced_accuracy": best.balanced_accuracy,
        "interval": [best.low, best.high],
        "chance": 1 / len(np.unique(labels)),
        "blind_to_cells": best.blind,
    }


def as_answers(dataset: Dataset, judged: Judged, classes: tuple[str, ...]) -> Answers:
    """Return a model's answers on a set in the form in which metrics are computed.

    Raises `DatasetError` when the model does not know a label.
    """
    require_labels(dataset, classes)
    position = {name: index for index, name in enumerate(classes)}
    return Answers(
        classes=classes,
        truth=np.array([position[label] for label in dataset.label_names], dtype=np.int64),
        probabilities=judged.probabilities.astype(np.float64),
        accepted=np.array([decision.verdict == "accepted" for decision in judged.decisions]),
        sets=judged.sets,
    )
