"""What a clinic holds, in numbers, for who looks after it."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from allkit.clinic.access import READERS, User
from allkit.clinic.store import chain
from allkit.clinic.store import tables as t

__all__ = ["Facts", "facts"]


@dataclass(frozen=True)
class Facts:
    """How much a clinic holds.

    `bytes` is the size of the images. `audit` is (number, hash) of the last row of the audit; written down
    elsewhere it shows later whether rows were cut off. `backup` is (time, folder) of the newest backup that
    was begun, `None` without one.
    """

    cases: int
    fields: int
    images: int
    bytes: int
    reports: int
    audit: tuple[int, str]
    backup: tuple[str, str] | None


def facts(user: User) -> Facts:
    """Return how much the clinic holds."""
    with user.read(*READERS, "admin") as connection:

        def count(table: sa.Table) -> int:
            return int(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)

        newest = connection.execute(
            sa.select(t.backups.c.at, t.backups.c.path).order_by(t.backups.c.at.desc()).limit(1)
        ).first()
        seq, head, _ = chain.head(connection)
        open_cases = sa.select(sa.func.count()).where(t.cases.c.status != "erased")
        return Facts(
            cases=int(connection.scalar(open_cases) or 0),
            fields=count(t.fields),
            images=count(t.blobs),
            bytes=int(connection.scalar(sa.select(sa.func.sum(t.blobs.c.size))) or 0),
            reports=count(t.reports),
            audit=(seq, head),
            backup=None if newest is None else (newest.at, newest.path),
        )
