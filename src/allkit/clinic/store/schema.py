"""Which version a database has; making and migrating it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from allkit.errors import StoreError

__all__ = ["HEAD", "migrate", "require_current", "revision_of"]

HEAD = "0003"
"""The version that this allkit writes."""


def _config(connection: sa.Connection) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def revision_of(connection: sa.Connection) -> str | None:
    """Return the version of a database, or `None` of one that holds no clinic."""
    # Alembic would say the same, and takes a tenth of a second to be imported at every start.
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found


def migrate(connection: sa.Connection, to: str = "head") -> None:
    """Bring a database, empty or of an earlier version, to a version, within the open transaction.

    Raises `StoreError` for a database that a newer allkit wrote.
    """
    if to == "head" and revision_of(connection) == HEAD:
        return
    from alembic import command
    from alembic.util import CommandError

    try:
        command.upgrade(_config(connection), to)
    except CommandError as error:
        found = revision_of(connection)
        raise StoreError(
            f"The clinic's database has the version {found}, which this allkit does not know (it knows "
            f"{HEAD}). Update allkit; nothing was changed."
        ) from error


def require_current(connection: sa.Connection, place: str) -> None:
    """Raise `StoreError` unless a database has the version that this allkit writes."""
    found = revision_of(connection)
    if found == HEAD:
        return
    if found is None:
        raise StoreError(f"{place} holds no clinic. Make one with: allkit clinic init")
    if found > HEAD:
        raise StoreError(
            f"{place} was written by a newer allkit (version {found} of the tables; this one knows "
            f"{HEAD}). Update allkit; nothing was changed."
        )
    raise StoreError(
        f"{place} was written by an earlier allkit (version {found} of the tables; today {HEAD}). "
        "Make a copy of it, then bring it up to date with: allkit clinic init"
    )
