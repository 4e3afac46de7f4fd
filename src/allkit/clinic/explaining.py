"""Making an explanation of an answer: a map of what speaks for it, and whether the map can be believed.

A model folder explains itself. Of an exported file the places of the field are covered one after another
with its background, and the answer is asked for again: the white cells, or squares where none are known.
What was not measured is not claimed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from allkit.records import Cell, Prediction, Predictor
from allkit.types import Doubles, Pixels, Singles

__all__ = ["GRID", "MOST_CELLS", "MOVES", "RAMP", "Made", "Target", "explain", "overlay"]

GRID = 7
"""Squares a side that are covered where no cells are known: 49 at most."""
MOST_CELLS = 49
"""Cells that are left out one after another: the largest ones."""
SPAN = 1.6
"""Diameter of what is covered of a cell, in diameters of its nucleus: its cytoplasm goes too."""
BATCH = 8
PIXELS = 8_000_000
"""Pixels that are in memory at once, or one field where it has more."""
SURE = 1e-6
"""Probabilities are kept this far from 0 and 1, so that log-odds are finite."""
MOVES = 0.4
"""Fall of the log-odds from which places count as moving an answer: the odds fall by a third."""
WEAK = 0.2
"""Fall of the log-odds below which no place is painted in full."""
DRAWS = 8
"""Random choices of as many places, each of which the most important ones have to outdo."""
TIE = 0.01
"""Difference of log-odds that counts as none."""
ALIKE = 0.25
"""Share of the strongest effect by which places have to differ: otherwise every choice is as good."""
LEAST = 4
"""Places below which there is no other choice to compare with."""
SIDE = 1024
"""Longest side of a map in pixels."""
OPAQUE = 190
RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
"""Red, green and blue from weak to strong: viridis, which colour-blind people see in the same order."""


class Target(NamedTuple):
    """What is explained: a class, or a group of classes; `members` are the positions of its classes."""

    name: str
    kind: str
    members: tuple[int, ...]

    @classmethod
    def of(cls, answer: Prediction, groups: Mapping[str, str], classes: Sequence[str]) -> Target:
        """Return what was answered: the group where only that was accepted, otherwise the class."""
        group = answer.coarse
        if answer.verdict != "accepted" and answer.coarse_verdict == "accepted" and group:
            members = tuple(i for i, name in enumerate(classes) if groups.get(name) == group)
            if members:
                return cls(group, "group", members)
        return cls(str(answer.label), "class", (list(classes).index(str(answer.label)),))


@dataclass
class Made:
    """What was found: a map `(H, W)` from 0 to 1, how it was made, and whether it is faithful.

    `faithful` is `None` where that was not measured. `check` holds the figures that were measured, `notes`
    are words of a fixed set: `empty`, `only_largest`, `too_few_places`, `places_alike`, `speaks_against`,
    `group_of_class`.
    """

    map: Singles = field(repr=False)
    method: str
    target: Target
    places: int = 0
    faithful: bool | None = None
    check: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def explain(
    predictor: Predictor, pixels: Pixels, answer: Prediction, groups: Mapping[str, str]
) -> Made:
    """Explain the answer for a field `(H, W, 3)`; `groups` maps each class of the model to its group."""
    target = Target.of(answer, groups, predictor.classes)
    explains = getattr(predictor, "explain", None)
    if explains is None:
        made = _covered(predictor, pixels, answer, target)
        made.notes += [] if made.map.any() else ["empty"]
        return made
    own = explains(pixels, target=str(answer.label), check=True)
    as_class = Target.of(answer, {}, predictor.classes)  # a model explains a class only
    made = Made(np.asarray(own.map, np.float32), own.method, as_class)
    made.notes += [] if as_class == target else ["group_of_class"]
    if own.check is not None:
        made.faithful = bool(own.check.faithful)
        made.check = {
            name: float(getattr(own.check, name))
            for name in (
                "deletion", "deletion_random", "insertion", "insertion_random", "random_weights",
            )
        }  # fmt: skip
    elif own.method == "cells":
        _check_cells(predictor, pixels, answer, made)
    made.notes += [] if made.map.any() else ["empty"]
    return made


class Place(NamedTuple):
    """A part of a field that is covered: `mask` within its rows and columns."""

    rows: slice
    columns: slice
    mask: npt.NDArray[np.bool_]


class _Field:
    """A field whose places are covered, with the log-odds of what is explained.

    Few images are in memory at once: fields may be large.
    """

    def __init__(self, predictor: Predictor, target: Target, pixels: Pixels) -> None:
        self.predictor, self.target, self.pixels = predictor, target, pixels
        self.cover = np.quantile(pixels.reshape(-1, 3), 0.9, axis=0).round().astype(np.uint8)
        self.batch = max(1, min(BATCH, PIXELS // (pixels.shape[0] * pixels.shape[1])))
        self.whole = float(self.odds([[]])[0])

    def odds(self, choices: Sequence[Sequence[Place]]) -> Doubles:
        """Return the log-odds `(N,)` of the field without the places of each of N choices."""
        rows = []
        for start in range(0, len(choices), self.batch):
            part = choices[start : start + self.batch]
            rows.append(self.predictor.probabilities([self._without(places) for places in part]))
        share = np.concatenate(rows).astype(np.float64)[:, list(self.target.members)].sum(axis=1)
        share = np.clip(share, SURE, 1 - SURE)
        odds: Doubles = np.log(share / (1 - share))
        return odds

    def falls(self, choices: Sequence[Sequence[Place]]) -> Doubles:
        """Return by how much the log-odds fall without the places of each choice."""
        return self.whole - self.odds(choices)

    def _without(self, places: Sequence[Place]) -> Pixels:
        image = self.pixels.copy()
        for place in places:
            image[place.rows, place.columns][place.mask] = self.cover
        return image


def _check_cells(predictor: Predictor, pixels: Pixels, answer: Prediction, made: Made) -> None:
    """Measure of a map of cells that a model made itself whether its strongest cells move the answer."""
    cells = _largest(answer.cells)
    places = cell_places(cells, pixels.shape)
    made.places = len(places)
    if places:
        effects = [float(made.map[place.rows, place.columns].max()) for place in places]
        _check(_Field(predictor, made.target, pixels), places, np.array(effects), made)


def _covered(predictor: Predictor, pixels: Pixels, answer: Prediction, target: Target) -> Made:
    """Explain an answer by covering one place after another."""
    cells = _largest(answer.cells)
    if answer.white_cells is None and not cells:
        from allkit.images.cells import find_cells

        cells = _largest(find_cells(pixels).cells)
    places = cell_places(cells, pixels.shape)
    made = Made(np.zeros(pixels.shape[:2], np.float32), "cells" if places else "squares", target)
    if len(places) < len(answer.cells):
        made.notes.append("only_largest")
    places = places or _squares(pixels.shape)
    made.places = len(places)
    field = _Field(predictor, target, pixels)
    falls = field.falls([[place] for place in places])
    strongest = max(float(falls.max()), WEAK)
    for place, fall in zip(places, falls.tolist(), strict=True):
        part = made.map[place.rows, place.columns]
        part[place.mask] = np.maximum(part[place.mask], max(fall, 0.0) / strongest)
    made.check = {"strongest": round(float(falls.max()), 4)}
    if (falls < -MOVES).any():
        made.notes.append("speaks_against")
    _check(field, places, falls, made)
    return made


def _check(field: _Field, places: Sequence[Place], effects: Doubles, made: Made) -> None:
    """Measure whether the most important places together move the answer, more than any others do."""
    if len(places) < LEAST:
        made.notes.append("too_few_places")
        return
    if float(np.ptp(effects)) < ALIKE * max(float(effects.max()), WEAK):
        made.notes.append("places_alike")
        return
    together = max(2, len(places) // 4)
    top = np.argsort(-effects, kind="stable")[:together].tolist()
    random = np.random.default_rng(0)
    drawn = [random.permutation(len(places))[:together].tolist() for _ in range(DRAWS)]
    others = [choice for choice in drawn if set(choice) != set(top)]
    fall, *chance = field.falls([[places[i] for i in choice] for choice in (top, *others)]).tolist()
    if not chance:  # of four places, every draw may have been the same two
        made.notes.append("too_few_places")
        return
    made.check |= {
        "together": together,
        "fall": round(fall, 4),
        "chance": round(sum(chance) / len(chance), 4),
        "highest_chance": round(max(chance), 4),
    }
    most = max(chance) - TIE  # another choice may hold the same strongest places
    made.faithful = fall >= MOVES and fall >= most and fall > sum(chance) / len(chance) + TIE


def _largest(cells: Sequence[Cell]) -> list[Cell]:
    return sorted(cells, key=lambda cell: -cell.diameter)


def cell_places(cells: Sequence[Cell], shape: Sequence[int]) -> list[Place]:
    """Return what is covered of the largest cells, which are given in order; each keeps its neighbours."""
    places = []
    for number, cell in enumerate(cells[:MOST_CELLS]):
        reach = SPAN * cell.diameter / 2
        rows, columns = (
            slice(max(0, int(middle - reach)), max(0, min(length, int(middle + reach) + 2)))
            for middle, length in ((cell.y, shape[0]), (cell.x, shape[1]))
        )
        y, x = np.ogrid[rows, columns]
        mask = _inside(x, y, cell, SPAN)
        for other in (one for i, one in enumerate(cells) if i != number and _near(cell, one)):
            mask &= ~_inside(x, y, other, 1.0) | _inside(x, y, cell, 1.0)
        if mask.any():
            places.append(Place(rows, columns, mask))
    return places


def _inside(x: Any, y: Any, cell: Cell, span: float) -> npt.NDArray[np.bool_]:
    inside: npt.NDArray[np.bool_] = (y - cell.y) ** 2 + (x - cell.x) ** 2 <= (
        span * cell.diameter / 2
    ) ** 2
    return inside


def _near(one: Cell, other: Cell) -> bool:
    reach = (SPAN * one.diameter + other.diameter) / 2
    return (one.x - other.x) ** 2 + (one.y - other.y) ** 2 <= reach**2


def _squares(shape: Sequence[int]) -> list[Place]:
    """Return squares that cover a field, `GRID` along its longer side."""
    step = max(shape[0], shape[1]) / GRID
    rows, columns = (
        np.linspace(0, length, max(1, round(length / step)) + 1).astype(int).tolist()
        for length in shape[:2]
    )
    return [
        Place(slice(top, bottom), slice(left, right), np.ones((bottom - top, right - left), bool))
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]


def overlay(strengths: Singles) -> bytes:
    """Return a map `(H, W)` as a PNG to lie over its field: nothing where it is zero, at most `SIDE` long."""
    from PIL import Image

    plane = Image.fromarray(np.ascontiguousarray(strengths, np.float32))
    factor = min(1.0, SIDE / max(plane.size))
    if factor < 1:
        width, height = (max(1, round(length * factor)) for length in plane.size)
        plane = plane.resize((width, height), Image.Resampling.BOX)
    values = np.clip(np.asarray(plane), 0.0, 1.0)
    places = np.linspace(0.0, 1.0, len(RAMP))
    colours = [np.interp(values, places, [step[c] for step in RAMP]) for c in range(3)]
    picture = np.stack([*colours, np.sqrt(values) * OPAQUE], axis=-1).round().astype(np.uint8)
    picture[values <= 0] = 0
    stream = io.BytesIO()
    Image.fromarray(picture, "RGBA").save(stream, "PNG", optimize=False)
    return stream.getvalue()
