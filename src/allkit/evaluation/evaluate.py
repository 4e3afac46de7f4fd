"""What a figure is worth: what a model says about a set, and what has to stand beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from allkit.data.dataset import Dataset
from allkit.data.mapping import Mapped
from allkit.data.passes import Measure
from allkit.data.relations import SAME_FIELD
from allkit.errors import DatasetError
from allkit.evaluation.answers import Answers
from allkit.evaluation.result import Evaluation, evaluate
from allkit.evaluation.shortcuts import PROBE_INPUTS, QUICK, collect, leave_out, score, too_few
from allkit.images.same_field import match, pack, unpack
from allkit.records import Prediction, Predictor
from allkit.runtime.answers import answer as as_prediction
from allkit.runtime.cases import combine
from allkit.trust.reasons import codes_of
from allkit.trust.verdict import Decision, set_table
from allkit.types import Progress

__all__ = [
    "IMAGE_LEVEL",
    "Judged",
    "TrainedOn",
    "as_answers",
    "ask",
    "cautions",
    "figures_of",
    "fingerprint_positions",
    "fingerprints",
    "group_hash",
    "mapped_figures",
    "relations_hash",
    "require_labels",
    "strongest_probe",
]

IMAGE_LEVEL = (
    "Image-level split: images of the same slide, even of the same field, were trained on and "
    "tested. This is the protocol of the published systems; its figures are inflated."
)


class TrainedOn(Protocol):
    """What a model remembers of its training images; `DataInfo` of `model.json` does."""

    @property
    def images_sha256(self) -> tuple[str, ...]:
        """The SHA-256 of every image."""

    @property
    def groups_sha256(self) -> tuple[str, ...]:
        """The `group_hash` of every group."""

    @property
    def split_by(self) -> str | None:
        """How they were divided, `group` or `image`; `None`: nobody said."""

    @property
    def drawn(self) -> bool:
        """Whether they were drawn."""


class Judged(NamedTuple):
    """What a model says about N images: probabilities and prediction sets `(N, K)`, decisions.

    `sets` is `None` for a model without calibration.
    """

    probabilities: npt.NDArray[np.float32]
    decisions: list[Decision]
    sets: npt.NDArray[np.bool_] | None


def ask(
    predictor: Predictor,
    dataset: Dataset,
    progress: Progress | None = None,
    *,
    also: Sequence[Measure] = (*SAME_FIELD, PROBE_INPUTS),
) -> Judged:
    """Return what an exported file says of every image of a set.

    Each image is decoded once, and what `also` measures is taken on the way. Raises `DatasetError`
    that lists every unreadable image.
    """
    passing = dataset.passes.survey(also, range(len(dataset)), lambda frame: frame.pixels)
    images = (pixels for batch in passing for _, pixels in batch)
    found: list[Prediction] = []
    for answer in predictor.stream(images):
        found.append(answer)
        if progress:
            progress("answers", len(found), len(dataset))
    classes = predictor.classes
    decisions = [
        Decision(
            a.verdict,
            a.reason_codes or codes_of(a.reasons),
            tuple(classes.index(name) for name in a.prediction_set),
        )
        for a in found
    ]
    table = np.array([[a.probabilities[name] for name in classes] for a in found], np.float32)
    # A file without calibration makes no sets; one with calibration may make an empty one.
    known = any(decision.prediction_set for decision in decisions)
    return Judged(table, decisions, set_table(decisions, len(classes)) if known else None)


def figures_of(
    dataset: Dataset,
    judged: Judged,
    classes: tuple[str, ...],
    notes: Sequence[str],
    *,
    probes: bool = True,
) -> Evaluation:
    """Return the figures of what a model said about a set, the strongest probe beside them.

    Raises `DatasetError` when a label is none of the model's.
    """
    answers = as_answers(dataset, judged, classes)
    return evaluate(
        answers.truth, judged.probabilities, classes,
        verdicts=[decision.verdict for decision in judged.decisions],
        sets=judged.sets,
        units=dataset.units if dataset.has_groups else None,
        notes=notes,
        extra=cases_of(dataset, judged, classes)
        | ({"shortcut_probe": strongest_probe(dataset)} if probes else {}),
    )  # fmt: skip


def mapped_figures(
    mapped: Mapped, judged: Judged, notes: Sequence[str], *, probes: bool = True
) -> Evaluation:
    """Return the figures of what a model said about the images of `mapped`, under its classes.

    The probability of a mapped class is the sum over its members; it is in a prediction set when
    one of them is. Verdicts are the model's own, about its own classes.
    """
    members = mapped.members
    decisions = [
        Decision(d.verdict, d.codes, tuple(
            int(i) for i in np.flatnonzero(members[list(d.prediction_set)].any(axis=0))
        ))
        for d in judged.decisions
    ]  # fmt: skip
    sets = None if judged.sets is None else judged.sets.astype(int) @ members.astype(int) > 0
    table = (judged.probabilities @ members).astype(np.float32)
    return figures_of(
        mapped.dataset, Judged(table, decisions, sets), mapped.classes,
        [*notes, *mapped.notes], probes=probes,
    )  # fmt: skip


def require_labels(dataset: Dataset, classes: tuple[str, ...]) -> None:
    """Raise `DatasetError` when a set has no images, or labels that a model does not know."""
    if len(dataset) == 0:
        raise DatasetError(f"{dataset.name} holds no images to evaluate.")
    strange = sorted(set(dataset.label_names) - set(classes))
    if strange:
        raise DatasetError(
            f"{dataset.name} has the labels {', '.join(map(repr, strange))}, which this model "
            f"does not know. It knows: {', '.join(classes)}. `--map FILE` says what they mean to it."
        )


def relations_hash(dataset: Dataset) -> str:
    """Return a hash of which images belong together: by group and case, and by field.

    It holds hashes of images and no name. Looks at every image, as `Dataset.fields` does.
    """
    partitions = []
    for numbers in (dataset.units, dataset.fields):
        members: dict[int, list[str]] = {}
        for number, digest in zip(numbers.tolist(), dataset.hashes, strict=True):
            members.setdefault(number, []).append(digest)
        partitions.append(sorted(sorted(digests) for digests in members.values()))
    return hashlib.sha256(json.dumps(partitions).encode()).hexdigest()


def cautions(
    trained_on: TrainedOn, training: Mapping[str, npt.NDArray[Any]], dataset: Dataset
) -> list[str]:
    """Return what makes figures of a model on a set worth less than they look.

    `training` are the fingerprints of the model's training images.
    """
    trained = set(trained_on.images_sha256)
    seen = sum(digest in trained for digest in dataset.hashes)
    groups = set(trained_on.groups_sha256)
    shared = sum(group_hash(s.group or s.case) in groups for s in dataset if s.group or s.case)
    notes = []
    if seen:
        notes.append(
            f"{seen} of these {len(dataset)} images were trained on: the figures are too high."
        )
    if shared > seen:
        notes.append(
            f"{shared} of these {len(dataset)} images come from groups that were trained on: "
            f"the figures say nothing about new slides."
        )
    shown = {index for index, _ in match(dataset.signatures, unpack(training))}
    shown -= {i for i, digest in enumerate(dataset.hashes) if digest in trained}
    if shown:
        notes.append(
            f"{len(shown)} of these {len(dataset)} images show a field that was trained on, "
            f"photographed again: the figures are too high."
        )
    kept = len(training.get("counts", ()))
    if training and kept < len(trained):
        notes.append(
            f"Images of the same field were looked for among {kept:,} of the {len(trained):,} "
            f"training images; the model keeps no more."
        )
    if "image" in (dataset.split_by, trained_on.split_by):
        notes.append(IMAGE_LEVEL)
    if trained_on.drawn:
        notes.append("The model was trained on drawn images: nothing follows for real smears.")
    return notes


def group_hash(group: str | None) -> str:
    """Return the hash by which a group is remembered: its name may be a patient's."""
    import hashlib

    return hashlib.sha256(f"group {group}".encode()).hexdigest()[:16] if group else ""


