"""The record of an evaluation: metrics, intervals, curves, and a row an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from allkit.data.labels import display_name
from allkit.errors import DatasetError
from allkit.evaluation.answers import OF_A_CLASS, Answers, rates
from allkit.evaluation.confusion import Confusion
from allkit.evaluation.exact import Extent
from allkit.evaluation.intervals import ends, words_of_exact
from allkit.evaluation.judged_images import JudgedImages
from allkit.evaluation.probe_words import probe_words
from allkit.evaluation.text import FEW, evaluation_text
from allkit.files import write_whole
from allkit.shown.text import how_many
from allkit.types import Doubles, Ints

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["RESAMPLES", "Evaluation", "bootstrap", "by_fold", "evaluate"]


RESAMPLES = 1000
PERCENTILES = (2.5, 97.5)
CELLS = 60_000  # of a table of weights, which bounds the memory
VERDICTS = ("accepted", "review", "refused")
FOLD_METRICS = ("accuracy", "balanced_accuracy", "ece", "classwise_ece", "brier", "log_loss")


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a model on a labelled set. Every image counts, whatever its verdict.

    `confusion` is `(K, K)` counts, rows true and columns predicted, in the order of `classes`;
    `confusion()` gives them as a data frame, and `confusion.plot()` as a figure.
    `metrics` holds all metrics that are a single number, by name, and `intervals` their 95 %
    percentile intervals of a bootstrap over groups (over images where no groups are known;
    `interval_unit` says which). Where a metric was the same in every resampled set, its
    interval is an exact one (`allkit.evaluation.intervals`), which `exact` explains by name.
    `class_intervals` are those of recall, precision and F1 of each class. `ece` is
    the expected calibration error over 15 bins of equal mass. A class without images has support 0
    and is left out of the averages. Values that need a calibration are `None` without one. `notes`
    are cautions; show them wherever the metrics are shown. `images` holds a row an image (`to_frame`,
    `misclassified`, `worst`); it is not part of `to_dict`.
    """

    classes: tuple[str, ...]
    n: int
    metrics: dict[str, float | None]
    per_class: dict[str, dict[str, float | int | None]]
    confusion: Confusion
    intervals: dict[str, list[float]]
    interval_unit: str
    units: int
    verdicts: dict[str, int]
    curves: dict[str, Any]
    notes: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    exact: dict[str, str] = field(default_factory=dict)
    class_intervals: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    images: JudgedImages | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.confusion, Confusion):
            object.__setattr__(self, "confusion", Confusion(self.confusion, self.classes))

    def __str__(self) -> str:
        return evaluation_text(self.to_dict())

    def __repr__(self) -> str:
        shown = [
            f"{name} {value:.3f} ({'–'.join(ends(*self.intervals[key]))})"
            for key, name in (("accuracy", "accuracy"), ("balanced_accuracy", "balanced"))
            if (value := self.metrics.get(key)) is not None and key in self.intervals
        ]
        only = "only " if self.units < FEW else ""
        count = how_many(self.n, self.extra.get("by", "image"))
        shown.append(f"{count} in {only}{how_many(self.units, self.interval_unit)}")
        if self.notes:
            shown.append(how_many(len(self.notes), "caution"))
        return f"<Evaluation: {', '.join(shown)}>"

    def _repr_html_(self) -> str:
        from allkit.evaluation.page import evaluation_fragment

        return evaluation_fragment(self.to_dict(), self._display_names())

    @property
    def accuracy(self) -> float:
        """Share of images whose most probable class is the true one."""
        return self.metrics["accuracy"] or 0.0

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall over the classes that have images."""
        return self.metrics["balanced_accuracy"] or 0.0

    @property
    def macro_f1(self) -> float:
        """Mean F1 score over the classes that have images."""
        return self.metrics["macro_f1"] or 0.0

    @property
    def ece(self) -> float | None:
        """Expected calibration error of the most probable class."""
        return self.metrics["ece"]

    @property
    def accepted_accuracy(self) -> float | None:
        """Share of the accepted answers that are right; `None` when none was accepted."""
        return self.metrics["accepted_accuracy"]

    @property
    def silent_error_rate(self) -> float:
        """Share of all images that were accepted with a wrong label."""
        return self.metrics["silent_error_rate"] or 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation as plain values, in the form of `allkit evaluate --json`."""
        return {
            "classes": list(self.classes),
            "n": self.n,
            **self.metrics,
            "per_class": self.per_class,
            "confusion": self.confusion.to_list(),
            "intervals": self.intervals,
            "exact": self.exact,
            "class_intervals": self.class_intervals,
            "interval_unit": self.interval_unit,
            "units": self.units,
            "verdicts": self.verdicts,
            "curves": self.curves,
            "notes": list(self.notes),
            **self.extra,
        }

    # ── image by image ─────────────────────────────────────────────────────────────────────

    @property
    def misclassified(self) -> JudgedImages:
        """The images whose most probable class is not the true one, in the order of the set.

        A sequence with a row an image, which a notebook shows as pictures; `to_frame()` makes a
        table of it.
        """
        images = self._images()
        return images.at(np.flatnonzero(images.wrong))

    def worst(self, n: int = 9) -> JudgedImages:
        """Return the `n` worst answers, which a notebook shows as pictures with the reasons.

        Silent errors (accepted and wrong) come first, then the other errors, then right answers; within
        each, the lower the probability of the true class, the worse.
        """
        return self._images().worst(n)

    def to_frame(self) -> pd.DataFrame:
        """Return a data frame with a row an image; its columns are those of `JudgedImages.to_frame`."""
        return self._images().to_frame()

    def _images(self) -> JudgedImages:
        if self.images is None:
            raise DatasetError(
                "This evaluation holds no row an image. Evaluate the model on a set again: "
                "`model.evaluate(dataset)`."
            )
        return self.images

    # ── shown ──────────────────────────────────────────────────────────────────────────────

    def plot(self) -> Figure:
        """Return one matplotlib figure: confusion, recall of each class, calibration, risk–coverage."""
        from allkit.evaluation.plots import evaluation_figure

        return evaluation_figure(self.to_dict(), self._display_names())

    def to_html(self, path: str | Path, *, title: str = "Evaluation") -> Path:
        """Write the page of `allkit evaluate --html`, whole or not at all, and return its path.

        It shows some of the images: consider to whom you send it.
        """
        from allkit.evaluation.page import evaluation_page

        names = self._display_names()
        write_whole(
            Path(path),
            evaluation_page(self.to_dict(), title=title, names=names, images=self.images),
        )
        return Path(path)

    def _display_names(self) -> dict[str, str]:
        return {name: display_name(name) for name in self.classes}


