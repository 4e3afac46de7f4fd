"""Hashes, kept in the audit, of what may be made anew: explanations and references."""

from __future__ import annotations

import sqlalchemy as sa

from allkit.clinic.records import canonical, sha256_of
from allkit.clinic.store import tables as t

__all__ = ["explanation_hash", "references_hash"]


def explanation_hash(data: str, map_sha256: str | None) -> str:
    """Return the hash of an explanation: of its JSON and of the hash of its map."""
    return sha256_of(canonical([data, map_sha256]))


def references_hash(connection: sa.Connection, model: str) -> str:
    """Return the hash of the references of a model, `""` where it has none."""
    rows = connection.execute(
        sa.select(t.references).where(t.references.c.model_id == model).order_by(t.references.c.id)
    ).all()
    return sha256_of(canonical([list(row) for row in rows])) if rows else ""
