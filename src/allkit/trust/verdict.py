"""The one place where a verdict is decided, from plain arrays and without torch.

`Trust` holds what was fitted on images that the model had not learnt from: a temperature,
thresholds of the prediction sets, and where the training images lie, by which an image of an
unknown slide is told. The functions that fit it are in `allkit.trust.fit`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from allkit.images.statistics import ASPECTS, STATISTICS
from allkit.records import Verdict
from allkit.trust.softmax import softmax
from allkit.types import Floats

if TYPE_CHECKING:
    from allkit.images.cells import Cells

__all__ = [
    "AMBIGUOUS",
    "BY_STAIN",
    "EMPTY_SET",
    "FEW_EXAMPLES",
    "LOW_CONFIDENCE",
    "NEAREST",
    "NEIGHBOURS",
    "NOTHING_TO_SEE",
    "NOT_A_SMEAR",
    "NOT_CALIBRATED",
    "NO_FAMILIARITY",
    "NO_LABELS",
    "STRANGEST",
    "UNFAMILIAR",
    "Decision",
    "Outputs",
    "Space",
    "Trust",
    "set_table",
    "signed_root",
]


NOT_CALIBRATED = "not calibrated"
NO_FAMILIARITY = "no familiarity data"
NOTHING_TO_SEE = "nothing to see"
NOT_A_SMEAR = "not a smear"
UNFAMILIAR = "unfamiliar slide"
BY_STAIN = "accepted only because the head followed the stain"
NO_LABELS = "like slides that were shown without labels"
AMBIGUOUS = "ambiguous"
EMPTY_SET = "empty prediction set"
LOW_CONFIDENCE = "low confidence"
FEW_EXAMPLES = "too few calibration examples"

NEIGHBOURS = 5
BLOCK = 1024  # images whose distances are in hand at once
NEAREST = 1e-3
"""Standard deviations: what is nearer than this is as near as a copy of the image."""
STRANGEST = 10.0
"""Strangeness above which a probability does not fall further."""
FLAT = 0.05
"""Optical density between the background and the dark end below which a picture is empty."""


class Outputs(NamedTuple):
    """What a network gives for N images: logits `(N, K)` and pooled features `(N, D)`, float32.

    Where the bag holds cells, `cells` are those of each image.
    """

    logits: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    cells: Sequence[Cells] | None = None

    @classmethod
    def of_probabilities(cls, probabilities: npt.NDArray[np.float32]) -> Self:
        """Take what a file gives that was exported with probabilities `(N, K)` only."""
        logits = np.log(np.maximum(probabilities, 1e-12))
        return cls(logits, np.empty((len(probabilities), 0), np.float32))


class Decision(NamedTuple):
    """What may be done with an answer, and the classes that cannot be ruled out (positions)."""

    verdict: Verdict
    reasons: tuple[str, ...]
    prediction_set: tuple[int, ...]


@dataclass(frozen=True)
class Space:
    """The training images in a space where the differences within a slide have unit variance.

    `mean` `(D,)` and `projection` `(D, d)` map a vector into it; `references` `(R, d)` are
    training images, `owners` `(R,)` the positions of their classes. `centre` and `scale` are
    median and spread of the logarithm of the distance that images of known slides have to the
    images of their own class. What is farther than `foreign` from all of them is unlike anything
    trained on. `seen` `(U, d)` are images that a laboratory showed without labels: smears, of which
    nobody said what they are.
    """

    mean: Floats
    projection: Floats
    references: Floats
    owners: npt.NDArray[np.int64]
    centre: float
    scale: float
    foreign: float
    seen: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def distances(self, vectors: Floats, classes: int) -> Floats:
        """Return `(N, K)`: root mean square distance to the five nearest images of each class.

        A class with fewer references takes what there is; one without is infinitely far.
        """
        result = np.full((len(vectors), classes), np.inf)
        for start in range(0, len(vectors), BLOCK):
            points = (vectors[start : start + BLOCK] - self.mean) @ self.projection
            squares = points @ self._doubled
            np.subtract(self._norms, squares, out=squares)
            squares += (points**2).sum(axis=1)[:, None]
            for index, own in self._by_class:
                result[start : start + BLOCK, index] = _to_nearest(squares[:, own])
        return result

    def distance_to_seen(self, vectors: Floats) -> Floats:
        """Return `(N,)`: root mean square distance to the five nearest of `seen`; else infinite."""
        result = np.full(len(vectors), np.inf)
        if not len(self.seen):
            return result
        for start in range(0, len(vectors), BLOCK):
            points = (vectors[start : start + BLOCK] - self.mean) @ self.projection
            squares = (points**2).sum(axis=1)[:, None] + (self.seen**2).sum(axis=1)
            result[start : start + BLOCK] = _to_nearest(squares - 2 * points @ self.seen.T)
        return result

    # What does not depend on the image, once: an answer takes a fraction of a millisecond then.

    @cached_property
    def _norms(self) -> Floats:
        squares: Floats = (self.references**2).sum(axis=1)
        return squares

    @cached_property
    def _doubled(self) -> Floats:
        doubled: Floats = np.ascontiguousarray(2 * self.references.T)
        return doubled

    @cached_property
    def _by_class(self) -> list[tuple[int, npt.NDArray[np.int64]]]:
        return [(int(i), np.flatnonzero(self.owners == i)) for i in np.unique(self.owners)]

    def strangeness(self, distances: Floats) -> Floats:
        """Return how unusual distances are: 0 is usual, each 1 a standard deviation farther."""
        result: Floats = (np.log(np.maximum(distances, NEAREST)) - self.centre) / self.scale
        return result


@dataclass(frozen=True)
class Trust:
    """What a model knows about how far it can be trusted; every part may be missing.

    `temperature` divides the logits of an image that is at home among the training images;
    `softening` says how it rises for each standard deviation that the image is stranger by its
    content. `thresholds` `(K,)`: a class is in the set of an image when 1 − its probability does
    not exceed its threshold; infinite where there were too few examples to promise `coverage`.
    `confidence` is the probability below which an answer is for review. An image is unfamiliar
    when its strangeness, summed over `appearance` and `content`, exceeds `familiar`. `ranges`
    `(M, 2)` are the 0.5 and 99.5 % quantiles of the training images' statistics; `cell_floor` the
    share of stained cells below which there is nothing to see. `offset` `(K,)` gives, added to the
    logits, those before the head followed a stain without labels: what was not accepted by them
    is not accepted.
    """

    classes: tuple[str, ...]
    temperature: float | None = None
    softening: float = 0.0
    coverage: float = 0.95
    thresholds: Floats | None = None
    confidence: float = 0.0
    appearance: Space | None = None
    content: Space | None = None
    familiar: float = np.inf
    ranges: Floats | None = None
    cell_floor: float = 0.0
    offset: Floats | None = None

    @property
    def calibrated(self) -> bool:
        """Whether probabilities are calibrated and prediction sets can be made."""
        return self.temperature is not None and self.thresholds is not None

    def probabilities(self, outputs: Outputs) -> npt.NDArray[np.float32]:
        """Return `(N, K)` float32 probabilities, calibrated where the model is."""
        if self.content is None or not self.softening:
            return self.softened(outputs.logits, np.zeros(len(outputs.logits)))
        return self.softened(outputs.logits, self._strange(self.content, outputs))

    def softened(self, logits: Floats, strangeness: Floats) -> npt.NDArray[np.float32]:
        """Return the probabilities of N images from logits `(N, K)` and strangeness `(N,)`."""
        rise = np.exp(self.softening * np.clip(strangeness, 0, STRANGEST))
        scaled = logits.astype(np.float64) / ((self.temperature or 1.0) * rise)[:, None]
        return softmax(scaled).astype(np.float32)

    def _strange(self, space: Space, outputs: Outputs) -> Floats:
        """Return the strangeness `(N,)` of features among the class that was answered."""
        distance = space.distances(signed_root(outputs.features), len(self.classes))
        label = outputs.logits.argmax(axis=1)
        return space.strangeness(distance[np.arange(len(label)), label])

    def decide(self, outputs: Outputs, statistics: Floats) -> list[Decision]:
        """Return the verdict on each of N images; `statistics` is `(N, M)`."""
        return self.judge(outputs, statistics)[1]

    def judge(
        self, outputs: Outputs, statistics: Floats
    ) -> tuple[npt.NDArray[np.float32], list[Decision]]:
        """Return the probabilities `(N, K)` and the verdict on each of N images."""
        probabilities, decisions = self._judged(outputs, statistics)
        if self.offset is None or not len(statistics):
            return probabilities, decisions
        before = outputs._replace(logits=(outputs.logits + self.offset).astype(np.float32))
        _, earlier = self._judged(before, statistics)
        same = before.logits.argmax(axis=1) == outputs.logits.argmax(axis=1)
        return probabilities, [
            Decision("review", (BY_STAIN,), now.prediction_set)
            if now.verdict == "accepted" and (not alike or then.verdict != "accepted")
            else now
            for now, then, alike in zip(decisions, earlier, same, strict=True)
        ]

    def _judged(
        self, outputs: Outputs, statistics: Floats
    ) -> tuple[npt.NDArray[np.float32], list[Decision]]:
        """Return the probabilities and verdicts by the logits as they are."""
        if not len(statistics):
            return np.empty((0, len(self.classes)), np.float32), []
        label = outputs.logits.argmax(axis=1)
        rows = np.arange(len(label))
        strange: Floats = np.zeros(len(label))
        foreign = np.zeros(len(label), dtype=bool)
        by_content: Floats = np.zeros(len(label))
        if self.appearance is not None:
            distance = self.appearance.distances(statistics, len(self.classes))
            strange = strange + self.appearance.strangeness(distance[rows, label])
            # Not `>`: a distance that is not a number must not pass for near.
            foreign |= ~(distance.min(axis=1) <= self.appearance.foreign)
        if self.content is not None:
            distance = self.content.distances(signed_root(outputs.features), len(self.classes))
            by_content = self.content.strangeness(distance[rows, label])
            strange = strange + by_content
            foreign |= ~(distance.min(axis=1) <= self.content.foreign)
        unfamiliar = ~(strange <= self.familiar)
        shown = self._shown(outputs, statistics)
        probabilities = self.softened(outputs.logits, by_content)
        members = self.sets(probabilities)
        empty = self._empty(statistics)
        known = self.appearance is not None or self.content is not None
        decisions = []
        for row in rows:
            chosen = tuple(int(i) for i in np.flatnonzero(members[row])) if self.calibrated else ()
            if empty[row]:
                decisions.append(Decision("refused", (NOTHING_TO_SEE,), chosen))
                continue
            # What was shown without labels is a smear, and stays for review: nobody said of which class.
            if foreign[row] and not shown[row]:
                reasons = (NOT_A_SMEAR, *self._unusual(statistics[row]))
                decisions.append(Decision("refused", reasons, chosen))
                continue
            found: list[str] = []
            if not self.calibrated:
                found.append(NOT_CALIBRATED)
            if not known:
                found.append(NO_FAMILIARITY)
            if unfamiliar[row] or foreign[row]:
                found += [UNFAMILIAR, *self._unusual(statistics[row])]
                found += [NO_LABELS] if shown[row] else []
            if self.calibrated and self.thresholds is not None:
                if not chosen:
                    found.append(EMPTY_SET)
                elif len(chosen) > 1:
                    found.append(AMBIGUOUS)
                    if any(np.isinf(self.thresholds[i]) for i in chosen):
                        found.append(FEW_EXAMPLES)
                if probabilities[row, label[row]] < self.confidence:
                    found.append(LOW_CONFIDENCE)
            decisions.append(Decision("review" if found else "accepted", tuple(found), chosen))
        return probabilities, decisions

    def _shown(self, outputs: Outputs, statistics: Floats) -> npt.NDArray[np.bool_]:
        """Return which images are as near to those shown without labels as known slides are."""
        spaces = (self.appearance, self.content)
        if any(space is None or not len(space.seen) for space in spaces):
            return np.zeros(len(statistics), dtype=bool)
        vectors = (statistics, signed_root(outputs.features))
        total = np.sum(
            [
                space.strangeness(space.distance_to_seen(rows))
                for space, rows in zip(spaces, vectors, strict=True)
                if space is not None
            ],
            axis=0,
        )
        near: npt.NDArray[np.bool_] = total <= self.familiar
        return near

    def sets(self, probabilities: Floats) -> npt.NDArray[np.bool_]:
        """Return which classes are in the prediction sets, `(N, K)`; none without calibration."""
        if self.thresholds is None:
            return np.zeros(probabilities.shape, dtype=bool)
        members: npt.NDArray[np.bool_] = (1 - probabilities.astype(np.float64)) <= self.thresholds
        return members

    def _empty(self, statistics: Floats) -> npt.NDArray[np.bool_]:
        contrast = np.max(statistics[:, _DARKEST] - statistics[:, _BACKGROUND], axis=1)
        share = np.exp(statistics[:, _SHARE]) - 0.003
        result: npt.NDArray[np.bool_] = (contrast < FLAT) | (share < self.cell_floor)
        return result

    def _unusual(self, statistics: Floats) -> tuple[str, ...]:
        """Name the two aspects that lie farthest outside the range of the training images."""
        if self.ranges is None:
            return ()
        low, high = self.ranges[:, 0], self.ranges[:, 1]
        width = np.maximum(high - low, 1e-6)
        outside = np.maximum(low - statistics, statistics - high) / width
        names: list[str] = []
        for index in np.argsort(-outside):
            aspect = ASPECTS[STATISTICS[index].split("_")[0]]
            if outside[index] <= 0 or len(names) == 2:
                break
            if aspect not in names:
                names.append(aspect)
        return tuple(f"unusual {name}" for name in names)

    def summary(self) -> dict[str, Any]:
        """Return what was fitted in a few plain numbers, for the model card."""
        spaces = {name: getattr(self, name) for name in ("appearance", "content")}
        known = (
            {} if self.thresholds is None else dict(zip(self.classes, self.thresholds, strict=True))
        )
        return {
            "temperature": self.temperature,
            "coverage": self.coverage,
            "softening": self.softening,
            "confidence": self.confidence,
            "familiar": self.familiar,
            "promised": [name for name, value in known.items() if np.isfinite(value)],
            "familiarity": {
                name: {
                    "references": len(space.references), "dimensions": space.references.shape[1],
                    "foreign": space.foreign,
                }
                for name, space in spaces.items() if space is not None
            },
        }  # fmt: skip

    # ── keeping ────────────────────────────────────────────────────────────────────────────

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything as arrays, under `calibration.` and `familiarity.`."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        if self.temperature is not None and self.thresholds is not None:
            arrays["calibration.temperature"] = np.array([self.temperature])
            arrays["calibration.softening"] = np.array([self.softening])
            arrays["calibration.coverage"] = np.array([self.coverage])
            arrays["calibration.thresholds"] = np.asarray(self.thresholds, np.float64)
            arrays["calibration.confidence"] = np.array([self.confidence])
        for name in ("appearance", "content"):
            space = getattr(self, name)
            if space is not None:
                for part in fields(Space):
                    value = getattr(space, part.name)
                    if part.name == "seen" and not len(value):
                        continue
                    arrays[f"familiarity.{name}.{part.name}"] = (
                        np.asarray(value) if isinstance(value, np.ndarray) else np.array([value])
                    )
        if self.offset is not None:
            arrays["familiarity.offset"] = np.asarray(self.offset, np.float32)
        if self.ranges is not None:
            arrays["familiarity.familiar"] = np.array([self.familiar])
            arrays["familiarity.ranges"] = np.asarray(self.ranges, np.float32)
            arrays["familiarity.cell_floor"] = np.array([self.cell_floor])
        return arrays

    def to_bytes(self) -> bytes:
        """Return everything as a safetensors file, for exported files."""
        from safetensors.numpy import save

        arrays = {name: np.ascontiguousarray(a) for name, a in self.to_arrays().items()}
        data: bytes = save(arrays)
        return data

    @classmethod
    def from_bytes(cls, classes: Sequence[str], data: bytes | None) -> Self:
        """Take what `to_bytes` made; `None` for a file that was exported without."""
        from safetensors.numpy import load

        return cls.from_arrays(classes, load(data) if data else {})

    @classmethod
    def from_arrays(cls, classes: Sequence[str], arrays: Mapping[str, Any]) -> Self:
        """Take the arrays that `to_arrays` made; what is not there is left out."""
        values = {name: np.asarray(value) for name, value in arrays.items()}
        parts: dict[str, Any] = {}
        if "calibration.temperature" in values:
            for name in ("temperature", "softening", "coverage", "confidence"):
                parts[name] = float(values[f"calibration.{name}"][0])
            parts["thresholds"] = values["calibration.thresholds"]
        for name in ("appearance", "content"):
            own = {f.name: values.get(f"familiarity.{name}.{f.name}") for f in fields(Space)}
            if own["seen"] is None:
                del own["seen"]
            if all(value is not None for value in own.values()):
                for number in ("centre", "scale", "foreign"):
                    # Arrays by name become the arguments of a record of the same names.
                    own[number] = float(own[number][0])  # type: ignore[index, assignment]
                parts[name] = Space(**own)  # type: ignore[arg-type]  # as above
        if "familiarity.offset" in values:
            parts["offset"] = values["familiarity.offset"]
        if "familiarity.ranges" in values:
            parts["familiar"] = float(values["familiarity.familiar"][0])
            parts["ranges"] = values["familiarity.ranges"]
            parts["cell_floor"] = float(values["familiarity.cell_floor"][0])
        return cls(tuple(classes), **parts)


def _to_nearest(squares: Floats) -> Floats:
    """Return `(N,)`: root mean square of the five smallest distances, from their squares `(N, R)`.

    `allkit.network.pipeline` does the same in torch, for what is exported.
    """
    count = min(NEIGHBOURS, squares.shape[1])
    nearest = np.partition(squares, count - 1, axis=1)[:, :count]
    result: Floats = np.sqrt(np.maximum(nearest, 0).mean(axis=1))
    return result


def set_table(decisions: Sequence[Decision], classes: int) -> npt.NDArray[np.bool_]:
    """Return the prediction sets as a table, `(N, K)` bool."""
    table = np.zeros((len(decisions), classes), dtype=bool)
    for row, decision in enumerate(decisions):
        table[row, list(decision.prediction_set)] = True
    return table


def signed_root(features: Floats) -> Floats:
    """Return sign(x) · √|x|, elementwise, as the head sees the features."""
    result: Floats = np.sign(features) * np.sqrt(np.abs(features))
    return result


_BACKGROUND = [STATISTICS.index(f"background_{c}") for c in "rgb"]
_DARKEST = [STATISTICS.index(f"darkest_{c}") for c in "rgb"]
_SHARE = STATISTICS.index("cell_share")
