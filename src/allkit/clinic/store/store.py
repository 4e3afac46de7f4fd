"""Transactions: who may, what is changed, what the audit says of it."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from ulid import ULID

from allkit.clinic.records import canonical, sha256_of
from allkit.clinic.store import chain, engine, schema
from allkit.clinic.store import tables as t
from allkit.clinic.store.blobs import Blobs
from allkit.errors import StoreError
from allkit.files import private_file, private_folder, users_folder

__all__ = [
    "KEPT",
    "Change",
    "Store",
    "default_folder",
    "new_id",
    "row_hash",
    "setting_of",
    "utc_now",
]

FOLDER_VARIABLE = "ALLKIT_CLINIC"
URL_VARIABLE = "ALLKIT_CLINIC_URL"
DEFAULTS: dict[str, Any] = {
    "idle_minutes": 15,
    "second_reader": False,
    "blind_first": False,
    "confirm_signature_minutes": 5,
    "default_model": None,
    "laboratory": "",
    "targets": {},
}
"""The settings of a clinic and what they are in a new one."""


KEPT = (t.answers, t.slide_answers, t.readings, t.signatures, t.reports, t.reasons)
"""The tables whose rows are never changed."""


def row_hash(table: sa.Table, values: Mapping[str, Any]) -> str:
    """Return the hash of a row, by the values of all columns of its table."""
    return sha256_of(canonical([values[name] for name in sorted(table.columns.keys())]))


def setting_of(connection: sa.Connection, name: str) -> Any:
    """Return the value of a setting of a clinic, or what it is in a new one."""
    found = connection.scalar(sa.select(t.settings.c.value).where(t.settings.c.name == name))
    return DEFAULTS[name] if found is None else json.loads(found)


def utc_now() -> str:
    """Return the time now, in UTC with milliseconds: `2026-01-31T09:15:00.123Z`."""
    now = datetime.datetime.now(datetime.UTC)
    return now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z"


def new_id() -> str:
    """Return a new ULID: 26 characters that sort by the time they were made at."""
    return str(ULID())


def default_folder() -> Path:
    """Return where a clinic is kept: `ALLKIT_CLINIC`, or the user's folder of data."""
    setting = os.environ.get(FOLDER_VARIABLE)
    if setting:
        return Path(setting)
    folder = users_folder("data")
    if folder is None:
        raise StoreError(
            f"This user has no home, in which a clinic would lie. Name its folder in {FOLDER_VARIABLE}, or "
            f"with --store."
        )
    return folder / "clinic"