def evaluate(
    truth: Ints,
    probabilities: npt.NDArray[np.floating[Any]],
    classes: Sequence[str],
    *,
    verdicts: Sequence[str] | None,
    units: Ints | None,
    unit: str | None = None,
    sets: npt.NDArray[np.bool_] | None = None,
    notes: Sequence[str] = (),
    extra: dict[str, Any] | None = None,
    images: JudgedImages | None = None,
    seed: int = 0,
) -> Evaluation:
    """Return the evaluation of N images: `truth` `(N,)`, `probabilities` and `sets` `(N, K)`.

    `verdicts` is `None` where they cannot be judged, because their limits were set on these images.
    `units` `(N,)` numbers the groups to resample; `None` resamples images. `unit` says what they
    are, if not groups. `sets` is `None` for
    a model without calibration. `images` are the rows of the same images, where they are known.
    """
    accepted = None
    if verdicts is not None:
        accepted = np.array([verdict == "accepted" for verdict in verdicts], dtype=bool)
    answers = Answers(
        classes=tuple(classes),
        truth=truth,
        probabilities=probabilities.astype(np.float64),
        accepted=accepted,
        sets=sets,
    )
    once = np.ones((1, len(truth)))
    values = {name: _plain(row[0]) for name, row in answers.with_classes(once).items()}
    intervals = bootstrap(answers.with_classes, len(truth), units, seed)
    unit = unit or ("image" if units is None else "group")
    extent = Extent.of(answers, units)
    metrics = {name: value for name, value in values.items() if name not in extent.by_class}
    exact = extent.exact(values, intervals)
    intervals |= exact
    of_classes = {
        name: {
            key: intervals.pop(f"{key} {name}")
            for key in OF_A_CLASS
            if f"{key} {name}" in intervals
        }
        for name in classes
    }
    further = dict(extra or {})
    if "shortcut_probe" in further:
        further["shortcut_probe"] = against(
            further["shortcut_probe"], metrics["balanced_accuracy"], intervals
        )
    per_class: dict[str, dict[str, float | int | None]] = {
        name: {key: _plain(values[0]) for key, values in row.items()}
        | {"support": int(row["support"][0])}
        for name, row in answers.per_class(once).items()
    }
    return Evaluation(
        classes=tuple(classes),
        n=len(truth),
        metrics=metrics,
        per_class=per_class,
        confusion=Confusion(answers.confusion(once)[0].astype(int).tolist(), classes),
        intervals=intervals,
        interval_unit=unit,
        units=extent.units,
        verdicts={} if verdicts is None else {v: list(verdicts).count(v) for v in VERDICTS},
        curves=_curves(answers),
        notes=tuple(notes),
        extra=further,
        exact={
            name: words_of_exact(
                name,
                metrics[name] or 0.0,
                interval,
                count=extent.count(name),
                unit=unit,
                rest=extent.rest(name),
            )
            for name, interval in exact.items()
            if name in metrics
        },
        class_intervals=of_classes,
        images=images,
    )


