"""What is done to every image of a set alike: places painted over, a margin cut off.

A place is the same share of every image, whatever its size, also of those that bear no mark there, and
the paint has one colour: what is painted or cut off can then tell no class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from allkit.quality.marks import Mark
from allkit.types import Pixels

__all__ = ["PAINTED", "WHOLE", "Box", "Treatment", "as_text", "cut_for", "from_text", "grown"]
__all__ += ["joined", "unpainted"]

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, as shares of the width and the height."""

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
PAINTED = "painted"
"""The column of a table that says where its images were painted over."""

_MARGIN = 1 / 64  # a mark fades out, and is found a little smaller than it is
_STRIP = 1 / 32  # what is left between a place and the border is no more than this: it goes too
_BLOCK = 16  # pixels a side of what a JPEG file with halved colours compresses together
# Of a side: a mark further inside is painted over where others are cut off, unless it reaches the border.
_DEEP, _DEEPEST = 1 / 8, 1 / 4
_EDGE = 1 / 16  # as far beyond a painted place its edge is seen, where marks are looked for
_LOOKED_AT = 24  # images in which it is seen that a place is painted


@dataclass(frozen=True)
class Treatment:
    """What is done to an image: `painted` places of the original, and the part of it that is `kept`.

    `colour` is that of the paint, RGB, 0 to 255.
    """

    painted: tuple[Box, ...] = ()
    kept: Box = WHOLE
    colour: tuple[int, int, int] = (255, 255, 255)

    def apply(self, image: Pixels) -> Pixels:
        """Return a treated copy of an image `(H, W, 3)` uint8."""
        new = image.copy()
        for rows, columns in self.painted_pixels(image):
            new[rows, columns] = self.colour
        rows, columns = self.kept_pixels(image)
        return np.ascontiguousarray(new[rows, columns])

    def painted_pixels(self, image: Pixels) -> list[tuple[slice, slice]]:
        """Return rows and columns of each painted place: every pixel of which a part lies in it."""
        return [_pixels(box, image, math.floor, math.ceil) for box in self.painted]

    def kept_pixels(self, image: Pixels) -> tuple[slice, slice]:
        """Return the rows and columns that are kept: the pixels that lie in the kept part as a whole."""
        return _pixels(self.kept, image, math.ceil, math.floor)

    @property
    def cut(self) -> bool:
        """Whether something is cut off."""
        return self.kept != WHOLE

    def paints(self, box: Box) -> bool:
        """Return whether a part of a box is painted over."""
        return any(_area(_overlap(one, box)) > 0 for one in self.painted)

    @property
    def shown(self) -> float:
        """The share of an image that is neither painted over nor cut off."""
        area = _area(self.kept)
        return area - sum(_area(_overlap(box, self.kept)) for box in self.painted)

    def painted_in_kept(self, before: Iterable[Box] = ()) -> tuple[Box, ...]:
        """Return the painted places as shares of what is kept, and those painted `before`."""
        left, top, right, bottom = self.kept
        wide, high = right - left, bottom - top
        found = []
        for box in (*before, *self.painted):
            one = _overlap(box, self.kept)
            if _area(one):
                a, b, c, d = one
                found.append(
                    ((a - left) / wide, (b - top) / high, (c - left) / wide, (d - top) / high)
                )
        return tuple(found)


def _pixels(
    box: Box, image: Pixels, first: Callable[[float], int], last: Callable[[float], int]
) -> tuple[slice, slice]:
    height, width = image.shape[:2]
    # 0.6 of 5 pixels is 3.0000000000000004 or so: that is the edge of a pixel, and not beyond it.
    left, right = (round(box[i] * width, 6) for i in (0, 2))
    top, bottom = (round(box[i] * height, 6) for i in (1, 3))
    return slice(first(top), last(bottom)), slice(first(left), last(right))


def _overlap(a: Box, b: Box) -> Box:
    left, top = max(a[0], b[0]), max(a[1], b[1])
    return left, top, max(left, min(a[2], b[2])), max(top, min(a[3], b[3]))


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def grown(box: Box, jpeg_sizes: Iterable[tuple[int, int]]) -> Box:
    """Return the place to treat for a mark's box: with a margin, whole blocks of JPEG, no thin strips.

    A JPEG file spreads a mark over each block that it touches. `jpeg_sizes` are the widths and heights
    of images that may have been JPEG; the place holds whole blocks in each.
    """
    low = [box[0] - _MARGIN, box[1] - _MARGIN]
    high = [box[2] + _MARGIN, box[3] + _MARGIN]
    found = [*low, *high]
    for size in jpeg_sizes:
        for axis, length in enumerate(size):
            first = math.floor(low[axis] * length / _BLOCK) * _BLOCK / length
            last = math.ceil(high[axis] * length / _BLOCK) * _BLOCK / length
            found[axis], found[axis + 2] = min(found[axis], first), max(found[axis + 2], last)
    left, top = (0.0 if v < _STRIP else v for v in found[:2])
    right, bottom = (1.0 if v > 1 - _STRIP else v for v in found[2:])
    return left, top, right, bottom


