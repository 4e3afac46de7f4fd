"""The audit: how well a classifier does on a set without seeing the cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from allkit.data.confound import coincide
from allkit.data.dataset import Dataset
from allkit.data.relations import SAME_FIELD
from allkit.errors import DatasetError
from allkit.evaluation import shortcuts as probes
from allkit.evaluation.probe_words import probe_words
from allkit.evaluation.shortcuts import COARSE, PROBE_INPUTS, Probe, threshold
from allkit.quality.check import CLEAN
from allkit.quality.pictures import probe_table
from allkit.shown.html import fragment, items, paragraph
from allkit.shown.progress import Asked, progress_of
from allkit.shown.text import how_many
from allkit.types import Progress

if TYPE_CHECKING:
    import pandas as pd

    from allkit.model.classifier import Classifier

__all__ = ["Audit", "audit"]

_MOST_GROUPS = 120  # left out one by one; more would take long and say no more


@dataclass(frozen=True, repr=False)
class Audit:
    """The results of the shortcut probes on a set, and the verdict.

    `probes` are sorted, best first. `verdict` is `shortcut` when the lower end of a probe's interval
    is at least a quarter of the way from chance to perfect (half of the way for probes that see
    cells as colour), `clear` when the upper end of every interval is below that, else `undecided`.
    `unit` says what the cross-validation kept whole. `left_out` is the result of the strongest
    probe when each value of `column` is left out in turn.
    """

    probes: tuple[Probe, ...]
    chance: float
    verdict: Literal["shortcut", "clear", "undecided"]
    message: str
    advice: tuple[str, ...]
    groups: int
    unit: str
    images: int
    model: float | None = None
    model_notes: tuple[str, ...] = ()
    column: str | None = None
    left_out: Probe | None = None
    data: Dataset | None = field(default=None, compare=False)
    """The set, of which a page shows what the probes see."""

    def __repr__(self) -> str:
        images = how_many(self.images, "image")
        where = f"{images} in {how_many(self.groups, self.unit)}"
        if not self.groups:
            where = f"{images}, no groups known"
        best = "".join(
            f"the {probe_words(p.name)} alone {p.balanced_accuracy:.3f} ({p.low:.3f}–{p.high:.3f}), "
            f"chance {self.chance:.2f}; "
            for p in self.probes[:1]
        )
        return f"<Audit: {self.verdict}; {best}{where}>"

    def _repr_html_(self) -> str:
        kind = {"shortcut": "caution", "clear": "good"}.get(self.verdict, "")
        parts = [paragraph(self.in_words, kind)]
        parts += [paragraph(note, "caution") for note in self.model_notes]
        if self.probes:
            parts.append(probe_table(self.probes, self.chance))
        return fragment(*parts, items(self.advice))

    @property
    def in_words(self) -> str:
        """The verdict and the message, where that does not begin with it."""
        verdict = self.verdict.capitalize()
        return self.message if self.message.startswith(verdict) else f"{verdict}. {self.message}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, in the form of `allkit audit --json`."""
        left = self.left_out
        return {
            "probes": {probe.name: probe.balanced_accuracy for probe in self.probes},
            "intervals": {probe.name: [probe.low, probe.high] for probe in self.probes},
            "blind_to_cells": [probe.name for probe in self.probes if probe.blind],
            "chance": self.chance,
            "verdict": self.verdict,
            "message": self.message,
            "advice": list(self.advice),
            "images": self.images,
            "groups": self.groups,
            "unit": self.unit,
            "model": self.model,
            "model_notes": list(self.model_notes),
            "leave_one_group_out": left
            and {
                "column": self.column,
                "probe": self.probes[0].name,
                "balanced_accuracy": left.balanced_accuracy,
                "interval": [left.low, left.high],
            },
        }


def audit(
    data: Dataset | str | Path | pd.DataFrame,
    model: Classifier | None = None,
    *,
    column: str | None = None,
    progress: Asked = "auto",
    seed: int = 0,
) -> Audit:
    """Measure how well simple classifiers do that cannot see the cells, by grouped cross-validation.

    With `model`, the result also holds its balanced accuracy on the same images. `column` (by
    default `group`, where there are groups) is left out value by value for the strongest probe.
    Raises `DatasetError` that names unreadable images.
    """
    with progress_of(progress) as told:
        return _audited(Dataset.of(data), model, column=column, progress=told, seed=seed)


def _audited(
    data: Dataset,
    model: Classifier | None,
    *,
    column: str | None,
    progress: Progress | None,
    seed: int,
) -> Audit:
    accuracy, notes = _of_model(model, data)
    data.passes.measure([*SAME_FIELD, PROBE_INPUTS], progress=progress, label="probes")
    labels, chance = data.labels, 1 / max(1, len(np.unique(data.labels)))
    unit = "group" if data.has_groups else "field"
    units = data.fields
    groups = len(np.unique(units)) if data.has_groups else 0
    reason = probes.too_few(labels, units, data.classes)
    same = _coincide(data, column)
    if reason is not None:
        message = (
            f"Nothing can be measured: {reason}. Give images of further slides or finer groups."
        )
        message += f" {same}" if same else ""
        return Audit(
            probes=(),
            chance=chance,
            verdict="undecided",
            message=message,
            advice=(),
            groups=groups,
            unit=unit,
            images=len(data),
            model=accuracy,
            model_notes=notes,
            data=data,
        )

    column = column or ("group" if _complete(data, "group") else None)
    if column and not _complete(data, column):
        raise DatasetError(
            f"The column {column!r} of {data.name} has gaps or a single value, so it cannot be left "
            f"out value by value. Fill it, or choose another column."
        )

    seen = probes.collect(data.passes.measure([PROBE_INPUTS])[0])
    names = probes.seen_of(data.samples, (*probes.BLIND, *COARSE))
    found = probes.score(seen, labels, units, names=names, seed=seed)
    verdict = _verdict(found, chance)
    left = (
        _left_out(data, seen[found[0].name], column, labels=labels, units=units) if column else None
    )
    return Audit(
        probes=tuple(found),
        verdict=verdict,
        message=_message(found, verdict, chance, data=data, model=accuracy)
        + (f" {same}" if same else "")
        + ("" if "file" in names else f" {probes.MADE_FILES}"),
        advice=_advice(found, verdict, data),
        chance=chance,
        groups=groups,
        unit=unit,
        images=len(data),
        model=accuracy,
        model_notes=notes,
        column=column,
        left_out=left,
        data=data,
    )


