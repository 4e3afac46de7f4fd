"""Adapt a model to a laboratory with a few of its own fields, and measure whether that helped."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from allkit.adaptation.align import FEWEST, stain_shift
from allkit.adaptation.fields import TAUGHT, LabFields, confound, join_fields
from allkit.adaptation.held_out import HeldOutFields, choose_strength, judge_held_out
from allkit.adaptation.refit import (
    STRENGTHS,
    UNCHANGED,
    anchors_of,
    fit_change,
    head_inputs,
    head_logits,
    move_mean,
)
from allkit.adaptation.slide_limits import fit_limits
from allkit.adaptation.trust import recalibrate, with_known_slides, with_seen_images
from allkit.data.dataset import Dataset
from allkit.data.slides import known_names
from allkit.errors import ConfigError, DatasetError
from allkit.evaluation.compare import Comparison, compare
from allkit.evaluation.evaluate import require_labels
from allkit.evaluation.site_key import hide_groups
from allkit.features import FeatureCache
from allkit.images.same_field import pack, unpack
from allkit.model.adaptation import Adaptation, Claim
from allkit.model.classifier import Classifier
from allkit.network.around import ordinary
from allkit.network.modules import Network
from allkit.trust.verdict import Trust
from allkit.types import Progress

__all__ = ["adapt"]

METRICS = (
    "balanced_accuracy",
    "accuracy",
    "log_loss",
    "accepted_share",
    "accepted_accuracy",
    "silent_error_rate",
)
"""The metrics that are shown before and after."""
ALIGNED = "aligned"
ON_UNSEEN = "Unseen slides:"
"""How the notes of a model on unseen slides begin."""


@ordinary()
def adapt(
    model: Classifier,
    data: Dataset,
    *,
    column: str | None = None,
    strength: str | None = None,
    cache: FeatureCache | str | None = "default",
    progress: Progress | None = None,
) -> Classifier:
    """Return the model adapted to the slides of a laboratory; `model` itself is left as it is.

    `data` are labelled fields, five to twenty of each class, better from several slides; or images
    without labels (`Dataset.unlabelled`). `info.adaptations[-1]` records what was changed, and
    metrics before and after on groups that were not adapted with.

    *Labelled*: `strength` says how far the head may change (`unchanged`, `weak`, `medium`,
    `strong`); by default the best on groups that are held out in turn is used. For
    out-of-distribution detection the slides become familiar ones of the classes of their labels.
    The calibration is fitted again if there are enough fields. A model without limits for unseen
    slides gets them where each group of classes has two slides that are known and new to it; limits
    that there are only rise. The rows `test` of a set with parts are only judged. What is held out
    together are slides, groups, cases and fields, and the values of `column`. Where groups coincide
    with classes no improvement is claimed, and where no group can be held out the strength is
    `medium`.

    *Without labels*: the mean that the head subtracts is adapted to the stain, and
    out-of-distribution detection learns that these are smears: images that it would have refused
    as no smear are for review. No answer becomes accepted by it.

    Raises `DatasetError` for unreadable images, unknown labels, a set that is partly labelled or
    too small, and `ConfigError` for an unknown strength.
    """
    if strength is not None and strength not in STRENGTHS:
        raise ConfigError(
            f"Unknown strength {strength!r}. Choose one of: {', '.join(STRENGTHS)}; leave it out to "
            f"have it chosen on held-out groups."
        )
    cache = FeatureCache() if isinstance(cache, str) else cache

    def fields_of(part: Dataset) -> LabFields:
        return LabFields.of(model, part, column=column, cache=cache, progress=progress)

    learn, test = _sides(data)
    if data.labelled:
        require_labels(data, model.classes)
        judging = None if test is None else fields_of(test)
        return _labelled(model, fields_of(learn), judging, strength)
    if strength is not None:
        raise ConfigError("Without labels there is no strength to choose. Leave it out.")
    return _unlabelled(model, fields_of(learn))


def _sides(data: Dataset) -> tuple[Dataset, Dataset | None]:
    """Return the images to adapt with, and those that are only judged."""
    if not len(data):
        raise DatasetError(f"{data.name} holds no images to adapt with.")
    test = data.part("test")
    # A part that was taken out of a set is used as a whole.
    if not data.labelled or len(test) in (0, len(data)):
        return data, None
    for leak in data.leaks():
        warnings.warn(leak, stacklevel=4)
    return data.subset([i for i, s in enumerate(data) if s.part != "test"]), test


def _labelled(
    model: Classifier, lab: LabFields, test: LabFields | None, strength: str | None
) -> Classifier:
    with threadpool_limits(1, "blas"):  # the tables are small: more threads would only wait
        return _from_labels(model, lab, test, strength)


def _from_labels(
    model: Classifier, lab: LabFields, test: LabFields | None, strength: str | None
) -> Classifier:
    why = confound(lab if test is None else join_fields([lab, test]))
    held_out = judge_held_out(model, lab, test, strength)
    compared = None
    if held_out is not None:
        units = held_out.lab.units if held_out.lab.grouped else None
        compared = compare(held_out.before, held_out.after, units)
    claim = _claim(compared, why)
    if strength is None and (claim == "worse" or len(lab.data.counts) < 2):
        chosen = UNCHANGED
    else:
        chosen = strength or choose_strength(model, lab)
    network = copy.deepcopy(model.network)
    change = fit_change(
        network, lab.roots, lab.labels, strength=chosen, anchors=anchors_of(model.trust)
    )
    change.apply(network)
    trust = with_known_slides(model.trust, lab.statistics, lab.roots, lab.labels)
    notes = _notes(model, lab)
    if held_out is None or chosen == UNCHANGED:
        notes.append(
            "The calibration stays: the head did not change, or nothing could be held out."
        )
    else:
        trust, kept_as_it_was = recalibrate(
            trust,
            held_out.logits,
            held_out.lab.labels,
            by_content=held_out.by_content,
            familiar=held_out.familiar,
        )
        notes += kept_as_it_was
    unseen: tuple[str, ...] = ()
    if model.trust.slides is None:
        limits, unseen = fit_limits(model, lab, strength=strength, chosen=chosen)
        trust = replace(trust, slides=limits)
        notes += unseen
    if trust.content is None:
        notes.append(
            "The model has no out-of-distribution detection, and a few fields are not enough for it."
        )
    record = Adaptation(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        images=len(lab.data),
        counts=dict(lab.data.counts),
        groups=lab.groups,
        fingerprint=lab.data.fingerprint,
        labelled=True,
        strength=chosen,
        claim=claim,
        message=_message(claim, why, chosen),
        notes=tuple(notes),
        **_table(held_out, compared),
    )
    return _classifier(model, network, trust, record=record, lab=lab, unseen=unseen)


def _claim(compared: Comparison | None, why: str | None) -> Claim:
    if compared is None:
        return "not judged"
    if why is not None:
        return "cannot be told"
    low, high = compared.intervals.get("balanced_accuracy", [0.0, 0.0])
    if low > 0:
        return "better"
    return "worse" if high < 0 else "no difference shown"


def _message(claim: Claim, why: str | None, chosen: str) -> str:
    """Return what may be concluded from an adaptation, in words."""
    went = (
        "The head stays as it was; out-of-distribution detection now treats these slides as familiar."
        if chosen == UNCHANGED
        else f"The head was changed with the strength `{chosen}`; that it is better is not shown."
    )
    if claim == "not judged":
        reason = why or TAUGHT
        return (
            f"Whether adapting helps cannot be judged: at least two classes need a group that can be "
            f"held out while another group of the class is learnt from. {reason} {went}"
        )
    if claim == "cannot be told":
        return f"The table cannot show an improvement. {why} {went}"
    if claim == "better":
        return (
            f"On groups that were not adapted with, the balanced accuracy rose; strength: {chosen}."
        )
    if claim == "worse":
        return f"On groups that were not adapted with, adapting made the answers worse. {went}"
    return (
        f"On groups that were not adapted with, the difference can be chance; strength: {chosen}. "
        f"Give fields of more slides."
    )


def _table(held_out: HeldOutFields | None, compared: Comparison | None) -> dict[str, Any]:
    """Return the metrics before and after, as the record keeps them."""
    if held_out is None or compared is None:
        return {}
    once = np.ones((1, len(held_out.lab.labels)))
    sides = []
    for answers in (held_out.before, held_out.after):
        metrics = answers.metrics(once)
        values = {name: float(metrics[name][0]) for name in METRICS}
        recalls = {
            f"recall {name}": float(row["recall"][0])
            for name, row in answers.per_class(once).items()
        }
        sides.append({k: None if np.isnan(v) else v for k, v in (values | recalls).items()})
    return {
        "judged": len(held_out.lab.labels),
        "protocol": held_out.protocol,
        "before": sides[0],
        "after": sides[1],
        "differences": {n: compared.differences[n] for n in METRICS if n in compared.differences},
        "intervals": {n: compared.intervals[n] for n in METRICS if n in compared.intervals},
        "interval_unit": compared.interval_unit,
    }


def _notes(model: Classifier, lab: LabFields) -> list[str]:
    """Return further remarks about the images."""
    notes = list(lab.notes)
    trained = set(model.info.data.images_sha256)
    known_images = sum(digest in trained for digest in lab.data.hashes)
    if known_images:
        notes.append(
            f"{known_images} of the {len(lab.data)} images were trained on before; give fields that are new."
        )
    missing = [name for name in model.classes if not lab.data.counts[name]]
    if missing and lab.data.labelled:
        notes.append(
            f"No fields of {', '.join(missing)}: for these classes the head only keeps its answers "
            f"on the training images."
        )
    if not lab.grouped:
        notes.append(
            "No groups are known, so fields of one slide may have been on both sides. Give a column "
            "`group`, `case` or `slide`."
        )
    return notes


# ── without labels ─────────────────────────────────────────────────────────────────────────────


def _unlabelled(model: Classifier, lab: LabFields) -> Classifier:
    if len(lab.data) < FEWEST:
        raise DatasetError(
            f"{lab.data.name} holds {len(lab.data)} images; at least {FEWEST} are needed to "
            f"recognise a stain. Give more images."
        )
    network = copy.deepcopy(model.network)
    trust = with_seen_images(model.trust, lab.statistics, lab.roots)
    content, notes = model.trust.content, _notes(model, lab)
    shift = None if content is None else stain_shift(lab.roots, content, len(model.classes))
    if shift is None:
        notes.append(
            "The head stays as it was: the training data in the model does not separate its classes "
            "well enough to distinguish a stain from a class. Give labelled fields."
        )
    else:
        move_mean(network, shift)
        first = lab.roots[:1]  # the same is added to the logits of every image
        added = head_logits(model.network, head_inputs(model.network, first)) - head_logits(
            network, head_inputs(network, first)
        )
        offset = 0.0 if trust.offset is None else trust.offset
        trust = replace(trust, offset=(offset + added[0]).astype(np.float32))
    record = Adaptation(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        images=len(lab.data),
        counts={},
        groups=lab.groups,
        fingerprint=lab.data.fingerprint,
        labelled=False,
        strength=UNCHANGED if shift is None else ALIGNED,
        claim="not judged",
        message=(
            "Without labels nothing can be judged here. "
            + (
                ""
                if shift is None
                else "The mean that the head subtracts is adapted to their stain. "
            )
            + "Out-of-distribution detection accepts these images as smears: those that it would have "
            "refused as no smear are for review. No answer becomes accepted that was not before."
        ),
        notes=tuple(notes),
    )
    return _classifier(model, network, trust, record=record, lab=lab)


def _classifier(
    model: Classifier,
    network: Network,
    trust: Trust,
    *,
    record: Adaptation,
    lab: LabFields,
    unseen: tuple[str, ...] = (),
) -> Classifier:
    """Return the adapted model; labelled images count as trained on from now on.

    `unseen` are the notes on unseen slides, in place of those of the training.
    """
    info, training = model.info, model.training
    data = info.data
    if record.labelled:
        data = data.model_copy(
            update={
                "images_sha256": tuple(sorted({*data.images_sha256, *lab.data.hashes})),
                "groups_sha256": tuple(
                    sorted({*data.groups_sha256, *hide_groups(lab.data.origins)})
                ),
                "slides_sha256": tuple(
                    sorted({*data.slides_sha256, *hide_groups(known_names(lab.data.samples))})
                ),
                "drawn": data.drawn or lab.data.drawn,
            }
        )
        training = pack([*unpack(training), *lab.data.signatures])
    notes = info.trust_notes
    if unseen:
        notes = (*(note for note in notes if not note.startswith(ON_UNSEEN)), *unseen)
    info = info.model_copy(
        update={
            "data": data,
            "provenance": None,
            "trust_notes": notes,
            "adaptations": (*info.adaptations, record),
        }
    )
    return Classifier(network, info, trust=trust, device=model.device, training=training)
