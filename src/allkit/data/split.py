"""One division of a set into parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy.typing as npt

from allkit.data.allocation import torn
from allkit.data.dividing import By
from allkit.data.overview import split_html
from allkit.data.rows import Sample, positions_in
from allkit.data.written import as_csv, rows_hash
from allkit.errors import DatasetError
from allkit.files import write_whole
from allkit.types import Ints

__all__ = ["By", "Split"]


class Divided(Protocol):
    """What a division needs of the set that it divides; `Dataset` has it."""

    samples: tuple[Sample, ...]
    name: str
    split_by: By | None

    @property
    def units(self) -> Ints:
        """`(N,)`: images with the same number share a group or a case, or are byte-identical."""

    def same_images(self, samples: Sequence[Sample], by: By | None) -> Any:
        """Return a set of the same images."""

    @property
    def hashes(self) -> tuple[str, ...]:
        """SHA-256 of each image's file."""

    def part(self, *names: str) -> Any:
        """Return the images of the named parts."""

    def __len__(self) -> int: ...


Images = TypeVar("Images", bound=Divided)


@dataclass(frozen=True)
class Split(Generic[Images]):
    """One division of a set: its parts, and how it was made.

    It unpacks: `train, test = data.split(0.3)`, and `train, val, test` where there is a part `val`.
    `held_out` is the value of the whole test part, if one value was left out. `dropped` counts
    the images that are in no part, because they share a group, a case or a field with the test.
    """

    train: Images
    val: Images
    test: Images
    whole: Images
    by: By
    seed: int
    held_out: str | None = None

    @classmethod
    def of(cls, whole: Images, by: By, seed: int, held_out: str | None = None) -> Self:
        """Return the division that the parts of `whole` make."""
        train, val, test = (whole.part(name) for name in ("train", "val", "test"))
        return cls(train, val, test, whole=whole, by=by, seed=seed, held_out=held_out)

    @classmethod
    def from_indices(
        cls,
        data: Images,
        train: Sequence[int] | npt.NDArray[Any],
        val: Sequence[int] | npt.NDArray[Any] | None = None,
        test: Sequence[int] | npt.NDArray[Any] | None = None,
        *,
        seed: int = 0,
    ) -> Self:
        """Return the division of `data` whose parts are at these positions, or where an array of bool is set.

        So the splitters of scikit-learn can be used: `for train, test in
        GroupKFold(5).split(y, y, groups=data.units): Split.from_indices(data, train, test=test)`. Images at
        no position are in no part. `by` says what the division keeps whole: `"group"` where no group and
        no case, and no copy of an image, is on two sides, else `"image"`: metrics on it are inflated,
        and `evaluate` says so. Raises `DatasetError` for a position that is not there or is in two parts.
        """
        return cls.of(*given_parts(data, {"train": train, "val": val, "test": test}), seed=seed)

    def __iter__(self) -> Iterator[Images]:
        return iter((self.train, self.val, self.test) if len(self.val) else (self.train, self.test))

    def __repr__(self) -> str:
        counts = [f"{name} {len(part)}" for name, part in self._parts().items() if len(part)]
        return f"<Split of {self.whole.name!r} by {self.by}: {', '.join(counts)}>"

    def _repr_html_(self) -> str:
        """Return the division for the end of a notebook's cell."""
        division: Any = self  # of whatever sets it divides
        return split_html(division)

    def _parts(self) -> dict[str, Images]:
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def dropped(self) -> int:
        """Number of images that are in no part."""
        return len(self.whole) - len(self.train) - len(self.val) - len(self.test)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over every image's bytes, label and part, in any order."""
        samples: Sequence[Sample] = self.whole.samples
        return rows_hash(
            (digest, s.label or "", s.part or "")
            for digest, s in zip(self.whole.hashes, samples, strict=True)
        )

    def to_csv(self, path: str | Path) -> None:
        """Write the division as a table that `Dataset.from_csv` and every command reads.

        Its paths are relative to the table; the columns `split_by` and `split_fingerprint` say
        how it was made, on every row. Raises `DatasetError` when the images are not files.
        """
        text = as_csv(
            self.whole.samples,
            Path(path),
            name=self.whole.name,
            split_by=self.whole.split_by,
            fingerprint=self.fingerprint,
        )
        write_whole(Path(path), text)


def given_parts(data: Images, positions: Mapping[str, Any]) -> tuple[Images, By]:
    """Return the set with the parts that stand at `positions`, and what this division keeps whole."""
    parts: list[str | None] = [None] * len(data)
    for part, index in positions.items():
        for place in [] if index is None else positions_in(index, len(data)):
            if parts[place] not in (None, part):
                raise DatasetError(
                    f"Image {place} of {data.name} ({data.samples[place].image}) is in the parts "
                    f"{parts[place]} and {part}. Give each image to one part."
                )
            parts[place] = part
    by: By = "image" if torn(data.units, parts)[0] else "group"
    samples = [replace(s, part=part) for s, part in zip(data.samples, parts, strict=True)]
    return data.same_images(samples, by), by
