"""Connections that lose nothing, to SQLite and PostgreSQL.

SQLite: the journal is a WAL, a transaction that writes takes the lock when it begins (`BEGIN IMMEDIATE`),
waits up to 30 seconds for it, and is on the disk when it has ended (`synchronous=FULL`). The driver's own
transactions are off: with them, and with SQLAlchemy's defaults, sixteen processes broke a chain of hashes
without an error. PostgreSQL: one lock of the database (`pg_advisory_xact_lock`) stands for the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from allkit.errors import ConfigError, StoreError

__all__ = ["SQLITE", "connect", "described", "named_failures", "reading", "writing"]

SQLITE = "clinic.sqlite3"
"""The name of the database in the clinic's folder."""
WAIT = 30
"""Seconds for which a transaction waits for others to end."""
LOCK = 4_116_052_119
"""The number of the lock that writers hold in PostgreSQL."""
WRITES = "allkit_writes"


def connect(folder: Path, url: str | None) -> sa.Engine:
    """Return the engine of the database in a folder, or at the URL of a PostgreSQL database."""
    if url is None:
        return _sqlite(folder / SQLITE)
    try:
        address = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise ConfigError(
            "The clinic's URL is not one of a database. Write: postgresql://USER@HOST/DATABASE"
        ) from None
    if address.get_backend_name() != "postgresql":
        raise ConfigError(
            f"The clinic keeps its data in SQLite (without a URL) or PostgreSQL, not in "
            f"{address.get_backend_name()}. Write: postgresql://USER@HOST/DATABASE"
        )
    try:
        import psycopg  # noqa: F401 - SQLAlchemy imports it only when it connects
    except ImportError:
        raise ConfigError(
            "PostgreSQL needs psycopg. Type: pip install 'allkit[clinic,postgres]'"
        ) from None
    # A connection that the server has closed is found before it is used.
    return sa.create_engine(
        address.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        connect_args={"connect_timeout": 10},
    )


def _sqlite(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": WAIT, "isolation_level": None, "check_same_thread": False},
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        for pragma in (
            f"busy_timeout = {WAIT * 1000}",
            "foreign_keys = ON",
            "secure_delete = ON",
            "synchronous = FULL",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def use_wal(engine: sa.Engine, place: str) -> None:
    """Switch a new SQLite database to the journal in which readers and a writer do not wait."""
    if engine.dialect.name != "sqlite":
        return
    raw = engine.raw_connection()
    try:
        (mode,) = raw.cursor().execute("PRAGMA journal_mode = WAL").fetchone()
    finally:
        raw.close()
    if mode != "wal":
        raise StoreError(
            f"{place} is on a drive that cannot be shared between processes (its journal is {mode!r}, not "
            "WAL), as network drives are. Choose a folder on a disk of this machine, or PostgreSQL."
        )


@contextlib.contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Give a connection in a transaction that writes; one at a time has it, in all processes."""
    with named_failures(), engine.connect() as connection:
        connection = connection.execution_options(**{WRITES: True})
        with connection.begin():
            if engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
            yield connection


@contextlib.contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Give a connection in a transaction that sees the database as it was at one moment."""
    with named_failures(), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


@contextlib.contextmanager
def named_failures() -> Iterator[None]:
    """Make a `StoreError` of what the database raises when it is away, full or damaged."""
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
        # The first line of the driver's text, without the statement: what follows holds data of patients.
        text = str(getattr(error, "orig", error)).strip()
        reason = text.splitlines()[0][:200] if text else type(error).__name__
        raise StoreError(
            f"The clinic's database cannot be used now ({reason}). Nothing of this step was changed; try "
            "again when it is back."
        ) from None


def described(engine: sa.Engine) -> str:
    """Return where a database is, without a password."""
    url = engine.url
    return str(url.database) if engine.dialect.name == "sqlite" else url.render_as_string(True)
