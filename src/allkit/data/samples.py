"""What the rows of a set say, before any image is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from allkit.data import rows, slides
from allkit.data.overview import summary
from allkit.data.rows import Sample
from allkit.data.sources import says_drawn
from allkit.types import Ints

__all__ = ["Samples"]


class Samples:
    """Rows in order: their labels, origins, slides and columns; `Dataset` adds the images."""

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    name: str
    left_out: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __repr__(self) -> str:
        counts = self.counts
        classes = ", ".join(f"{name} {counts[name]}" for name in self.classes) or "no labels"
        return f"<Dataset {self.name!r}: {len(self)} images ({classes})>"

    @property
    def counts(self) -> Counter[str]:
        """Number of images of each class; those without a label are not counted."""
        return Counter(s.label for s in self.samples if s.label is not None)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """`(N,)` int64: the position of each image's class in `classes`; -1 without a label."""
        return rows.positions_of(self.samples, self.classes)

    @property
    def label_names(self) -> list[str]:
        """The label of every image; raises `DatasetError` where some have none."""
        return rows.labels_of(self.samples, of=self.name)

    @property
    def labelled(self) -> bool:
        """Whether the images have labels; those of `unlabelled` have none."""
        return any(s.label is not None for s in self.samples)

    @property
    def has_groups(self) -> bool:
        """Whether groups or cases are known."""
        return any(s.group is not None or s.case is not None for s in self.samples)

    @property
    def origins(self) -> set[str]:
        """The known groups; for an image without one, its case."""
        return {origin for s in self.samples if (origin := s.group or s.case)}

    @property
    def has_slides(self) -> bool:
        """Whether the slide of every image is known or suggested."""
        return bool(self.samples) and all(s.slide is not None for s in self.samples)

    @property
    def slide_names(self) -> tuple[str, ...]:
        """The names of the slides, sorted."""
        return slides.names_of(self.samples)

    @property
    def slides(self) -> Ints:
        """`(N,)` int64: the position of each image's slide in `slide_names`; -1 where unknown."""
        return slides.numbers_of(self.samples)

    @property
    def slides_suggested(self) -> bool:
        """Whether slides are suggestions of `allkit check`, by the column `slide_source`."""
        return slides.are_suggested(self.samples)

    @property
    def slides_caution(self) -> str | None:
        """What the slides do not allow to be said, in words; `None` where all are known."""
        return slides.sentence_on(self.samples)

    def slides_of_class(self) -> dict[str, int]:
        """Return on how many slides each class that has images was seen; 0 where none is known."""
        return slides.number_of_each_class(self.samples, self.classes)

    @property
    def drawn(self) -> bool:
        """Whether any image was drawn by allkit, by the text in its file."""
        return any(says_drawn(s.source) for s in self.samples)

    @property
    def has_parts(self) -> bool:
        """Whether the set says which images are for training and which for testing."""
        return any(s.part is not None for s in self.samples)

    def column(self, name: str) -> list[str | None]:
        """Return a column of the table for each image: `group`, `case`, `slide`, or a further one.

        Raises `DatasetError` that names the columns there are.
        """
        return rows.column_of(self.samples, name, of=self.name)

    def summary(self) -> str:
        """Return an overview as text: images, groups and cases of each class, and parts."""
        return summary(self.name, self.samples, self.classes, self.left_out)
