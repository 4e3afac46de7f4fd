"""The result of every reader: one row an image, and the problems of the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from allkit.data.labels import ALL_CLASSES, canonical_label, skeleton, spelling, unclear
from allkit.data.sources import Source
from allkit.errors import DatasetError
from allkit.types import Ints

__all__ = [
    "PARTS",
    "Sample",
    "Table",
    "check_labels",
    "column_of",
    "labels_of",
    "positions_in",
    "positions_of",
    "problems_text",
    "renamed",
    "samples_of",
    "unreadable_error",
]

PARTS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""The names that folders and tables use for the parts of a division."""
_SHOWN = 20  # problems written out; the rest is counted
_MANY_LABELS = (
    20  # more labels than this, most of them on a single image, are names of something else
)


class _Nothing(Mapping[str, str]):
    """The further columns of a row that has none: one for all rows, also after copies and pickles."""

    __slots__ = ()

    def __getitem__(self, name: str) -> str:
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "{}"

    def __reduce__(self) -> tuple[Callable[[], Mapping[str, str]], tuple[()]]:
        return _nothing, ()


_NOTHING = _Nothing()


def _nothing() -> Mapping[str, str]:
    return _NOTHING


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a set: its name, where its bytes are, its class, and its origin if known.

    `label` is `None` if it is unknown. `slide` is the acquisition (one slide, one sitting at the
    microscope), `group` the unit to split by, `case` the patient. `columns` holds the further
    columns of its table, as text, by their names.
    """

    image: str
    source: Source
    label: str | None
    group: str | None = None
    case: str | None = None
    part: str | None = None
    fold: int | None = None
    columns: Mapping[str, str] = field(default_factory=_nothing)
    slide: str | None = field(default=None, kw_only=True)

    def __repr__(self) -> str:
        origins = {"group": self.group, "case": self.case, "slide": self.slide}
        known = [f"{what} {value}" for what, value in origins.items() if value]
        return f"<Sample {self.image!r}: {', '.join([self.label or 'no label', *known])}>"


@dataclass
class Table:
    """The rows, the files not used, and the problems that have to be fixed first."""

    name: str
    rows: list[Sample] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    split_by: str | None = None


def problems_text(table: Table) -> str:
    """Return the problems of a table as one message."""
    shown = "\n".join(f"  {problem}" for problem in table.problems[:_SHOWN])
    more = len(table.problems) - _SHOWN
    rest = f"\n  … and {more:,} more" if more > 0 else ""
    return f"{table.name} cannot be used as it is:\n{shown}{rest}"


def check_labels(table: Table) -> None:
    """Name labels that differ in case or spacing only, and labels that are no classes at all."""
    labels = {row.label for row in table.rows if row.label is not None}
    further = {label for label in labels if canonical_label(label) not in ALL_CLASSES}
    spellings = {spelling(label): label for label in sorted(further, reverse=True)}
    for label in further:
        if not canonical_label(label):
            table.problems.append(f"the label {label!r} holds nothing that can be seen")
        elif not label.isprintable() and _is_no_text(label):
            table.problems.append(
                f"the label {label!a} is no UTF-8 text. Rename that folder, or write the label in UTF-8"
            )
    table.problems += [_unclear_text(variants) for variants in unclear(labels)]
    if len(spellings) > max(_MANY_LABELS, len(table.rows) // 2):
        some = ", ".join(map(repr, list(spellings.values())[:3]))
        table.problems.append(
            f"{len(spellings):,} different labels on {len(table.rows):,} images ({some}, …): these "
            f"look like names of images or patients, not like classes"
        )


def _unclear_text(variants: Sequence[str]) -> str:
    """Say that labels may mean one class; letters that look alike are told apart by their codes."""
    plain = ", ".join(map(repr, variants))
    coded = ", ".join(map(ascii, variants))
    if len({spelling(variant) for variant in variants}) == 1:
        return (
            f"the labels {coded} differ in case or spacing only (blanks, hyphens, dots, wide letters). "
            f"Write one spelling"
        )
    skeletons = {skeleton(variant) for variant in variants}
    if len(skeletons) == 1 or not all(map(_is_known, variants)):
        codes = f" ({coded})" if coded != plain else ""
        return (
            f"the labels {plain}{codes} differ only in accents, or in letters of another script that look "
            f"the same. Write one spelling, or names that differ"
        )
    return f"the labels {plain} may mean one class. Give them one name, or names that differ"


def _is_known(label: str) -> bool:
    return canonical_label(label) in ALL_CLASSES


def _is_no_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def samples_of(samples: object) -> tuple[Sample, ...]:
    """Return the samples that a set is made of; raise `DatasetError` that names the way for others."""
    if isinstance(samples, (str, os.PathLike)):
        raise DatasetError(
            f"Dataset takes samples, and {os.fspath(samples)!r} is a path. Type: Dataset.open(path)"
        )
    if hasattr(samples, "columns"):
        raise DatasetError("Dataset takes samples, no data frame. Type: Dataset.from_frame(frame)")
    found = tuple(samples) if isinstance(samples, Iterable) else (samples,)
    strange = next((one for one in found if not isinstance(one, Sample)), None)
    if strange is not None:
        raise DatasetError(
            f"Dataset takes samples, and this is a {type(strange).__name__}. For images in memory type: "
            f"Dataset.from_arrays(images, labels)"
        )
    return found


def positions_in(index: object, count: int) -> list[int]:
    """Return the positions that a slice, a list of positions, or an array of bool takes of `count`.

    Raises `DatasetError` for anything else, and for positions that are not there.
    """
    places = np.arange(count)
    try:
        taken = index if isinstance(index, slice) else np.asarray(index)
        if isinstance(taken, np.ndarray):
            # An empty list is one of float64.
            taken = taken if taken.size else taken.astype(np.int64)
            if taken.ndim != 1:
                raise ValueError("positions stand in one row")
        chosen = places[taken]
    except (IndexError, TypeError, ValueError):
        raise DatasetError(
            f"{str(index)[:80]} takes no images of {count:,}. Give a position, a slice, a list of positions, "
            f"or one bool an image."
        ) from None
    return [int(place) for place in chosen]


def unreadable_error(errors: Sequence[str], total: int, name: str) -> DatasetError:
    """Return the error that lists every unreadable image."""
    lines = "\n".join(f"  {error}" for error in errors)
    return DatasetError(
        f"{len(errors)} of {total} images of {name} cannot be read:\n{lines}\n"
        f"Fix or remove them; no image is skipped silently."
    )


def column_of(samples: Sequence[Sample], name: str, *, of: str) -> list[str | None]:
    """Return a column for each image: `group`, `case`, `slide`, or any further one of the table.

    Raises `DatasetError`, which calls the set `of`, and names the columns there are.
    """
    if name in ("group", "case"):
        return [getattr(sample, name) for sample in samples]
    columns = sorted({column for sample in samples for column in sample.columns})
    if any(sample.slide is not None for sample in samples):
        if name == "slide":
            return [sample.slide for sample in samples]
        columns = ["slide", *columns]
    if name not in columns:
        raise DatasetError(
            f"{of} has no column {name!r}. It has: {', '.join(['group', 'case', *columns])}."
        )
    return [sample.columns.get(name) for sample in samples]


def labels_of(samples: Sequence[Sample], *, of: str) -> list[str]:
    """Return the label of every image; raise `DatasetError`, which calls the set `of`, for gaps."""
    names = [s.label for s in samples if s.label is not None]
    if len(names) < len(samples):
        raise DatasetError(
            f"{len(samples) - len(names)} of {len(samples)} images of {of} have no label, and "
            f"every image needs one here. Give class folders, or a table with the column label."
        )
    return names


def positions_of(samples: Sequence[Sample], classes: Sequence[str]) -> Ints:
    """Return `(N,)` int64: the position of each image's label in `classes`; -1 without a label."""
    position: dict[str | None, int] = {name: i for i, name in enumerate(classes)}
    position[None] = -1
    return np.array([position[s.label] for s in samples], dtype=np.int64)


def renamed(sample: Sample, names: Mapping[str, str]) -> Sample:
    """Return a sample under the class's name of `names`."""
    if sample.label is None or names[sample.label] == sample.label:
        return sample
    return replace(sample, label=names[sample.label])
