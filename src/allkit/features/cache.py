"""Feature vectors on disk, by the hash of everything that they depend on."""

from __future__ import annotations

import contextlib
import sqlite3
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from allkit.features.folder import cache_folder, chunks, features_limit
from allkit.files import private_file, private_folder

__all__ = ["FeatureCache"]

LAYOUT = 3
"""Version of the tables; a file with another one is emptied, since it can be computed again."""


class FeatureCache:
    """Feature vectors on disk, by the hash of everything that they depend on.

    One SQLite file, safe with several writers; at `limit` bytes (2 GiB, or `ALLKIT_CACHE_LIMIT`
    in megabytes) the vectors unused for longest are dropped. The folder is `ALLKIT_CACHE`, or the
    user's cache folder. If the cache cannot be used, a warning says so and features are computed
    again.
    """

    def __init__(self, folder: Path | None = None, *, limit: int | None = None) -> None:
        self.path = (folder or cache_folder()) / "features.sqlite"
        self.limit = limit if limit is not None else features_limit()
        self._broken = False

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        private_folder(self.path.parent)
        private_file(self.path)  # SQLite gives its other files the same mode
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            if connection.execute("PRAGMA user_version").fetchone()[0] != LAYOUT:
                self._lay_out(connection)
            connection.execute("PRAGMA synchronous=NORMAL")
            yield connection
        finally:
            connection.close()

    @staticmethod
    def _lay_out(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone()[0] != LAYOUT:
            connection.execute("DROP TABLE IF EXISTS features")
            connection.execute("DROP TABLE IF EXISTS sources")
            connection.execute(
                "CREATE TABLE sources (id INTEGER PRIMARY KEY, backbone TEXT NOT NULL, "
                "engine TEXT NOT NULL, UNIQUE (backbone, engine))"
            )
            connection.execute(
                "CREATE TABLE features (key BLOB PRIMARY KEY, vector BLOB NOT NULL, "
                "used REAL NOT NULL, source INTEGER NOT NULL, checksum INTEGER NOT NULL)"
            )
            connection.execute(f"PRAGMA user_version={LAYOUT}")
        connection.execute("COMMIT")

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if not self._broken:
                warnings.warn(
                    f"The feature cache {self.path} cannot be used ({error}); features are "
                    f"computed again. Set ALLKIT_CACHE to a folder that can be written.",
                    stacklevel=4,
                )
            self._broken = True

    def get(self, keys: Sequence[bytes]) -> dict[bytes, npt.NDArray[np.float32]]:
        """Return the vectors, `(D,)` float32, of those keys that are there."""
        found: dict[bytes, npt.NDArray[np.float32]] = {}
        if self._broken or not self.path.exists():
            return found
        with self._tolerant(), self._open() as connection:
            for chunk in chunks(sorted(set(keys)), 500):
                marks = ",".join("?" * len(chunk))
                rows = connection.execute(
                    f"SELECT key, vector, checksum FROM features WHERE key IN ({marks})", chunk
                )
                # A vector that the disk changed is not there: it is computed and written again.
                found |= {
                    key: np.frombuffer(vector, np.float32)
                    for key, vector, checksum in rows
                    if isinstance(vector, bytes) and checksum == _checksum(key, vector)
                }
            now = time.time()
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "UPDATE features SET used=? WHERE key=? AND used<?",
                [(now, key, now - 3600) for key in found],
            )
            connection.execute("COMMIT")
        return found

    def count(self, keys: Sequence[bytes]) -> int:
        """Return how many of those keys are there."""
        count = 0
        if self._broken or not self.path.exists():
            return count
        with self._tolerant(), self._open() as connection:
            for chunk in chunks(sorted(set(keys)), 500):
                marks = ",".join("?" * len(chunk))
                query = f"SELECT COUNT(*) FROM features WHERE key IN ({marks})"
                count += int(connection.execute(query, chunk).fetchone()[0])
        return count

    def put(
        self,
        vectors: Mapping[bytes, npt.NDArray[np.float32]],
        *,
        backbone: str = "unknown",
        engine: str = "unknown",
    ) -> None:
        """Keep vectors, and drop the ones unused for longest when there are too many bytes.

        `backbone` and `engine` say in `entries` what made them.
        """
        if self._broken or not vectors:
            return
        now = time.time()
        with self._tolerant(), self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT OR IGNORE INTO sources (backbone, engine) VALUES (?,?)", (backbone, engine)
            )
            source = connection.execute(
                "SELECT id FROM sources WHERE backbone=? AND engine=?", (backbone, engine)
            ).fetchone()[0]
            connection.executemany(
                "INSERT OR REPLACE INTO features VALUES (?,?,?,?,?)",
                [
                    (key, data, now, source, _checksum(key, data))
                    for key, vector in vectors.items()
                    for data in [np.ascontiguousarray(vector, np.float32).tobytes()]
                ],
            )
            connection.execute("COMMIT")
            self._make_room(connection)

    def _make_room(self, connection: sqlite3.Connection) -> None:
        if self._bytes(connection) <= self.limit:
            return
        connection.execute("BEGIN IMMEDIATE")
        while (size := self._bytes(connection)) > 0.9 * self.limit:
            count = connection.execute("SELECT COUNT(*) FROM features").fetchone()[0]
            if not count:
                break
            surplus = max(1, round(count * (1 - 0.9 * self.limit / size)))
            oldest = "SELECT key FROM features ORDER BY used LIMIT ?"
            connection.execute(f"DELETE FROM features WHERE key IN ({oldest})", (surplus,))
        connection.execute("COMMIT")
        self._give_back(connection)

    @staticmethod
    def _give_back(connection: sqlite3.Connection) -> None:
        # As a script, because `execute` stops after the first page that was freed.
        connection.executescript("PRAGMA incremental_vacuum")

    @staticmethod
    def _bytes(connection: sqlite3.Connection) -> int:
        pages, free, size = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    # ── looking after it ───────────────────────────────────────────────────────────────────

    def entries(self) -> list[tuple[str, str, int, int, float]]:
        """Return (backbone, engine, vectors, bytes, seconds since 1970 of the last use) of each."""
        if not self.path.exists():
            return []
        with self._open() as connection:
            return connection.execute(
                "SELECT backbone, engine, COUNT(*), SUM(LENGTH(vector)+LENGTH(key)), MAX(used) "
                "FROM features JOIN sources ON source=id GROUP BY source ORDER BY backbone, engine"
            ).fetchall()

    def clear(self, *, backbone: str | None = None, unused_since: float | None = None) -> int:
        """Drop the vectors of `backbone` not used since that time, or all; return how many."""
        if not self.path.exists():
            return 0
        with self._open() as connection:
            dropped = connection.execute(
                "DELETE FROM features WHERE used<=? AND source IN "
                "(SELECT id FROM sources WHERE ? IS NULL OR backbone=?)",
                (time.time() if unused_since is None else unused_since, backbone, backbone),
            ).rowcount
            self._give_back(connection)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return dropped


def _checksum(key: bytes, vector: bytes) -> int:
    """Return the checksum of a row: a bit that flips on a disk is noticed, and no vector mistaken."""
    return zlib.crc32(vector, zlib.crc32(key))
