"""One run over many images: parts and a manifest beside the table, until it is whole.

A part is a table of consecutive rows. It counts once the manifest names it, and the manifest is
replaced whole, so a process may be killed at any moment: the next one goes on behind the last
part that counts, and no row is lost or doubled.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from allkit import __version__
from allkit.errors import AllkitError, ConfigError
from allkit.files import held, on_disk, require_free, write_whole
from allkit.records import CasePrediction, Prediction
from allkit.volume.tables import encode, join, row_of
from allkit.volume.units import By

__all__ = ["MANIFEST", "AnsweringRun", "Identity", "unreadable_images"]

MANIFEST, LOCK, WHOLE = "manifest.json", "lock", "whole.part"
FORMAT = 3
"""Version of the parts, a higher one where the columns of the table changed."""
ROWS = 8192
SECONDS = (2.0, 60.0)
"""A part is closed after a twentieth of the time so far, within these bounds, or `ROWS` rows."""


class Identity(BaseModel, frozen=True):
    """What decides the rows; a run is taken up again only when all of it is as it was.

    `model` is a hash of the model, `images` that of `Paths.fingerprint`, `count` their number. Where
    rows are units, `by` says of what, and `count` is the number of these.
    """

    allkit: str = __version__
    model: str
    classes: tuple[str, ...]
    shard: str
    count: int
    images: str
    by: By = "field"


class _Part(BaseModel, frozen=True):
    """Rows `start` to `stop` - 1, in `file`, how many there are of each verdict, and how many images
    were unreadable, where rows are units.
    """

    file: str = Field(pattern=r"^part-\d{12,}\.[a-z]+$")
    start: int
    stop: int
    sha256: str
    verdicts: dict[str, int]
    unreadable: int = 0


class _Manifest(BaseModel, frozen=True):
    format: int = FORMAT
    run: Identity
    parts: tuple[_Part, ...] = ()
    checksum: str = ""

    def sealed(self) -> _Manifest:
        """Return it with the hash of everything else in it, by which a changed bit is noticed."""
        text = self.model_dump_json(exclude={"checksum"})
        return self.model_copy(update={"checksum": hashlib.sha256(text.encode()).hexdigest()})


TOLD = {
    "allkit": "the version of allkit",
    "model": "the model",
    "classes": "the model's classes",
    "shard": "the shard",
    "by": "what a row stands for (--by)",
    "count": "the number of images",
    "images": "the images (their names, order, sizes or times of change)",
}


def _folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.parts")


class AnsweringRun:
    """The parts of one table that is being made; used by one process at a time.

    `done` rows are there already: images from this position on are to be answered.
    """

    def __init__(self, out: Path, identity: Identity, *, overwrite: bool = False) -> None:
        """Begin, or go on with what an ended process left.

        Raises `ConfigError` when `out` exists, another process is at it, or what was left is of
        another run: of other images, another model, or another shard. With `overwrite` such
        remains are dropped and `out` will be replaced.
        """
        require_free(out, overwrite=overwrite)
        self.out, self.identity = out, identity
        self.folder = _folder(out)
        self._suffix = out.suffix.lower()
        self._units = identity.by != "field"
        try:
            self.folder.mkdir(exist_ok=True)
            self._lock = held(self.folder / LOCK, out)
        except OSError as error:
            raise AllkitError(
                f"Cannot write {self.folder}: {error.strerror or error}. Choose another place."
            ) from error
        if self._lock is None:
            raise ConfigError(f"Another process is writing {out} now. Wait for it or end it.")
        try:
            self._parts = self._left(overwrite)
            self._save()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> AnsweringRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the parts for other processes; they stay on disk until `finish`."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def done(self) -> int:
        """The rows that are safe on disk."""
        return self._parts[-1].stop if self._parts else 0

    @property
    def verdicts(self) -> Counter[str]:
        """How many rows on disk have each verdict."""
        total: Counter[str] = Counter()
        for part in self._parts:
            total.update(part.verdicts)
        return total

    @property
    def unreadable(self) -> int:
        """How many images of the rows on disk were unreadable."""
        if not self._units:
            return self.verdicts["unreadable"]
        return sum(part.unreadable for part in self._parts)

    def write(
        self,
        answers: Iterable[Prediction | CasePrediction],
        *,
        rows: int = ROWS,
        seconds: float | None = None,
    ) -> Generator[int, None, None]:
        """Keep the answers from position `done` on, and yield the number of rows after each.

        A part is closed after so many `rows` or `seconds`. When the process is told to stop
        (Ctrl-C, a termination that raises), the open part is closed first.
        """
        begun = since = time.monotonic()
        pending: list[dict[str, Any]] = []
        unreadable = 0
        try:
            for answer in answers:
                pending.append(row_of(answer, self.identity.classes))
                unreadable += unreadable_images(answer)
                now = time.monotonic()
                limit = min(max(SECONDS[0], (now - begun) / 20), SECONDS[1])
                if len(pending) >= rows or now - since >= (limit if seconds is None else seconds):
                    self._keep(pending, unreadable)
                    pending, unreadable, since = [], 0, now
                yield self.done + len(pending)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            with contextlib.suppress(AllkitError):
                self._keep(pending, unreadable)
            raise
        self._keep(pending, unreadable)

    def finish(self) -> Counter[str]:
        """Put the table in its place, drop the parts, and return the verdicts in it."""
        if self.done != self.identity.count:
            raise AllkitError(
                f"{self.out} has {self.done} of {self.identity.count} rows. Give the same command "
                f"again to go on."
            )
        whole = self.folder / WHOLE
        try:
            with whole.open("wb") as stream:
                paths = [self.folder / part.file for part in self._parts]
                classes = self.identity.classes
                join(paths, stream, self._suffix, classes, units=self._units)
                stream.flush()
                on_disk(stream)
            os.replace(whole, self.out)
        except OSError as error:
            whole.unlink(missing_ok=True)
            raise AllkitError(
                f"Cannot write {self.out}: {error.strerror or error}. All rows are kept in "
                f"{self.folder}; make room and give the same command again."
            ) from error
        verdicts = self.verdicts
        self.close()
        self._clear(keep=())
        with contextlib.suppress(OSError):  # someone put a file of theirs there
            self.folder.rmdir()
        return verdicts

    def _keep(self, rows: Sequence[Mapping[str, Any]], unreadable: int) -> None:
        if not rows:
            return
        classes = self.identity.classes
        data = encode([dict(row) for row in rows], self._suffix, classes, units=self._units)
        name = f"part-{self.done:012d}{self._suffix}"
        write_whole(self.folder / name, data)
        part = _Part(
            file=name,
            start=self.done,
            stop=self.done + len(rows),
            sha256=hashlib.sha256(data).hexdigest(),
            verdicts=dict(Counter(str(row["verdict"]) for row in rows)),
            unreadable=unreadable,
        )
        self._parts.append(part)
        self._save()

    def _save(self) -> None:
        manifest = _Manifest(run=self.identity, parts=tuple(self._parts)).sealed()
        write_whole(self.folder / MANIFEST, manifest.model_dump_json(indent=1) + "\n")

    def _left(self, overwrite: bool) -> list[_Part]:
        """Return the parts that an ended process left and that count; drop everything else."""
        path = self.folder / MANIFEST
        parts: list[_Part] = []
        if path.is_file():
            try:
                manifest = _Manifest.model_validate_json(path.read_bytes())
                changed = _changes(manifest.run, self.identity)
                if manifest.format != FORMAT:
                    changed.append("the columns of the table")
                elif manifest != manifest.sealed() and not changed:
                    changed = ["its manifest, which is damaged"]
            except (ValidationError, OSError):
                changed = ["its manifest, which cannot be read"]
            if changed and not overwrite:
                raise ConfigError(
                    f"{self.folder} holds the beginning of another run; changed since then: "
                    f"{', '.join(changed)}. Give --overwrite to begin anew, or another --out."
                )
            if not changed:
                parts = list(_sound(self.folder, manifest.parts))
        self._clear(keep={MANIFEST, *(part.file for part in parts)})
        return parts

    def _clear(self, keep: Iterable[str]) -> None:
        """Remove files of ours that do not count; nothing else that may lie there."""
        ours = ("part-*", f"{MANIFEST}*", f".{MANIFEST}.*.part", ".part-*.part", WHOLE, LOCK)
        stays = {*keep, *((LOCK,) if self._lock is not None else ())}
        for pattern in ours:
            for path in self.folder.glob(pattern):
                if path.name not in stays:
                    path.unlink(missing_ok=True)


def unreadable_images(answer: Prediction | CasePrediction) -> int:
    """Return how many images of an answer could not be read."""
    if isinstance(answer, CasePrediction):
        return len(answer.unreadable)
    return int(answer.verdict == "unreadable")


def _changes(before: Identity, now: Identity) -> list[str]:
    changed = [name for name in TOLD if getattr(before, name) != getattr(now, name)]
    if "count" in changed or "shard" in changed:  # the list follows from these
        changed = [name for name in changed if name != "images"]
    return [TOLD[name] for name in changed]


def _sound(folder: Path, parts: Sequence[_Part]) -> Iterator[_Part]:
    """Yield the parts up to the first that is missing or altered: from there it is done again."""
    expected = 0
    for part in parts:
        try:
            digest = hashlib.sha256((folder / part.file).read_bytes()).hexdigest()
        except OSError:
            return
        if part.start != expected or digest != part.sha256:
            return
        expected = part.stop
        yield part