class Store:
    """A clinic's database and its folder of images.

    `folder` holds the images, and the SQLite database where there is no `url` of a PostgreSQL one;
    both default to what `ALLKIT_CLINIC` and `ALLKIT_CLINIC_URL` say. `now` gives the time. Safe to share
    between threads; a process that is forked opens its own.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        url: str | None = None,
        *,
        now: Callable[[], str] = utc_now,
    ) -> None:
        self.folder = default_folder() if folder is None else Path(folder)
        self.url = url or os.environ.get(URL_VARIABLE) or None
        self.engine = engine.connect(self.folder, self.url)
        self.place = engine.described(self.engine)
        self.blobs = Blobs(self.folder / "images")
        self.now = now

    @classmethod
    def open(
        cls,
        folder: Path | str | None = None,
        url: str | None = None,
        *,
        now: Callable[[], str] = utc_now,
    ) -> Self:
        """Open a clinic that exists. Raises `StoreError` where there is none, or of another version."""
        store = cls(folder, url, now=now)
        if store.url is None and not (store.folder / engine.SQLITE).is_file():
            raise StoreError(f"{store.folder} holds no clinic. Make one with: allkit clinic init")
        with store._closed_on_failure(), engine.reading(store.engine) as connection:
            schema.require_current(connection, store.place)
        return store

    @classmethod
    def create(
        cls,
        folder: Path | str | None = None,
        url: str | None = None,
        *,
        now: Callable[[], str] = utc_now,
        revision: str = "head",
    ) -> Self:
        """Make a clinic, or bring one of an earlier version up to date; one of today stays as it is."""
        store = cls(folder, url, now=now)
        try:
            private_folder(store.blobs.folder)
        except OSError as error:
            raise StoreError(
                f"The folder {store.folder} cannot be made ({error.strerror or error}). Choose another "
                "with --store."
            ) from None
        with store._closed_on_failure():
            store._close_to_others()
            with engine.named_failures():
                engine.use_wal(store.engine, store.place)
            with engine.writing(store.engine) as connection:
                schema.migrate(connection, revision)
        return store

    def _close_to_others(self) -> None:
        """Let nobody else read the images and the database; a folder that was there keeps its own mode."""
        with contextlib.suppress(OSError):  # drives without modes
            self.blobs.folder.chmod(0o700)
        if self.url is None:
            private_file(self.folder / engine.SQLITE)  # SQLite gives its other files the same mode

    @contextlib.contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give back the connections."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def change(self, who: str) -> Iterator[Change]:
        """Give a transaction that writes. What was changed in it stays only if it was also logged.

        So nothing is changed that the audit does not know, and where nothing was to be done nothing
        is written. When the block has ended the change is on the disk.
        """
        with engine.writing(self.engine) as connection:
            change = Change(self, connection, who)
            yield change
            if not change.logged or change.rows:
                connection.rollback()

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give a transaction that reads; it sees the database as it was at one moment."""
        with engine.reading(self.engine) as connection:
            yield connection

    def setting(self, name: str, connection: sa.Connection) -> Any:
        """Return the value of a setting."""
        return setting_of(connection, name)


class Change:
    """A transaction that writes: its connection, its time, and the audit rows it makes."""

    def __init__(self, store: Store, connection: sa.Connection, who: str) -> None:
        self.store, self.connection, self.who = store, connection, who
        # Times follow one another also where the clock of the machine went back; `clock` is what it says.
        self.clock = store.now()
        self.now = max(self.clock, chain.head(connection)[2])
        self.logged = 0
        self.rows: list[tuple[str, str, str]] = []
        """(table, key, hash) of rows that are never changed, for the next row of the audit."""

    def log(
        self,
        what: str,
        object: str,
        *,
        why: str | None = None,
        case: str | None = None,
        **detail: Any,
    ) -> None:
        """Append to the audit what was done to which object.

        `detail` holds ids, hashes, numbers and words of a fixed set. A reason in free text goes into a
        table of its own, from which it is deleted with the `case` that it belongs to; the audit keeps its
        hash.
        """
        if why is not None:
            reason = new_id()
            self.insert(t.reasons, id=reason, case_id=case, what=what, why=why)
            detail |= {"reason": reason, "why_sha256": sha256_of(why)}
        if self.rows:
            detail["rows"], self.rows = self.rows, []
        chain.append(self.connection, self.clock, self.who, what=what, object=object, **detail)
        self.logged += 1

    def insert(self, table: sa.Table, **values: Any) -> None:
        """Insert a row. One that is never changed has its hash in the next row of the audit."""
        self.connection.execute(table.insert().values(values))
        if table in KEPT:
            (key,) = table.primary_key.columns
            whole = dict.fromkeys(table.columns.keys()) | values
            self.rows.append((table.name, str(values[key.name]), row_hash(table, whole)))

    def update(self, table: sa.Table, id: str, **values: Any) -> None:
        """Change values of the row with an id."""
        self.connection.execute(table.update().where(table.c.id == id).values(values))

    def first(self, query: sa.Select[Any]) -> sa.Row[Any] | None:
        """Return the first row of a query, or `None`."""
        return self.connection.execute(query).first()

    def set(self, name: str, value: Any) -> None:
        """Change a setting of the clinic."""
        self.connection.execute(t.settings.delete().where(t.settings.c.name == name))
        self.insert(t.settings, name=name, value=canonical(value))
