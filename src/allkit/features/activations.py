"""Activations at a cut of the backbone, kept on disk, so that only the last stages are computed.

rows.bin       one row after another, each `prod(shape)` values
index.sqlite   which key lies in which row, its checksum, and when it was used last

A row counts only if the index names it and its checksum is right: a process may be killed
at any moment, and two may write at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import sqlite3
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from allkit.features.engines import HALF
from allkit.features.folder import activations_limit, chunks

__all__ = ["ActivationStore"]

DTYPES = {"float32": torch.float32, **HALF}
KEEP_FREE = 2**30
"""Bytes of the disk that are never filled."""
MOST_ROWS = 2**31
IN_USE = 900.0
"""A store counts as in use for so many seconds after its last use."""


class ActivationStore:
    """Rows of one shape and dtype on disk, by key; only the requested rows are in memory.

        store = ActivationStore.open(folder, key, (512, 14, 14), torch.bfloat16)
        rows = store.fetch(keys, compute)        # (N, 512, 14, 14) bfloat16

    All stores of a folder together stay below `limit` bytes: the stores unused for longest are
    dropped, then the rows of this one that were not used since it was opened. Rows that still do
    not fit are computed again: a full store costs time but never changes a result.
    """

    def __init__(
        self, path: Path, shape: tuple[int, ...], dtype: torch.dtype, *, limit: int
    ) -> None:
        self.path = path
        self.shape = shape
        self.dtype = dtype
        self.limit = limit
        self.row_bytes = math.prod(shape) * dtype.itemsize
        self._opened = self._beat = time.time()
        self._writable = True

    @classmethod
    def open(
        cls,
        folder: Path,
        key: str,
        shape: Sequence[int],
        dtype: torch.dtype,
        *,
        about: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> ActivationStore:
        """Open the store of `key` in `folder`, and make it if it is missing.

        `key` stands for everything that rows have in common (weights, cut, engine); shape and
        dtype are part of what distinguishes stores. `about` is shown by `allkit cache`
        (`backbone`, `stage`, `engine`). `limit` is in bytes, by default `ALLKIT_ACTIVATIONS_LIMIT`
        megabytes or 16 GiB.
        """
        if dtype not in DTYPES.values():
            raise ValueError(f"{dtype} is none of {', '.join(DTYPES)}")
        name = str(dtype).removeprefix("torch.")
        text = json.dumps([key, list(shape), name])
        path = folder / hashlib.sha256(text.encode()).hexdigest()[:32]
        store = cls(
            path, tuple(shape), dtype, limit=activations_limit() if limit is None else limit
        )
        with store._tolerant(), store._index() as index:
            facts = dict(about or {}) | {"shape": "×".join(map(str, shape)), "dtype": name}
            index.execute("BEGIN IMMEDIATE")
            index.executemany("INSERT OR REPLACE INTO about VALUES (?,?)", facts.items())
            index.execute("INSERT OR REPLACE INTO about VALUES ('used', ?)", (str(store._opened),))
            index.execute("COMMIT")
        return store

    # ── reading ────────────────────────────────────────────────────────────────────────────

    def fetch(
        self, keys: Sequence[bytes], compute: Callable[[list[int]], torch.Tensor]
    ) -> torch.Tensor:
        """Return the rows `(N, *shape)` of `keys`; those not kept are computed, and kept.

        `compute(positions)` returns the rows `(n, *shape)` of the keys at those positions.
        """
        rows, found = self.read(keys)
        lacking = [position for position, there in enumerate(found) if not there]
        if lacking:
            fresh = compute(lacking).detach().to("cpu", self.dtype)
            rows[lacking] = fresh
            self.write([keys[position] for position in lacking], fresh)
        return rows

    def missing(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return the keys that are not in the store, each once, in order."""
        known: Mapping[bytes, object] = {}
        with self._tolerant(), self._index() as index:
            known = self._places(index, keys)
        return [key for key in dict.fromkeys(keys) if key not in known]

    def read(self, keys: Sequence[bytes]) -> tuple[torch.Tensor, list[bool]]:
        """Return `(N, *shape)` on the CPU and which of the N rows were found; others are zero."""
        rows = torch.zeros((len(keys), *self.shape), dtype=self.dtype)
        found = [False] * len(keys)
        with self._tolerant(), self._index() as index:
            places = self._places(index, keys)
            if not places:
                return rows, found
            damaged: list[bytes] = []
            if time.time() - self._beat > IN_USE / 10:
                self._beat = time.time()
                os.utime(self.path / "rows.bin")
            order = sorted(
                (places[key][0], position) for position, key in enumerate(keys) if key in places
            )
            # The file is opened for each batch: it may be dropped by another process, and the
            # place in an open file would be shared with forked workers.
            with (self.path / "rows.bin").open("rb", buffering=0) as stream:
                for slot, position in order:
                    view = _bytes(rows[position])
                    count = 0
                    if 0 <= slot < MOST_ROWS:  # an index that the disk changed may say anything
                        stream.seek(slot * self.row_bytes)
                        count = stream.readinto(view)
                    if count == self.row_bytes and zlib.crc32(view) == places[keys[position]][1]:
                        found[position] = True
                    else:
                        damaged.append(keys[position])
                        rows[position] = 0
            self._touch(index, [key for key in places if key not in damaged])
            if damaged:
                # The slot stays, without a name and first in line to be written again.
                index.executemany(
                    "UPDATE rows SET key=randomblob(32), used=0 WHERE key=?",
                    [(key,) for key in damaged],
                )
        return rows, found

    def __len__(self) -> int:
        count = 0
        with self._tolerant(), self._index() as index:
            count = int(index.execute("SELECT COUNT(*) FROM rows WHERE used>0").fetchone()[0])
        return count

    # ── writing ────────────────────────────────────────────────────────────────────────────

    def write(self, keys: Sequence[bytes], rows: torch.Tensor) -> int:
        """Keep `rows` `(N, *shape)`, one for each key, as far as there is room; return how many."""
        if tuple(rows.shape) != (len(keys), *self.shape):
            raise ValueError(f"{tuple(rows.shape)} is not ({len(keys)}, {self.shape})")
        if not self._writable:
            return 0
        rows = rows.detach().to("cpu", self.dtype).contiguous()
        last = {key: position for position, key in enumerate(keys)}
        kept = 0
        with self._tolerant(), self._index() as index:
            room = self._make_room(len(last) * self.row_bytes)
            index.execute("BEGIN IMMEDIATE")
            try:
                there = self._places(index, list(last))
                new = [key for key in last if key not in there]
                slots = self._slots(index, len(new), room)
                entries = []
                if slots:
                    mode = "r+b" if (self.path / "rows.bin").exists() else "w+b"
                    with (self.path / "rows.bin").open(mode) as stream:
                        for key, slot in zip(new, slots, strict=False):
                            view = _bytes(rows[last[key]])
                            stream.seek(slot * self.row_bytes)
                            stream.write(view)
                            entries.append((slot, key, zlib.crc32(view), time.time()))
                # A slot that is taken over loses the row it held.
                index.executemany("INSERT OR REPLACE INTO rows VALUES (?,?,?,?)", entries)
                index.execute("COMMIT")
                kept = len(entries)
            except BaseException:
                index.execute("ROLLBACK")
                raise
        return kept

    def _slots(self, index: sqlite3.Connection, wanted: int, room: int) -> list[int]:
        """Return slots to write to: behind the last one while there is room, then reused ones."""
        end = int(index.execute("SELECT COALESCE(MAX(slot)+1, 0) FROM rows").fetchone()[0])
        slots = list(range(end, end + min(wanted, room // self.row_bytes)))
        unused = index.execute(
            "SELECT slot FROM rows WHERE used<? ORDER BY used LIMIT ?",
            (self._opened, wanted - len(slots)),
        )
        return slots + [int(row[0]) for row in unused]

    def _make_room(self, wanted: int) -> int:
        """Drop stores unused for longest until `wanted` bytes fit; return the bytes there are."""
        own = _size(self.path)
        others = sorted(
            (_used(path), path, _size(path))
            for path in self.path.parent.iterdir()
            if path.is_dir() and path != self.path
        )
        total = own + sum(size for _, _, size in others)
        # A store that was used a moment ago belongs to a training that is going on.
        while others and total + wanted > self.limit and others[0][0] < time.time() - IN_USE:
            _, path, size = others.pop(0)
            shutil.rmtree(path, ignore_errors=True)
            total -= size
        free = shutil.disk_usage(self.path).free - KEEP_FREE
        return max(0, min(self.limit - total, free))

    # ── the index ──────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        self.path.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path / "index.sqlite", timeout=60, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous=OFF")  # the checksums tell what was not written
            if not connection.execute("PRAGMA user_version").fetchone()[0]:
                connection.executescript(
                    "BEGIN IMMEDIATE;"
                    "CREATE TABLE IF NOT EXISTS rows (slot INTEGER PRIMARY KEY, "
                    "key BLOB NOT NULL UNIQUE, checksum INTEGER NOT NULL, used REAL NOT NULL);"
                    "CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);"
                    "PRAGMA user_version=1; COMMIT;"
                )
            yield connection
        finally:
            connection.close()

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.DatabaseError) and "malformed" in str(error):
                shutil.rmtree(self.path, ignore_errors=True)  # a power cut; start again
                return
            if self._writable:
                warnings.warn(
                    f"The activations in {self.path.parent} cannot be kept ({error}); they are "
                    f"computed again in every epoch. Free some space, or set ALLKIT_CACHE to "
                    f"another folder.",
                    stacklevel=4,
                )
            self._writable = False

    @staticmethod
    def _places(index: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
        places: dict[bytes, tuple[int, int]] = {}
        for chunk in chunks(list(keys), 500):
            marks = ",".join("?" * len(chunk))
            rows = index.execute(
                f"SELECT key, slot, checksum FROM rows WHERE key IN ({marks})", chunk
            )
            places |= {key: (slot, checksum) for key, slot, checksum in rows}
        return places

    def _touch(self, index: sqlite3.Connection, keys: Sequence[bytes]) -> None:
        # Once per key and object is enough to know which rows are in use.
        for chunk in chunks(list(keys), 500):
            marks = ",".join("?" * len(chunk))
            stale = index.execute(
                f"SELECT key FROM rows WHERE used<? AND key IN ({marks})", (self._opened, *chunk)
            ).fetchall()
            if stale:
                index.executemany(
                    "UPDATE rows SET used=? WHERE key=?", [(time.time(), row[0]) for row in stale]
                )

    # ── looking after it ───────────────────────────────────────────────────────────────────

    @staticmethod
    def entries(folder: Path) -> list[tuple[Path, dict[str, str], int, int, float]]:
        """Return (path, about, rows, bytes, seconds since 1970 of the last use) of each store."""
        found = []
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if not (path / "index.sqlite").is_file():
                continue
            about, rows = {"backbone": "damaged"}, 0
            with contextlib.suppress(sqlite3.Error):
                index = sqlite3.connect(path / "index.sqlite", timeout=60)
                with contextlib.closing(index):
                    about = dict(index.execute("SELECT name, value FROM about").fetchall())
                    rows = index.execute("SELECT COUNT(*) FROM rows WHERE used>0").fetchone()[0]
            found.append((path, about, rows, _size(path), _used(path)))
        return found

    @staticmethod
    def clear(
        folder: Path, *, backbone: str | None = None, unused_since: float | None = None
    ) -> int:
        """Drop the stores of `backbone` not used since that time, or all; return the rows lost."""
        dropped = 0
        for path, about, rows, _, used in ActivationStore.entries(folder):
            if backbone not in (None, about.get("backbone")):
                continue
            if unused_since is None or used <= unused_since:
                shutil.rmtree(path, ignore_errors=True)
                dropped += rows
        return dropped


def _bytes(row: torch.Tensor) -> memoryview:
    return row.view(torch.uint8).numpy().data.cast("B")


def _size(path: Path) -> int:
    total = 0
    for file in path.iterdir():
        with contextlib.suppress(OSError):
            total += file.stat().st_size
    return total


def _used(path: Path) -> float:
    with contextlib.suppress(OSError):
        return max(file.stat().st_mtime for file in path.iterdir())
    return 0.0