def against(
    probe: Mapping[str, Any], balanced: float | None, intervals: Mapping[str, list[float]]
) -> dict[str, Any]:
    """Return a shortcut probe, completed by whether a balanced accuracy exceeds it.

    It does if the lower end of its interval is above the probe's balanced accuracy. Otherwise `note`
    says so in words; else it is `None`.
    """
    if probe.get("name") is None or balanced is None:
        return dict(probe)
    value = probe["balanced_accuracy"]
    exceeded = intervals["balanced_accuracy"][0] > value
    sees = "sees no cell" if probe["blind_to_cells"] else "sees cells as colour only"
    what = f"the shortcut {probe_words(probe['name'])!r} ({value:.3f}), which {sees}"
    note = f"not better than {what}"
    if balanced > value:
        note = f"not shown to be better than {what}: the interval includes that value"
    return dict(probe) | {"exceeded": exceeded, "note": None if exceeded else note}


def bootstrap(
    metrics: Callable[[Doubles], dict[str, Doubles]],
    count: int,
    units: Ints | None,
    seed: int,
) -> dict[str, list[float]]:
    """Return the 95 % percentile interval of each metric over bootstraps that draw whole units.

    `metrics` maps weights `(R, N)` to values `(R,)` by name. A metric that is never defined has no
    interval.
    """
    unit = np.arange(count) if units is None else np.unique(units, return_inverse=True)[1]
    size = int(unit.max()) + 1
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[Doubles]] = {}
    step = max(1, min(RESAMPLES, CELLS // count))
    for start in range(0, RESAMPLES, step):
        times = min(step, RESAMPLES - start)
        draws = rng.integers(size, size=(times, size)) + size * np.arange(times)[:, None]
        often = np.bincount(draws.ravel(), minlength=times * size).reshape(times, size)
        weights = often.astype(np.float64)[:, unit]
        for name, values in metrics(weights).items():
            drawn.setdefault(name, []).append(values)
    table = np.stack([np.concatenate(parts) for parts in drawn.values()])
    defined = ~np.isnan(table)
    always = defined.all(axis=1)
    ends = np.full((len(table), 2), np.nan)
    ends[always] = np.percentile(table[always], PERCENTILES, axis=1).T
    for row in np.flatnonzero(~always & defined.any(axis=1)):
        ends[row] = np.percentile(table[row, defined[row]], PERCENTILES)
    return {
        name: [float(low), float(high)]
        for name, (low, high) in zip(drawn, ends, strict=True)
        if not np.isnan(low)
    }


def _plain(value: np.floating[Any]) -> float | None:
    return None if np.isnan(value) else float(value)


def by_fold(
    classes: Sequence[str], truth: Ints, probabilities: npt.NDArray[np.floating[Any]]
) -> dict[str, Any]:
    """Return accuracy and calibration on one fold of N images, as plain values."""
    answers = Answers(tuple(classes), truth, probabilities.astype(np.float64), None)
    metrics = answers.metrics(np.ones((1, len(truth))))
    return {
        "n": len(truth),
        **{name: _plain(metrics[name][0]) for name in FOLD_METRICS},
        "reliability": _reliability(answers),
    }


def _reliability(answers: Answers) -> dict[str, list[float] | list[int]]:
    once = np.ones((1, len(answers.truth)))
    scores, hits, mass = (
        part[0] for part in answers.reliability(once, answers.confidence, ~answers.wrong)
    )
    filled = mass > 0
    confidence, share = scores[filled] / mass[filled], hits[filled] / mass[filled]
    return {
        "confidence": [float(v) for v in confidence],
        "accuracy": [float(v) for v in share],
        "images": [int(v) for v in mass[filled]],
    }


def _curves(answers: Answers) -> dict[str, Any]:
    once = np.ones((1, len(answers.truth)))
    answered, risk = (part[0] for part in answers.risk_coverage(once))
    keep = np.unique(np.linspace(0, len(answered) - 1, 200).astype(int))
    curves: dict[str, Any] = {
        "reliability": _reliability(answers),
        "risk_coverage": {
            "coverage": [float(v) for v in answered[keep]],
            "risk": [float(v) for v in risk[keep]],
        },
        "per_class": {
            name: rates(ranking)
            for name, ranking in zip(answers.classes, answers.rankings, strict=True)
        },
    }
    if answers.malignant is not None:
        curves["malignant"] = rates(answers.malignant)
    return curves
