"""The images of a laboratory as a model sees them, and whether they can show an improvement."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from allkit.data.allocation import joined_units
from allkit.data.confound import alone, nested
from allkit.data.dataset import Dataset
from allkit.data.measures import as_reasons, shortcomings_by, statistics_by
from allkit.data.passes import Measured
from allkit.data.relations import SAME_FIELD
from allkit.errors import DatasetError
from allkit.evaluation.evaluate import strongest_probe
from allkit.evaluation.shortcuts import Probe, threshold
from allkit.features import FeatureCache
from allkit.model.classifier import Classifier
from allkit.trust.space import signed_sqrt
from allkit.types import Floats, Ints, Progress

__all__ = ["FEWEST_GROUPS", "LabFields", "confound", "join_fields"]


FEWEST_GROUPS = 3
"""Fewest groups of every class for which held-out groups say more than what a slide looks like."""
TAUGHT = (
    "A few labelled fields of a slide teach the slide, not the class: right answers on the rest of "
    "these slides would show nothing about the next one."
)


@dataclass(frozen=True)
class LabFields:
    """Images of a laboratory, with their features and statistics.

    `features` and `roots` (their signed square roots) are `(N, D)`, `statistics` `(N, M)`, `labels`
    `(N,)` positions in the classes of the model, `units` `(N,)` say what is held out together.
    """

    data: Dataset
    features: npt.NDArray[np.float32]
    roots: Floats
    statistics: Floats
    labels: Ints
    units: Ints
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        model: Classifier,
        data: Dataset,
        *,
        column: str | None,
        cache: FeatureCache | None,
        progress: Progress | None,
    ) -> LabFields:
        """Compute the features and statistics of a set; features come from the cache if they are there.

        For a model of cells, images without cells or without a scale are left out, with a warning
        that names them. Raises `DatasetError` when none is left.
        """
        at_scale = statistics_by("" if model.spec.bag == "field" else model.finder)
        measures = [at_scale, *SAME_FIELD]
        if model.spec.bag != "field":
            measures.append(shortcomings_by(model.finder))
        features = model.features(data, cache=cache, progress=progress, also=measures)
        rows, notes = _with_cells(model, data)
        data, features = data.subset(rows), features[rows]
        statistics = np.stack(data.passes.measure([at_scale], cache=cache)[0])
        position: dict[str | None, int] = {name: i for i, name in enumerate(model.classes)}
        labels = np.array([position.get(s.label, -1) for s in data], dtype=np.int64)
        values = data.column(column) if column is not None else [None] * len(data)
        # Fields of one slide are alike, whatever groups it was divided into.
        slides = [sample.slide for sample in data]
        units = joined_units(len(data), data.fields.tolist(), values, slides)
        return cls(
            data=data,
            features=features,
            roots=signed_sqrt(features).astype(np.float64),
            statistics=statistics,
            labels=labels,
            units=units,
            notes=notes,
        )

    @property
    def grouped(self) -> bool:
        """Whether groups, cases or slides are known."""
        return self.data.has_groups or any(sample.slide is not None for sample in self.data)

    @property
    def groups(self) -> int:
        """Number of groups, or 0 where none are known."""
        return len(np.unique(self.units)) if self.grouped else 0

    def at(self, rows: Ints) -> LabFields:
        """Return the images at positions `rows`."""
        return LabFields(
            data=self.data.subset(rows),
            features=self.features[rows],
            roots=self.roots[rows],
            statistics=self.statistics[rows],
            labels=self.labels[rows],
            units=self.units[rows],
        )

    @property
    def held_out_classes(self) -> int:
        """Number of classes of which one group can be held out and another learnt from."""
        few = alone(self.data.label_names, self.units.tolist())
        return len(set(self.labels.tolist())) - len(few)


def _with_cells(model: Classifier, data: Dataset) -> tuple[Ints, tuple[str, ...]]:
    """Return the images whose cells the model can judge, and a note of what was left out."""
    everything = np.arange(len(data))
    if model.spec.bag == "field":
        return everything, ()
    found = as_reasons(data.passes.measure([shortcomings_by(model.finder)])[0])
    bad = [i for i, reasons in enumerate(found) if reasons]
    if not bad:
        return everything, ()
    names = ", ".join(data.samples[i].image for i in bad[:5])
    more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
    note = (
        f"{len(bad)} of {len(data)} images teach nothing: the model looks at cells, and finds none or "
        f"no scale in them"
    )
    if len(bad) == len(data):
        raise DatasetError(f"{data.name}: {note}. Give fields with white cells and red cells.")
    # Named here and not in the record: a saved model holds no file names.
    warnings.warn(f"{data.name}: {note}: {names}{more}.", stacklevel=5)
    note += "."
    return np.setdiff1d(everything, bad), (note,)


def join_fields(parts: Sequence[LabFields]) -> LabFields:
    """Return the images of several `LabFields` as one, in their order."""
    samples = [s for part in parts for s in part.data]
    first = parts[0].data
    measured = reduce(Measured.and_then, [part.data.passes.measured for part in parts])
    return LabFields(
        data=Dataset(samples, first.classes, name=first.name, measured=measured),
        features=np.concatenate([part.features for part in parts]),
        roots=np.concatenate([part.roots for part in parts]),
        statistics=np.concatenate([part.statistics for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        units=np.concatenate([part.units for part in parts]),
    )


def confound(lab: LabFields) -> str | None:
    """Return why right answers on these slides would show no improvement, or `None`."""
    labels = lab.data.label_names
    units = lab.units.tolist()
    if not nested(labels, units):
        return None
    every = "Every group holds one class" if lab.grouped else "No groups are known"
    few = alone(labels, units, FEWEST_GROUPS)
    if few:
        return (
            f"{every}, and {', '.join(few)} come{'s' if len(few) == 1 else ''} from fewer than "
            f"{FEWEST_GROUPS} groups. {TAUGHT}"
        )
    values = strongest_probe(lab.data)
    chance = 1 / max(1, len(set(labels)))
    if values["name"] is None:
        return f"{every}, and {values['reason']}. {TAUGHT}"
    probe = Probe(values["name"], values["balanced_accuracy"], *values["interval"])
    if probe.balanced_accuracy >= threshold(probe, chance):
        return (
            f"{every}, and {probe.name.replace('_', ' ')} alone, without the cells, separates the "
            f"classes (balanced accuracy {probe.balanced_accuracy:.2f}, chance {chance:.2f}), so "
            f"held-out groups look like those that were adapted with. {TAUGHT}"
        )
    return None
