"""The answers for several images: a list that is also a table, and a page in a notebook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex, overload

import numpy as np

from allkit.errors import ImageError
from allkit.images.decode import read_image
from allkit.images.given import Given
from allkit.images.small import picture_of
from allkit.records import Cell, Prediction
from allkit.runtime.answers import stream
from allkit.runtime.inputs import asked
from allkit.shown.answer import answer_html, answers_html
from allkit.shown.html import thumbnail
from allkit.shown.text import how_many
from allkit.telemetry import import_silent
from allkit.trust.verdict import Outputs, Trust
from allkit.types import Pixels, Singles

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Predictions", "predicted"]

SHOWN = 12
"""The number of answers that are shown with their images in a notebook."""
_LARGE = 4 * 2**20
"""Bytes of an image in memory from which on its small picture is kept in its place."""
_MEASURED = ("ood_score", "red_cell", "nucleus_ratio", "white_cells")


class _Small(NamedTuple):
    """The small picture of a large image, and the width of the image in pixels."""

    jpeg: bytes
    width: int


Seen = Given | _Small | None
"""What an image can be shown by later: where it is, or a small picture."""


class Predictions(list[Prediction]):
    """The answers for several images, in order: a list of `Prediction`, which can also be a table.

    `classes` are those of the model. `left_out` says in words what was found beside the images of a
    folder or zip and not taken; it is empty where there was nothing. Made of any answers:
    `Predictions(model.stream(images))`.
    """

    def __init__(
        self,
        answers: Iterable[Prediction] = (),
        *,
        classes: Sequence[str] | None = None,
        left_out: str = "",
        index: Any = None,
        seen: Sequence[Seen] = (),
    ) -> None:
        super().__init__(answers)
        if classes is None:
            classes = next((tuple(one.probabilities) for one in self if one.probabilities), ())
        self.classes = tuple(classes)
        self.left_out = left_out
        self._index = index
        self._seen = tuple(seen)

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> Prediction: ...

    @overload
    def __getitem__(self, index: slice, /) -> Predictions: ...

    def __getitem__(self, index: SupportsIndex | slice, /) -> Prediction | Predictions:
        if not isinstance(index, slice):
            return super().__getitem__(index)
        places = range(*index.indices(len(self)))
        seen = [self._seen[i] if i < len(self._seen) else None for i in places[:SHOWN]]
        return Predictions(
            super().__getitem__(index),
            classes=self.classes,
            index=None if self._index is None else self._index[index],
            seen=seen,
        )

    @property
    def verdicts(self) -> Counter[str]:
        """How many answers have each verdict."""
        return Counter(one.verdict for one in self)

    @property
    def probabilities(self) -> Singles:
        """`(N, K)` float32: the probability of every class, in the order of `classes`.

        Every readable image has them, whatever its verdict. Raises `ImageError` that names the
        unreadable ones, which have none.
        """
        lacking = [one.image for one in self if not one.probabilities]
        if lacking:
            some = ", ".join(lacking[:5]) + (", …" if len(lacking) > 5 else "")
            raise ImageError(
                f"{len(lacking):,} of {len(self):,} images cannot be read and have no probabilities: "
                f"{some}. Leave them out, or take each answer of `predict` with its verdict.",
                code="missing",
            )
        rows = [[one.probabilities[name] for name in self.classes] for one in self]
        return np.array(rows, np.float32).reshape(len(rows), len(self.classes))

    def to_frame(self) -> pd.DataFrame:
        """Return a data frame of pandas: a row an answer, a column a field, `p_CLASS` among them.

        The columns are those of the tables of `allkit predict`, and the measurements. Its index is that
        of the data frame that was asked about, if it was one. Raises `ImportError` where pandas is not
        installed: it comes with the extra `train`.
        """
        pandas = import_silent("pandas")
        rows = [
            one.to_row(self.classes) | {name: getattr(one, name) for name in _MEASURED}
            for one in self
        ]
        columns = list(Prediction("", "refused").to_row(self.classes)) + list(_MEASURED)
        frame: pd.DataFrame = pandas.DataFrame(rows, index=self._index, columns=columns)
        return frame

    def __repr__(self) -> str:
        left = f"; not taken: {self.left_out}" if self.left_out else ""
        return f"<Predictions: {len(self):,}{f' ({self._counts()})' if self else ''}{left}>"

    def _repr_html_(self) -> str:
        """Return the first answers with their images, for the end of a notebook's cell."""
        shown = list(self)[:SHOWN]
        lead = f"{how_many(len(self), 'answer')}: {self._counts()}."
        if len(self) > len(shown):
            lead += f" The first {len(shown)} are shown."
        if self.left_out:
            lead += f" Not taken: {self.left_out}."
        seen = [*self._seen, *[None] * len(shown)]
        cards = [
            answer_html(answer.to_dict(), _picture(one, answer.cells))
            for answer, one in zip(shown, seen, strict=False)
        ]
        return answers_html(lead, cards)

    def _counts(self) -> str:
        return ", ".join(f"{count:,} {verdict}" for verdict, count in self.verdicts.items())


def predicted(
    images: Any,
    network: Callable[[Sequence[Pixels]], Outputs],
    trust: Trust,
    *,
    batch_size: int,
) -> Predictions:
    """Return one answer per image, in order, as `allkit.runtime.answers.stream` makes them."""
    listed = asked(images)
    seen: list[Seen] = []
    watched = replace(listed, images=_watched(listed.images, seen))
    answers = list(stream(watched, network, trust, batch_size=batch_size))
    return Predictions(
        answers,
        classes=trust.classes,
        left_out=listed.left_out,
        index=listed.index,
        seen=seen,
    )


def _watched(images: Iterable[Given], seen: list[Seen]) -> Iterator[Given]:
    """Yield the images as they are, and keep what the first can be shown by."""
    for image in images:
        if len(seen) < SHOWN:
            seen.append(_shown_by(image))
        yield image


def _shown_by(image: Given) -> Seen:
    source = image.source
    if isinstance(source, np.ndarray) and source.nbytes > _LARGE:
        return _Small(thumbnail(source, 192), source.shape[1])
    return None if isinstance(source, bytes) and len(source) > _LARGE else image


def _picture(seen: Seen, cells: Sequence[Cell]) -> bytes:
    """Return the picture of an image with its cells; none where it cannot be read any more."""
    if seen is None:
        return b""
    try:
        image = read_image(seen.jpeg) if isinstance(seen, _Small) else seen.read()
    except ImageError:
        return b""
    width = seen.width if isinstance(seen, _Small) else image.shape[1]
    return picture_of(image, cells, width)
