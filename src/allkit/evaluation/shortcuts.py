"""Shortcut probes: simple classifiers that see everything about an image but its cells.

If such a probe can name the classes, a network may use the same shortcut. The *blind* probes
see no cell at all; the *coarse* ones see cells, but as colour only. Each probe is a forest of
extremely randomised trees (Geurts et al. 2006) on a few numbers per image, judged by
cross-validation that keeps related images on one side.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.data.passes import Frame, Measure
from allkit.evaluation.intervals import WIDTH, less_of_classes, widened
from allkit.types import Ints

__all__ = ["BLIND", "COARSE", "QUICK", "Probe", "background_of", "collect", "leave_out", "measure"]
__all__ += ["PROBE_INPUTS", "score", "threshold", "too_few"]

BLIND = ("border", "corner_tl", "corner_tr", "corner_bl", "corner_br", "background", "file")
COARSE = ("mean_colour", "colour_histogram", "thumbnail")
QUICK = (*BLIND, "mean_colour", "colour_histogram")
"""The probes of every evaluation; the audit adds the most expensive one."""

Features = dict[str, npt.NDArray[np.float32]]

_BORDER = 8  # pixels
_CORNER = (1 / 8, 3 / 16)  # of the height and the width: room for a scale bar
_RESAMPLES = 1000
# How much of the way from chance to perfect a probe must go to be called a shortcut. Coarse
# probes see cells as colour, so part of what they get is honest.
_BLIND_SHARE, _COARSE_SHARE = 0.25, 0.5


@dataclass(frozen=True)
class Probe:
    """The result of one probe: balanced accuracy, and its 95 % interval.

    `low` and `high` are percentiles of a bootstrap over the units that were kept whole; if it was
    always the same, they are an exact interval (`allkit.evaluation.intervals`).
    """

    name: str
    balanced_accuracy: float
    low: float
    high: float

    @property
    def blind(self) -> bool:
        """Whether it sees no cell at all."""
        return self.name in BLIND


def background_of(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return where `image`, (H, W, 3) uint8, shows no stained cell: (H, W) bool.

    Stain absorbs some colours more than others, so the spread of the three channels shows it.
    Otsu's threshold separates stain from background, and a margin around the stain is left out.
    """
    import cv2

    spread = image.max(axis=2) - image.min(axis=2)
    smooth = cv2.GaussianBlur(spread, (0, 0), 1.5)
    _, stained = cv2.threshold(smooth, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    reach = max(3, round(max(image.shape[:2]) / 56)) | 1
    grown = cv2.dilate(stained, np.ones((reach, reach), np.uint8))
    clear = np.asarray(grown == 0)
    # For an image without a clear place the palest tenth is used.
    return clear if clear.mean() > 0.02 else np.asarray(smooth <= np.percentile(smooth, 10))


def measure(image: npt.NDArray[np.uint8], file: bytes) -> Features:
    """Return what each probe sees of one image, float32 vectors by the probe's name."""
    import cv2

    height, width = image.shape[:2]
    edge = min(_BORDER, height // 2, width // 2)
    strips = (image[:edge], image[-edge:], image[:, :edge], image[:, -edge:])
    border = [
        np.concatenate([part.mean(axis=(0, 1)), part.std(axis=(0, 1))])
        for strip in strips
        for part in np.array_split(strip, 6, axis=int(np.argmax(strip.shape[:2])))
    ]
    rows, columns = max(4, round(height * _CORNER[0])), max(4, round(width * _CORNER[1]))
    corners = {
        "corner_tl": image[:rows, :columns],
        "corner_tr": image[:rows, -columns:],
        "corner_bl": image[-rows:, :columns],
        "corner_br": image[-rows:, -columns:],
    }
    clear = image[background_of(image)]
    background = np.concatenate(
        [clear.mean(axis=0), clear.std(axis=0), *np.percentile(clear, [10, 50, 90], axis=0)]
    )
    histogram = [np.histogram(image[:, :, c], 16, (0, 256))[0] / (height * width) for c in range(3)]
    seen: dict[str, Any] = {
        name: cv2.resize(part, (10, 8), interpolation=3) for name, part in corners.items()
    } | {
        "border": np.concatenate(border),
        "background": background,
        "file": _file(file, height, width),
        "mean_colour": image.mean(axis=(0, 1)),
        "colour_histogram": np.concatenate(histogram),
        "thumbnail": cv2.resize(image, (8, 8), interpolation=3),  # 3: area
    }
    return {name: np.asarray(value, np.float32).ravel() for name, value in seen.items()}


def _inputs(frame: Frame) -> Features:
    return measure(frame.pixels, frame.file)


PROBE_INPUTS = Measure("probe inputs", _inputs)
"""What each probe sees of an image (`measure`)."""


def _file(file: bytes, height: int, width: int) -> list[float]:
    """Return size, shape and compression of a file: never a pixel."""
    from PIL import Image

    tables: Mapping[int, Sequence[int]] = {}
    kind = 0.0
    try:
        with Image.open(io.BytesIO(file)) as header:  # the header only
            tables = getattr(header, "quantization", None) or {}
            kind = float(sum(map(ord, header.format or "")))
    except Exception:  # noqa: BLE001 - it was decoded before: what is odd about its header is nothing
        pass
    coarseness = [float(np.mean(list(tables.get(i, [0])))) for i in (0, 1)]
    return [len(file), len(file) / (height * width), height, width, kind, *coarseness]


def collect(rows: Sequence[Features]) -> Features:
    """Return what each probe sees of N images, (N, D) float32 by name, from their `measure`."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]} if rows else {}


def threshold(probe: Probe, chance: float) -> float:
    """Return the lowest balanced accuracy at which a probe is called a shortcut."""
    return chance + (_BLIND_SHARE if probe.blind else _COARSE_SHARE) * (1 - chance)


def too_few(labels: Ints, units: Ints, classes: Sequence[str]) -> str | None:
    """Return why nothing can be measured, in words, or `None`: every class needs two units."""
    present = np.unique(labels)
    if len(present) < 2:
        return "there is one class only"
    short = [classes[c] for c in present if len(np.unique(units[labels == c])) < 2]
    if short:
        return f"{', '.join(short)}: all images are related, so none can be held out"
    return None


def score(
    features: Features,
    labels: Ints,
    units: Ints,
    *,
    names: Sequence[str] = (*BLIND, *COARSE),
    folds: int = 5,
    trees: int = 100,
    seed: int = 0,
) -> list[Probe]:
    """Return the probes, best first, by stratified cross-validation with `units` kept whole.

    `labels` and `units` are (N,). Call `too_few` before: at least two units of every class.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    least = min(len(np.unique(units[labels == c])) for c in np.unique(labels))
    divider = StratifiedGroupKFold(max(2, min(folds, least)), shuffle=True, random_state=seed)
    divisions = list(divider.split(np.zeros(len(labels)), labels, units))
    probes = []
    for name in names:
        predicted = _held_out(features[name], labels, divisions, trees=trees, seed=seed)
        probes.append(Probe(name, *_balanced(predicted, labels, units, seed)))
    return sorted(probes, key=lambda probe: -probe.balanced_accuracy)


def leave_out(
    values: npt.NDArray[np.float32],
    labels: Ints,
    groups: Ints,
    units: Ints,
    *,
    trees: int = 60,
    seed: int = 0,
) -> Probe:
    """Return the result of a probe when each of `groups` is left out in turn, with related images."""
    divisions = []
    for group in np.unique(groups):
        test = groups == group
        learn = ~np.isin(units, units[test])
        if learn.any():
            divisions.append((np.flatnonzero(learn), np.flatnonzero(test)))
    predicted = _held_out(values, labels, divisions, trees=trees, seed=seed)
    return Probe("leave one out", *_balanced(predicted, labels, groups, seed))


def _held_out(
    values: npt.NDArray[np.float32],
    labels: Ints,
    divisions: Sequence[tuple[Any, Any]],
    *,
    trees: int,
    seed: int,
) -> Ints:
    """Return the class `(N,)` of each image by a forest that did not learn from it."""
    from sklearn.ensemble import ExtraTreesClassifier

    predicted = np.full(len(labels), -1, dtype=np.int64)
    for learn, test in divisions:
        forest = ExtraTreesClassifier(trees, class_weight="balanced", random_state=seed)
        predicted[test] = forest.fit(values[learn], labels[learn]).predict(values[test])
    return predicted


def _balanced(predicted: Ints, labels: Ints, units: Ints, seed: int) -> tuple[float, float, float]:
    """Return balanced accuracy with the 95 % interval of a bootstrap over units.

    If it was the same in every resampled set, the interval is an exact one.
    """
    unit = np.unique(units, return_inverse=True)[1]
    kinds, kind = np.unique(labels, return_inverse=True)
    total = np.zeros((int(unit.max()) + 1, len(kinds)))
    right = np.zeros_like(total)
    np.add.at(total, (unit, kind), 1)
    np.add.at(right, (unit, kind), predicted == labels)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(total), np.full(len(total), 1 / len(total)), _RESAMPLES)
    with np.errstate(invalid="ignore"):  # a draw may hold no unit of a class
        means = np.nanmean(drawn @ right / (drawn @ total), axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    value = float((right.sum(axis=0) / total.sum(axis=0)).mean())
    if high - low < WIDTH:
        holds = total > 0
        parts = (holds / holds.sum(axis=1, keepdims=True)).sum(axis=0)
        low, high = widened(value, less_of_classes(parts.tolist()))
    return value, float(low), float(high)
