"""One division of a set into parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from allkit.data.dividing import By
from allkit.data.rows import Sample
from allkit.data.written import as_csv, rows_hash
from allkit.files import write_whole

__all__ = ["By", "Split"]


class Divided(Protocol):
    """What a division needs of the set that it divides; `Dataset` has it."""

    samples: tuple[Sample, ...]
    name: str
    split_by: By | None

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