def _verdict(results: Sequence[Probe], chance: float) -> Literal["shortcut", "clear", "undecided"]:
    if any(probe.low >= threshold(probe, chance) for probe in results):
        return "shortcut"
    below = all(probe.high < threshold(probe, chance) for probe in results)
    return "clear" if below else "undecided"


def _message(
    results: Sequence[Probe],
    verdict: str,
    chance: float,
    *,
    data: Dataset,
    model: float | None,
) -> str:
    """Return the verdict in words; `model` is the balanced accuracy of a model on the same images."""
    beyond = [probe for probe in results if probe.low >= threshold(probe, chance)]
    strongest, words = results[0], probe_words(results[0].name)
    if verdict == "shortcut":
        best = beyond[0]
        colour = best.name in ("mean_colour", "colour_histogram", "thumbnail", "background")
        text = (
            f"The {probe_words(best.name)} alone predicts the class: balanced accuracy "
            f"{best.balanced_accuracy:.3f} where chance is {chance:.2f}. Accuracy on this set does not show "
            f"that a model reads cells{'; it may read the stain' if colour else ''}."
        )
        blind = [p for p in beyond if p.blind and p is not best]
        if blind:
            words = probe_words(blind[0].name)
            text += f" Without any cell, the {words} gets {blind[0].balanced_accuracy:.3f}."
    elif verdict == "clear":
        text = (
            f"No probe goes far beyond chance ({chance:.2f}); the best, the {words}, gets "
            f"{strongest.balanced_accuracy:.3f}. These shortcuts are not there; others may be."
        )
    else:
        text = (
            f"Undecided: the best, the {words}, gets {strongest.balanced_accuracy:.3f} "
            f"({strongest.low:.3f}–{strongest.high:.3f}), chance is {chance:.2f}. Give more groups of "
            f"every class."
        )
    if model is not None:
        text += f" The model gets {model:.3f} on the same images."
    if not data.has_groups:
        text += (
            " No groups are known, so images of one slide were on both sides, which a "
            "division by image rewards."
        )
    return text


def _advice(results: Sequence[Probe], verdict: str, data: Dataset) -> tuple[str, ...]:
    if verdict == "clear":
        return ()
    worst = results[-1].balanced_accuracy
    best = {probe.name for probe in results if probe.balanced_accuracy > worst}
    lines = [
        "Quote a figure on slides that were not trained on (`allkit split --scheme "
        "leave-one-group-out`), never the accuracy on this set alone.",
    ]
    if any(name.startswith("corner") for name in best):
        lines.append(
            f"Paint over or cut off what is burnt in: {CLEAN} (`allkit check` says where it "
            f"is). `view: masked` hides the bottom right corner only."
        )
    if best & {"background", *COARSE}:
        lines.append(
            "Train with `view: haematoxylin` (the default), which shows no colours; `view: rgb` and "
            "`view: masked` show them."
        )
    lines.append("Collect every class on several slides, stained and photographed together.")
    if not data.has_groups:
        lines.append("Give a column `group` (slide) or `case` (patient).")
    return tuple(lines)


def _complete(data: Dataset, column: str) -> bool:
    values = data.column(column)
    return None not in values and len(set(values)) > 1


def _coincide(data: Dataset, column: str | None) -> str | None:
    """Return in words that groups coincide with classes, by the column or by the known groups."""
    if column is None and not data.has_groups:
        return None
    values = data.units.tolist() if column is None else data.column(column)
    return coincide(data.label_names, values, column or "group")


def _left_out(
    data: Dataset,
    values: npt.NDArray[np.float32],
    column: str,
    *,
    labels: npt.NDArray[np.int64],
    units: npt.NDArray[np.int64],
) -> Probe | None:
    """Return the result of a probe when each value of `column` is left out; `None` for too many."""
    groups = np.unique(np.array(data.column(column), dtype=str), return_inverse=True)[1]
    if int(groups.max()) + 1 > _MOST_GROUPS:
        return None
    return probes.leave_out(values, labels, groups.astype(np.int64), units)


def _of_model(model: Classifier | None, data: Dataset) -> tuple[float | None, tuple[str, ...]]:
    """Return the balanced accuracy of a model on the set, and the cautions beside it."""
    if model is None:
        return None, ()
    from allkit.features import FeatureCache

    evaluation = model.evaluate(data, cache=FeatureCache(), probes=False, also=[PROBE_INPUTS])
    return evaluation.balanced_accuracy, evaluation.notes