FINGERPRINTS = 10_000
"""Images whose fingerprints a model keeps, at most: 3.5 KB each."""


def fingerprints(dataset: Dataset) -> dict[str, npt.NDArray[Any]]:
    """Return what is kept of a set's images to know their fields again, as plain arrays.

    Keypoints and bits of their surroundings, from which no picture can be shown. Of more than
    10,000 images, as many are taken at equal distances.
    """
    return pack(dataset.subset(fingerprint_positions(len(dataset))).signatures)


def fingerprint_positions(count: int) -> range:
    """Return the positions of those of `count` images whose fingerprints are kept."""
    return range(0, count, max(1, -(-count // FINGERPRINTS)))


def strongest_probe(dataset: Dataset, column: str | None = None) -> dict[str, Any]:
    """Return the strongest shortcut probe on a set, or why there is none, as plain values.

    With `column`, each of its values is left out in turn, as in `leave_one_group_out`.
    """
    dataset.passes.measure([*SAME_FIELD, PROBE_INPUTS])
    labels, units = dataset.labels, dataset.fields
    reason = too_few(labels, units, dataset.classes)
    if reason:
        return {"name": None, "reason": reason}
    seen = collect(dataset.passes.measure([PROBE_INPUTS])[0])
    if column is None:
        best = score(seen, labels, units, names=QUICK, folds=3, trees=50)[0]
    else:
        groups = np.unique([str(v) for v in dataset.column(column)], return_inverse=True)[1]
        found = [
            replace(leave_out(seen[name], labels, groups, units, trees=30), name=name)
            for name in QUICK
        ]
        best = max(found, key=lambda probe: probe.balanced_accuracy)
    return {
        "name": best.name,
        "balanced_accuracy": best.balanced_accuracy,
        "interval": [best.low, best.high],
        "chance": 1 / len(np.unique(labels)),
        "blind_to_cells": best.blind,
    }


def cases_of(dataset: Dataset, judged: Judged, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return the figures of whole cases under `cases`; nothing for a set that names none.

    A case whose images have several labels has no label of its own and is left out, counted.
    """
    fields: dict[str, list[int]] = {}
    for index, sample in enumerate(dataset):
        if sample.case is not None:
            fields.setdefault(sample.case, []).append(index)
    if not fields:
        return {}
    right, mixed, silent = [], 0, 0
    verdicts = {"accepted": 0, "review": 0, "refused": 0}
    for case, rows in fields.items():
        labels = {dataset.samples[i].label for i in rows}
        if len(labels) > 1:
            mixed += 1
            continue
        answer = combine(
            [
                as_prediction(dataset.samples[i].image, judged.probabilities[i],
                              judged.decisions[i], classes)
                for i in rows
            ],
            case,
        )  # fmt: skip
        hit = answer.label in labels
        right.append(hit)
        verdicts[answer.verdict] += 1
        silent += answer.verdict == "accepted" and not hit
    if not right:
        return {}
    return {
        "cases": {
            "n": len(right),
            "accuracy": float(np.mean(right)),
            "verdicts": verdicts,
            "silent_errors": silent,
            "mixed_labels": mixed,
        }
    }


def as_answers(dataset: Dataset, judged: Judged, classes: tuple[str, ...]) -> Answers:
    """Return what a model said about a set in the form in which figures are computed.

    Raises `DatasetError` when a label is none of the model's.
    """
    require_labels(dataset, classes)
    position = {name: index for index, name in enumerate(classes)}
    return Answers(
        classes,
        np.array([position[label] for label in dataset.label_names], dtype=np.int64),
        judged.probabilities.astype(np.float64),
        np.array([decision.verdict == "accepted" for decision in judged.decisions]),
        judged.sets,
    )
