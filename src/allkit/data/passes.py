"""One pass over the images of a set: each is decoded once for everything that is measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from allkit.data.columns import Column, Store, VectorStore
from allkit.data.rows import Sample, unreadable_error
from allkit.errors import ImageError
from allkit.images.batches import read_ahead
from allkit.images.decode import read_image
from allkit.images.own import format_of
from allkit.images.readers import reading
from allkit.images.same_field import DuplicatePair
from allkit.types import Indices, Ints, Pixels, Progress, Singles

if TYPE_CHECKING:
    from allkit.images.cells import Cells  # it brings OpenCV, which takes a tenth of a second

__all__ = ["Frame", "ImagePasses", "Measure", "Measured", "VectorCache"]

T = TypeVar("T")
BATCH = 64
"""Images that are read ahead together, where only numbers are kept of them."""
ASKED = 1000
"""Vectors that a cache is asked for at once."""


class VectorCache(Protocol):
    """Keeps float32 vectors by keys; the feature cache does."""

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Singles]:
        """Return the vectors that are kept, by key."""

    def put(self, vectors: Mapping[bytes, Singles]) -> None:
        """Keep vectors."""


@dataclass(frozen=True)
class Frame:
    """One decoded image: `pixels` `(H, W, 3)` uint8 RGB, the bytes of its file, their SHA-256."""

    pixels: Pixels
    file: bytes
    sha256: str

    _searched: dict[str, Cells] = field(default_factory=dict, init=False, repr=False, compare=False)

    def cells(self, finder: str) -> Cells:
        """Return the white cells that a version of the finder finds; it searches once."""
        from allkit.images.cells import find_cells

        if finder not in self._searched:
            self._searched[finder] = find_cells(self.pixels, finder)
        return self._searched[finder]


class Measure(NamedTuple):
    """Something that is measured on an image as it is.

    `take` computes it from a `Frame`, in threads; `name` names the measure and its version. If
    `cached`, a cache keeps the value by the name and the image's hash: a float32 vector, or what
    `as_vector` makes of it, and `of_vector` of that and the hash again. `store(count)` gives the room
    for the values of `count` images. What is `aside` is measured where an image is decoded anyway.
    """

    name: str
    take: Callable[[Frame], Any]
    cached: bool = False
    store: Callable[[int], Store] | None = None
    as_vector: Callable[[Any], Singles] = lambda value: value
    of_vector: Callable[[Singles, str], Any] = lambda vector, digest: vector
    aside: bool = False

    def column(self, count: int) -> Column:
        """Return an empty column for the values of `count` images."""
        store = VectorStore if self.store is None and self.cached else self.store
        return Column(count, None if store is None else store(count))


@dataclass
class Measured:
    """What was measured on `count` images, so that it is not measured again.

    `values` holds, by the name of the measure, one value an image; `None` where it was not measured.
    """

    count: int
    hashes: tuple[str, ...] | None = None
    foreign: frozenset[str] = frozenset()
    """Those of files that are of no format of allkit's own, once `hashes` are there."""
    values: dict[str, Column] = field(default_factory=dict)
    duplicates: tuple[DuplicatePair, ...] | None = None

    def at(self, indices: Sequence[int] | Indices) -> Measured:
        """Return the values of the images at `indices`, in that order."""
        hashes = self.hashes
        return Measured(
            len(indices),
            None if hashes is None else tuple(hashes[i] for i in indices),
            foreign=self.foreign,
            values={name: column.at(indices) for name, column in self.values.items()},
        )

    def same(self) -> Measured:
        """Return a copy for another set of the same images."""
        every = range(self.count)
        return replace(self, values={name: own.at(every) for name, own in self.values.items()})

    def and_then(self, other: Measured) -> Measured:
        """Return the values of these images, followed by those of `other`."""
        hashes = None
        if self.hashes is not None and other.hashes is not None:
            hashes = self.hashes + other.hashes
        values = {
            name: self.column(name).and_then(other.column(name))
            for name in dict.fromkeys((*self.values, *other.values))
        }
        foreign = self.foreign | other.foreign
        return Measured(self.count + other.count, hashes, foreign=foreign, values=values)

    def has(self, measure: Measure) -> bool:
        """Say whether a measure was taken of every image on which it has to be."""
        return measure.aside or not len(self.column(measure.name).missing())

    def forget(self, measure: Measure) -> None:
        """Release the values of a measure that is no longer needed."""
        self.values.pop(measure.name, None)

    def column(self, name: str) -> Column:
        """Return the values of a measure; `None` for each image on which it was not measured."""
        return self.values[name] if name in self.values else Column(self.count)


