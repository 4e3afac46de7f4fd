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

from allkit.data.columns import table_of
from allkit.data.passes import Frame, Measure
from allkit.data.rows import Sample
from allkit.data.sources import BytesSource
from allkit.evaluation.intervals import WIDTH, less_of_classes, widened
from allkit.types import Ints

__all__ = ["BLIND", "COARSE", "CORNER", "QUICK", "Probe", "background_of", "collect", "corners_of"]
__all__ += ["MADE_FILES", "PROBE_INPUTS", "leave_out", "measure", "score", "seen_of", "strongest"]
__all__ += ["threshold", "too_few"]

BLIND = ("border", "corner_tl", "corner_tr", "corner_bl", "corner_br", "background", "file")
COARSE = ("mean_colour", "colour_histogram", "thumbnail")
QUICK = (*BLIND, "mean_colour", "colour_histogram")
"""The probes of every evaluation; the audit adds the most expensive one."""

Features = dict[str, npt.NDArray[np.float32]]

MADE_FILES = (
    "What the files tell is not measured: images in memory are in PNG files that allkit made."
)
"""Said where a set has no files of its own."""
_BORDER = 8  # pixels
CORNER = (1 / 8, 3 / 16)
"""What the probe of a corner sees of the height and the width: room for a scale bar."""
_RESAMPLES = 1000
_FEW_TREES = 10
"""Trees by which it is seen which probes may be the strongest."""
_FAR_BEHIND = 0.1
"""Balanced accuracy by which a probe has to be behind with few trees not to be tried with all."""
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

    red, green, blue = cv2.split(image)
    spread = cv2.max(cv2.max(red, green), blue) - cv2.min(cv2.min(red, green), blue)
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
        np.concatenate(cv2.meanStdDev(part)).ravel()
        for strip in strips
        for part in np.array_split(strip, 6, axis=int(np.argmax(strip.shape[:2])))
    ]
    levels = _levels(image, None)
    clear = _levels(image, background_of(image))
    seen: dict[str, Any] = {
        **corners_of(image),
        "border": np.concatenate(border),
        "background": np.concatenate(
            [_mean(clear), _deviation(clear), *(_quantile(clear, q) for q in (0.1, 0.5, 0.9))]
        ),
        "file": _file(file, height, width),
        "mean_colour": _mean(levels),
        "colour_histogram": levels.reshape(3, 16, 16).sum(axis=2) / (height * width),
        "thumbnail": cv2.resize(image, (8, 8), interpolation=3),  # 3: area
    }
    return {name: np.asarray(value, np.float32).ravel() for name, value in seen.items()}


def corners_of(image: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.uint8]]:
    """Return what the probes of the corners see of an image: `(8, 10, 3)` uint8 by their names."""
    import cv2

    height, width = image.shape[:2]
    rows, columns = max(4, round(height * CORNER[0])), max(4, round(width * CORNER[1]))
    corners = {
        "corner_tl": image[:rows, :columns],
        "corner_tr": image[:rows, -columns:],
        "corner_bl": image[-rows:, :columns],
        "corner_br": image[-rows:, -columns:],
    }
    return {
        name: np.asarray(cv2.resize(part, (10, 8), interpolation=3), np.uint8)
        for name, part in corners.items()
    }


def _levels(
    image: npt.NDArray[np.uint8], where: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.float64]:
    """Return how many pixels of an image have each level of each colour, `(3, 256)`.

    All pixels, or those of the mask `where` `(H, W)`. What is said of the colours follows from it, and
    takes a tenth of the time.
    """
    import cv2

    mask = None if where is None else where.view(np.uint8)
    tables = [cv2.calcHist([image], [c], mask, [256], [0, 256]) for c in range(3)]
    return np.stack(tables).reshape(3, 256).astype(np.float64)