def joined(boxes: Iterable[Box]) -> tuple[Box, ...]:
    """Return boxes none of which overlap, which cover those given."""
    found: list[Box] = []
    for new in boxes:
        box = new
        while True:
            over = next((one for one in found if _area(_overlap(one, box))), None)
            if over is None:
                break
            found.remove(over)
            box = (
                min(over[0], box[0]),
                min(over[1], box[1]),
                max(over[2], box[2]),
                max(over[3], box[3]),
            )
        found.append(box)
    return tuple(sorted(found))


def cut_for(boxes: Sequence[Box]) -> tuple[Box, tuple[Box, ...]]:
    """Return the part of an image that is kept when margins with the boxes in them are cut off.

    And the boxes that lie too far inside for that: more than an eighth of a side, or a quarter where they
    reach the border. Each margin is cut at the side where it costs least, the deepest box first.
    """
    left, top, right, bottom = WHOLE
    inside: list[Box] = []
    for box in sorted(boxes, key=lambda box: -min(_depths(box))):
        if not _area(_overlap(box, (left, top, right, bottom))):
            continue
        depths = _depths(box)
        reaches = (box[0] <= 0, box[1] <= 0, box[2] >= 1, box[3] >= 1)
        if min(depths) > (_DEEPEST if reaches[depths.index(min(depths))] else _DEEP):
            inside.append(box)
            continue
        side = depths.index(min(depths))
        left = max(left, box[2]) if side == 0 else left
        top = max(top, box[3]) if side == 1 else top
        right = min(right, box[0]) if side == 2 else right
        bottom = min(bottom, box[1]) if side == 3 else bottom
    kept = (left, top, right, bottom)
    return kept, tuple(sorted(box for box in inside if _area(_overlap(box, kept))))


def _depths(box: Box) -> tuple[float, float, float, float]:
    """Return how much of a side is cut off from the left, top, right or bottom, to be rid of a box."""
    return box[2], box[3], 1 - box[0], 1 - box[1]


def as_text(boxes: Iterable[Box]) -> str:
    """Return boxes as the text of a cell: `0.8,0.9,1,1; 0,0,0.1,0.1`."""
    return "; ".join(",".join(f"{v:.5g}" for v in box) for box in boxes)


def from_text(text: str | None) -> tuple[Box, ...]:
    """Return the boxes of such a text; none where it is another text."""
    boxes = []
    for part in (text or "").split(";"):
        try:
            left, top, right, bottom = map(float, part.split(","))
        except ValueError:
            return ()
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            return ()
        boxes.append((left, top, right, bottom))
    return tuple(boxes)


def unpainted(
    marks: Sequence[Mark], columns: Sequence[str | None], load: Callable[[int], Pixels]
) -> list[Mark]:
    """Return the marks that are not the paint of `allkit clean`, whose edges recur in every image.

    `columns` holds the column `painted` of each image. It is not taken at its word: such a place has to
    show one colour, the same in images from the whole set.
    """
    places = from_text(columns[0]) if columns and len(set(columns)) == 1 else ()
    if not places or not marks:
        return list(marks)
    some = np.unique(np.linspace(0, len(columns) - 1, _LOOKED_AT).astype(int)).tolist()
    images = [load(index) for index in some]
    sure = [place for place in places if _is_flat(place, images)]
    return [mark for mark in marks if not any(_around(place, mark.box) for place in sure)]


def _is_flat(place: Box, images: Sequence[Pixels]) -> bool:
    colours = set()
    for image in images:
        rows, columns = _pixels(place, image, lambda v: math.ceil(v) + 1, lambda v: int(v) - 1)
        part = image[rows, columns].reshape(-1, 3)
        if len(part):
            colours |= {tuple(part.min(axis=0).tolist()), tuple(part.max(axis=0).tolist())}
    return len(colours) == 1


def _around(place: Box, box: Box) -> bool:
    """Return whether a box is at a place: no further beyond it than its edges are seen, and not beside it."""
    low = all(a - _EDGE <= b for a, b in zip(place[:2], box[:2], strict=True))
    near = low and all(a + _EDGE >= b for a, b in zip(place[2:], box[2:], strict=True))
    return near and _area(_overlap(place, box)) >= _area(box) / 3