class ImagePasses:
    """The images of a set as files, and the passes over them; `measured` holds their results.

    Every pass reads in threads, holds few decoded images at a time, and raises `DatasetError`
    that names every unreadable image.
    """

    def __init__(
        self, samples: Sequence[Sample], name: str, measured: Measured | None = None
    ) -> None:
        self.samples = samples
        self.name = name
        self.measured = Measured(len(samples)) if measured is None else measured

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, index: int) -> tuple[Pixels, bytes]:
        """Return image `index`, `(H, W, 3)` uint8 RGB, and its file's bytes; raise `ImageError`."""
        sample = self.samples[index]
        file = sample.source.read()
        return read_image(file, name=sample.image), file

    def frame(self, index: int) -> Frame:
        """Return image `index` decoded; raise `ImageError` if it is unreadable."""
        pixels, file = self.load(index)
        hashes = self.measured.hashes
        return Frame(
            pixels, file, hashlib.sha256(file).hexdigest() if hashes is None else hashes[index]
        )

    @property
    def hashes(self) -> tuple[str, ...]:
        """SHA-256 of each file, as hexadecimal digits; nothing is decoded."""
        if self.measured.hashes is None:
            found = self.each(self._hashed)
            self.measured.hashes = tuple(digest for digest, _ in found)
            self.measured.foreign = frozenset(digest for digest, own in found if not own)
        return self.measured.hashes

    def _hashed(self, index: int) -> tuple[str, bool]:
        file = self.samples[index].source.read()
        return hashlib.sha256(file).hexdigest(), bool(format_of(file))

    @cached_property
    def readers(self) -> dict[str, str]:
        """The readers of plugins that make images of some of these files; empty where none has to."""
        found = self.hashes and self.measured.foreign
        return reading() if found else {}

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """What a cache knows each image by: the hash of its file, and with what a plugin reads it."""
        if not self.readers:
            return self.hashes
        rest = json.dumps(self.readers, sort_keys=True)
        foreign = self.measured.foreign
        return tuple(f"{one} {rest}" if one in foreign else one for one in self.hashes)

    def each(
        self, function: Callable[[int], T], progress: Callable[[int, int], None] | None = None
    ) -> list[T]:
        """Return `function(position)` for every position, in order."""

        def attempt(index: int) -> T | ImageError:
            try:
                return function(index)
            except ImageError as error:
                return error

        values: list[T] = []
        errors: list[str] = []
        for batch in read_ahead(range(len(self)), attempt, BATCH):
            for _, value in batch:
                if isinstance(value, ImageError):
                    errors.append(str(value))
                else:
                    values.append(value)
            if progress:
                progress(len(values) + len(errors), len(self))
        if errors:
            raise unreadable_error(errors, len(self), self.name)
        return values

    def verify(self) -> None:
        """Decode every image once; raise `DatasetError` that lists all that are unreadable."""
        self.each(lambda index: self.load(index) is None)

    def measure(
        self,
        measures: Sequence[Measure],
        *,
        cache: VectorCache | None = None,
        progress: Progress | None = None,
        label: str = "images",
    ) -> list[Column]:
        """Return the values of each measure, one an image; missing ones are measured in one pass."""
        if not all(self.measured.has(measure) for measure in measures):
            passing = self.survey(
                measures, (), lambda _: None, cache=cache, progress=progress, label=label
            )
            for _ in passing:
                pass
        return [self.measured.column(measure.name) for measure in measures]

    def survey(
        self,
        measures: Sequence[Measure],
        wanted: Collection[int],
        hand_over: Callable[[Frame], T],
        *,
        cache: VectorCache | None = None,
        progress: Progress | None = None,
        label: str = "images",
        size: int = BATCH,
    ) -> Iterator[list[tuple[int, T]]]:
        """Decode each image once that is `wanted` or lacks a measure, and take the measures.

        Yields batches of at most `size` pairs (position, `hand_over(frame)`) for the images at the
        positions `wanted`, in ascending order. Of byte-identical images one is measured.
        """
        handed = np.zeros(len(self), dtype=bool)
        handed[list(wanted)] = True
        lacking = self._lacking([m for m in measures if not m.aside], cache)
        order = _first(handed, np.any([handed, *lacking.values()], axis=0))
        if len(order):
            lacking |= self._lacking_aside([m for m in measures if m.aside], order)

        def load(index: int) -> tuple[T | None, list[tuple[Measure, Any]]] | ImageError:
            try:
                frame = self.frame(index)
            except ImageError as error:
                return error
            taken = [(m, m.take(frame)) for m in measures if lacking[m.name][index]]
            return hand_over(frame) if handed[index] else None, taken

        report = progress or (lambda *_: None)
        total = len(self)
        done = total - len(order)
        report(label, done, total)
        if not len(order):
            return
        errors: list[str] = []
        for batch in read_ahead(map(int, order), load, size):
            ready: list[tuple[int, Any]] = []
            fresh: dict[bytes, Singles] = {}
            for index, loaded in batch:
                if isinstance(loaded, ImageError):
                    errors.append(str(loaded))
                    continue
                handed_over, taken = loaded
                for measure, value in taken:
                    self.measured.values[measure.name].keep(index, value)
                    if measure.cached:
                        fresh[self._key(measure, index)] = measure.as_vector(value)
                if handed[index]:
                    ready.append((index, handed_over))
            if cache and fresh:
                cache.put(fresh)
            if ready and not errors:
                yield ready
            done += len(batch)
            report(label, done, total)
        if errors:
            self.verify()  # names every one, also those whose twin was read for them
            raise unreadable_error(errors, total, self.name)
        self._give_to_twins(measures)

    def _key(self, measure: Measure, index: int) -> bytes:
        return hashlib.sha256(f"{measure.name} {self.keys[index]}".encode()).digest()

    def _lacking(
        self, measures: Sequence[Measure], cache: VectorCache | None
    ) -> dict[str, npt.NDArray[np.bool_]]:
        """Return which images `(N,)` each measure is to be taken of, after a look into the cache."""
        self._make_room(measures)
        lacking = {measure.name: np.zeros(len(self), dtype=bool) for measure in measures}
        for measure in measures:
            column = self.measured.values[measure.name]
            if measure.cached and cache is not None:
                self._recall(measure, column, cache)
            first: set[str] = set()
            for index in column.missing().tolist():
                if self.hashes[index] not in first:
                    first.add(self.hashes[index])
                    lacking[measure.name][index] = True
        return lacking

    def _lacking_aside(
        self, measures: Sequence[Measure], decoded: Ints
    ) -> dict[str, npt.NDArray[np.bool_]]:
        """Return of which of the images that are `decoded` anyway each measure is to be taken."""
        self._make_room(measures)
        lacking = {measure.name: np.zeros(len(self), dtype=bool) for measure in measures}
        for name, of in lacking.items():
            of[np.intersect1d(decoded, self.measured.values[name].missing())] = True
        return lacking

    def _make_room(self, measures: Sequence[Measure]) -> None:
        """Have a column for each measure, and in it what is known of byte-identical images."""
        for measure in measures:
            if measure.name not in self.measured.values:
                self.measured.values[measure.name] = measure.column(len(self))
        self._give_to_twins(measures)

    def _recall(self, measure: Measure, column: Column, cache: VectorCache) -> None:
        """Take what the cache has of a measure."""
        missing = column.missing()
        for start in range(0, len(missing), ASKED):
            keys = {i: self._key(measure, i) for i in missing[start : start + ASKED].tolist()}
            there = cache.get(list(keys.values()))
            for index, key in keys.items():
                if key in there:
                    column.keep(index, measure.of_vector(there[key], self.hashes[index]))

    def _give_to_twins(self, measures: Sequence[Measure]) -> None:
        """Give byte-identical images the values of the one that was measured."""
        for measure in measures:
            column = self.measured.values[measure.name]
            missing = column.missing().tolist()
            if not 0 < len(missing) < len(self):
                continue
            wanted = {self.hashes[index] for index in missing}
            gaps = set(missing)
            of = {h: i for i, h in enumerate(self.hashes) if h in wanted and i not in gaps}
            for index in missing:
                if self.hashes[index] in of:
                    column.keep(index, column[of[self.hashes[index]]])


def _first(chosen: npt.NDArray[np.bool_], every: npt.NDArray[np.bool_]) -> Ints:
    """Return the positions of what is `chosen`, and then those of the rest of `every`."""
    return np.concatenate([np.flatnonzero(chosen), np.flatnonzero(every & ~chosen)])