def _mean(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the mean of each colour, `(3,)`, from its `_levels`."""
    return np.asarray(levels @ np.arange(256) / levels.sum(axis=1))


def _deviation(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the standard deviation of each colour, `(3,)`."""
    away = np.arange(256) - _mean(levels)[:, None]
    return np.asarray(np.sqrt((levels * away**2).sum(axis=1) / levels.sum(axis=1)))


def _quantile(levels: npt.NDArray[np.float64], share: float) -> npt.NDArray[np.float64]:
    """Return a quantile of each colour, `(3,)`, between two levels by how near each is."""
    before = np.cumsum(levels, axis=1)
    place = share * (before[:, -1] - 1)
    lower, upper = (
        np.array([np.searchsorted(b, p, "right") for b, p in zip(before, at, strict=True)])
        for at in (np.floor(place), np.ceil(place))
    )
    return np.asarray(lower + (upper - lower) * (place - np.floor(place)))


PNG = b"\x89PNG"

_WIDTHS = {
    **dict.fromkeys(("corner_tl", "corner_tr", "corner_bl", "corner_br"), 240),
    "border": 144,
    "background": 15,
    "file": 7,
    "mean_colour": 3,
    "colour_histogram": 48,
    "thumbnail": 192,
}
"""How many numbers each probe sees of an image."""


def _inputs(frame: Frame) -> npt.NDArray[np.float32]:
    seen = measure(frame.pixels, frame.file)
    return np.concatenate([seen[name] for name in _WIDTHS])


PROBE_INPUTS = Measure("probe inputs/1", _inputs, cached=True)
"""What all probes see of an image (`measure`), one after another."""


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


def seen_of(samples: Sequence[Sample], names: Sequence[str]) -> tuple[str, ...]:
    """Return those of the probes that mean something for a set: without `file` where allkit made its files.

    That is a set of PNG files in memory: size and compression are then those of pixels only.
    """
    made = all(
        isinstance(sample.source, BytesSource) and sample.source.head().startswith(PNG)
        for sample in samples
    )
    return tuple(name for name in names if name != "file" or not made)


def collect(values: Sequence[npt.NDArray[np.float32]]) -> Features:
    """Return what each probe sees of N images, (N, D) float32 by name, from their `PROBE_INPUTS`."""
    if not len(values):
        return {}
    parts = np.split(table_of(values), np.cumsum(list(_WIDTHS.values()))[:-1], axis=1)
    return dict(zip(_WIDTHS, parts, strict=True))


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
    divisions = _folds(labels, units, folds, seed)
    probes = []
    for name in names:
        votes = _votes(features[name], labels, divisions, seeds=_seeds(trees, seed))
        probes.append(Probe(name, *_balanced(votes.argmax(axis=1), labels, units, seed)))
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
    divisions = _without_each(groups, units)
    votes = _votes(values, labels, divisions, seeds=_seeds(trees, seed))
    return Probe("leave one out", *_balanced(votes.argmax(axis=1), labels, groups, seed))


def strongest(
    features: Features,
    labels: Ints,
    units: Ints,
    *,
    names: Sequence[str] = QUICK,
    groups: Ints | None = None,
    folds: int = 3,
    trees: int = 50,
    seed: int = 0,
) -> Probe:
    """Return the best probe as `score` finds it, or with `groups` as `leave_out` does.

    All probes are tried with a few trees, and those that may be the best with all of them.
    """
    if groups is None:
        divisions, together = _folds(labels, units, folds, seed), units
    else:
        divisions, together = _without_each(groups, units), groups
    seeds = _seeds(trees, seed)
    votes = {
        name: _votes(features[name], labels, divisions, seeds=seeds[:_FEW_TREES]) for name in names
    }
    first = {name: _accuracy(table.argmax(axis=1), labels) for name, table in votes.items()}
    found = []
    for name, accuracy in first.items():
        if accuracy < max(first.values()) - _FAR_BEHIND:
            continue
        votes[name] += _votes(features[name], labels, divisions, seeds=seeds[_FEW_TREES:])
        found.append(Probe(name, *_balanced(votes[name].argmax(axis=1), labels, together, seed)))
    return max(found, key=lambda probe: probe.balanced_accuracy)


Divisions = Sequence[tuple[Any, Any]]
"""Positions of images that a probe learns from, and of those on which it is judged."""


def _folds(labels: Ints, units: Ints, folds: int, seed: int) -> Divisions:
    from sklearn.model_selection import StratifiedGroupKFold

    least = min(len(np.unique(units[labels == c])) for c in np.unique(labels))
    divider = StratifiedGroupKFold(max(2, min(folds, least)), shuffle=True, random_state=seed)
    return list(divider.split(np.zeros(len(labels)), labels, units))


def _without_each(groups: Ints, units: Ints) -> Divisions:
    divisions = []
    for group in np.unique(groups):
        test = groups == group
        learn = ~np.isin(units, units[test])
        if learn.any():
            divisions.append((np.flatnonzero(learn), np.flatnonzero(test)))
    return divisions


def _seeds(trees: int, seed: int) -> Ints:
    """Return the seed of each tree: those that scikit-learn's forest gives to its trees."""
    state = np.random.RandomState(seed)
    return np.array([state.randint(np.iinfo(np.int32).max) for _ in range(trees)])


def _votes(
    values: npt.NDArray[np.float32], labels: Ints, divisions: Divisions, *, seeds: Ints
) -> npt.NDArray[np.float64]:
    """Return the sum over trees of the probability of each class, for images they did not learn from.

    `(N, K + 1)`: the last column is 1 for an image that is in no division, and so of no class. The trees
    are those of scikit-learn's forest, which takes twice as long to look after them.
    """
    from sklearn import config_context
    from sklearn.tree import ExtraTreeClassifier
    from sklearn.utils.class_weight import compute_sample_weight

    values = np.ascontiguousarray(values, np.float32)
    votes = np.zeros((len(labels), int(labels.max()) + 2))
    votes[:, -1] = 1e-9
    # What does not change from tree to tree need not be checked for each.
    with config_context(assume_finite=True, skip_parameter_validation=True):
        for learn, test in divisions:
            target = labels[learn]
            weight = compute_sample_weight("balanced", target)
            known, seen, unseen = np.unique(target), values[learn], values[test]
            for seed in seeds.tolist():
                tree = ExtraTreeClassifier(max_features="sqrt", random_state=seed)
                tree.fit(seen, target, sample_weight=weight, check_input=False)
                votes[np.ix_(test, known)] += tree.predict_proba(unseen, check_input=False)
    return votes


def _accuracy(predicted: Ints, labels: Ints) -> float:
    """Return the balanced accuracy of predicted classes `(N,)`."""
    return float(np.mean([(predicted[labels == c] == c).mean() for c in np.unique(labels)]))


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
