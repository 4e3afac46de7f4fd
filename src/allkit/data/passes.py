"""One pass over the images of a set: each is decoded once for everything that is measured."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from allkit.data.rows import Sample, unreadable_error
from allkit.data.sources import digest
from allkit.errors import ImageError
from allkit.images.batches import read_ahead
from allkit.images.decode import read_image
from allkit.images.same_field import DuplicatePair
from allkit.types import Indices, Pixels, Progress, Singles

if TYPE_CHECKING:
    from allkit.images.cells import Cells  # it brings OpenCV, which takes a tenth of a second

__all__ = ["Frame", "ImagePasses", "Measure", "Measured", "VectorCache"]

T = TypeVar("T")
BATCH = 64
"""Images that are read ahead together, where only numbers are kept of them."""


class VectorCache(Protocol):
    """Keeps float32 vectors by keys; the feature cache does."""

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Singles]:
        """Return the vectors that are kept, by key."""

    def put(self, vectors: Mapping[bytes, Singles]) -> None:
        """Keep vectors."""


class Store(Protocol):
    """Room for the values of a measure, which need not fit into the memory."""

    def keep(self, index: int, value: Any) -> Any:
        """Store `value` for image number `index`, and return it as stored."""


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
    `cached`, the value is a float32 vector that a cache keeps by the name and the image's hash.
    `store(count)` gives the room for the values of `count` images.
    """

    name: str
    take: Callable[[Frame], Any]
    cached: bool = False
    store: Callable[[int], Store] | None = None


@dataclass
class Measured:
    """What was measured on `count` images, so that it is not measured again.

    `values` holds, by the name of the measure, one value an image; `None` where it was not measured.
    """

    count: int
    hashes: tuple[str, ...] | None = None
    values: dict[str, list[Any]] = field(default_factory=dict)
    duplicates: tuple[DuplicatePair, ...] | None = None

    def at(self, indices: Sequence[int] | Indices) -> Measured:
        """Return the values of the images at `indices`, in that order."""
        hashes = self.hashes
        return Measured(
            len(indices),
            None if hashes is None else tuple(hashes[i] for i in indices),
            {name: [values[i] for i in indices] for name, values in self.values.items()},
        )

    def same(self) -> Measured:
        """Return a copy for another set of the same images."""
        return replace(self, values={name: list(values) for name, values in self.values.items()})

    def and_then(self, other: Measured) -> Measured:
        """Return the values of these images, followed by those of `other`."""
        hashes = None
        if self.hashes is not None and other.hashes is not None:
            hashes = self.hashes + other.hashes
        values = {
            name: self.column(name) + other.column(name)
            for name in dict.fromkeys((*self.values, *other.values))
        }
        return Measured(self.count + other.count, hashes, values)

    def has(self, measure: Measure) -> bool:
        """Say whether a measure was taken of every image."""
        return all(value is not None for value in self.column(measure.name))

    def forget(self, measure: Measure) -> None:
        """Release the values of a measure that is no longer needed."""
        self.values.pop(measure.name, None)

    def column(self, name: str) -> list[Any]:
        """Return the values of a measure; `None` for each image on which it was not measured."""
        return self.values.get(name, [None] * self.count)


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
        self._stores: dict[str, Store] = {}
        self._lock = threading.Lock()

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
            files = self.samples
            self.measured.hashes = tuple(self.each(lambda index: digest(files[index].source)))
        return self.measured.hashes

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
    ) -> list[list[Any]]:
        """Return the values of each measure, one an image; missing ones are measured in one pass."""
        if not all(self.measured.has(measure) for measure in measures):
            passing = self.survey(
                measures, (), lambda _: None, cache=cache, progress=progress, label=label
            )
            for _ in passing:
                pass
        return [list(self.measured.column(measure.name)) for measure in measures]

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
        lacking = self._lacking(measures, cache)
        order = [*sorted(wanted), *sorted(set(lacking) - set(wanted))]
        handed = set(wanted)

        def load(index: int) -> tuple[T | None, list[tuple[Measure, Any]]] | ImageError:
            try:
                frame = self.frame(index)
            except ImageError as error:
                return error
            taken = [(measure, measure.take(frame)) for measure in lacking.get(index, ())]
            return hand_over(frame) if index in handed else None, taken

        report = progress or (lambda *_: None)
        total = len(self)
        done = total - len(order)
        report(label, done, total)
        if not order:
            return
        errors: list[str] = []
        for batch in read_ahead(order, load, size):
            ready: list[tuple[int, Any]] = []
            fresh: dict[bytes, Singles] = {}
            for index, loaded in batch:
                if isinstance(loaded, ImageError):
                    errors.append(str(loaded))
                    continue
                handed_over, taken = loaded
                for measure, value in taken:
                    self.measured.values[measure.name][index] = self._stored(measure, index, value)
                    if measure.cached:
                        fresh[self._key(measure, index)] = value
                if index in handed:
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

    def _stored(self, measure: Measure, index: int, value: Any) -> Any:
        """Return a value as it lies in the store of its measure, where there is one."""
        if measure.store is None:
            return value
        with self._lock:
            if measure.name not in self._stores:
                self._stores[measure.name] = measure.store(len(self))
        return self._stores[measure.name].keep(index, value)

    def _key(self, measure: Measure, index: int) -> bytes:
        return hashlib.sha256(f"{measure.name} {self.hashes[index]}".encode()).digest()

    def _lacking(
        self, measures: Sequence[Measure], cache: VectorCache | None
    ) -> dict[int, list[Measure]]:
        """Return which measures are missing for which image, after a look into the cache."""
        for measure in measures:
            self.measured.values.setdefault(measure.name, [None] * len(self))
        self._give_to_twins(measures)
        lacking: dict[int, list[Measure]] = {}
        for measure in measures:
            values = self.measured.values[measure.name]
            missing = [index for index in range(len(self)) if values[index] is None]
            if not missing:
                continue
            if measure.cached and cache is not None:
                keys = {index: self._key(measure, index) for index in missing}
                there = cache.get(list(keys.values()))
                for index, key in keys.items():
                    if key in there:
                        values[index] = there[key]
            first: dict[str, int] = {}
            for index in missing:
                if values[index] is None and first.setdefault(self.hashes[index], index) == index:
                    lacking.setdefault(index, []).append(measure)
        return lacking

    def _give_to_twins(self, measures: Sequence[Measure]) -> None:
        """Give byte-identical images the values of the one that was measured."""
        for measure in measures:
            values = self.measured.values[measure.name]
            if any(value is None for value in values):
                of = {h: v for h, v in zip(self.hashes, values, strict=True) if v is not None}
                for index, digest in enumerate(self.hashes):
                    if values[index] is None and digest in of:
                        values[index] = of[digest]
