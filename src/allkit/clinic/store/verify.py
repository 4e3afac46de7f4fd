"""Whether a clinic is whole: the audit, and everything that can be compared with it.

Each row that is never changed has its hash in the audit row of the change that wrote it. What may change (who
may what, whose a case is, its state, which file a model is) is compared with the last that the audit says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from allkit.clinic.records import CaseReport
from allkit.clinic.store import chain
from allkit.clinic.store import tables as t
from allkit.clinic.store.chain import AuditRow
from allkit.clinic.store.derived import explanation_hash, references_hash
from allkit.clinic.store.store import KEPT, Store, row_hash
from allkit.errors import StoreError

__all__ = ["verify"]

PAGE = 1_000


@dataclass
class _Told:
    """What the audit says of the rows of the other tables, by table and key."""

    kept: dict[tuple[str, str], str] = field(default_factory=dict)
    roles: dict[str, list[str]] = field(default_factory=dict)
    patient: dict[str, str | None] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)
    model: dict[str, str] = field(default_factory=dict)
    explained: dict[str, str] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)

    def read(self, row: AuditRow) -> None:
        """Take in one row of the audit."""
        for table, key, sha256 in row.detail.get("rows", ()):
            self.kept[table, str(key)] = sha256
        for table, keys in row.detail.get("erased", {}).items():
            for key in keys:
                self.kept.pop((table, str(key)), None)
                self.explained.pop(key, None)
        if row.what in ("person.added", "person.changed"):
            self.roles[row.object] = list(row.detail["roles"])
        elif row.what in ("case.created", "case.of_other_patient"):
            self.patient[row.object] = row.detail["patient"]
            self.status.setdefault(row.object, "new")
        elif row.what == "model.added":
            self.model[row.object] = row.detail["sha256"]
        elif row.what == "explanation.made":
            self.explained[row.object] = row.detail["sha256"]
        elif row.what == "references.added":
            self.references[row.object] = row.detail["sha256"]
        kind, _, state = row.what.partition(".")
        if kind == "case" and state in ("reading", "second", "signed", "amended", "erased"):
            self.status[row.object] = state
        if row.what == "case.erased":
            self.patient[row.object] = None


def verify(store: Store, *, known: dict[int, str] | None = None) -> list[str]:
    """Return what is wrong with a clinic, in sentences; empty where everything is whole.

    `known` holds hashes of audit rows that were written down elsewhere, such as the last one that `backup`
    tells. The hashes of rows that are never changed are held in memory, about 200 bytes each.
    """
    told = _Told()
    with store.read() as connection:
        heads = connection.execute(sa.select(t.backups.c.seq, t.backups.c.head))
        written = {row.seq: row.head for row in heads if row.seq} | (known or {})
        found = list(chain.broken_links(connection, written, each=told.read))
        found += _kept(connection, told)
        found += _changing(connection, told)
        found += _images(store, connection)
        found += _reports(connection)
        if connection.dialect.name == "sqlite":
            broken = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
            found += [f"The database is damaged: {text}" for text in broken if text != "ok"]
    return found


def _rows(connection: sa.Connection, table: sa.Table) -> Iterator[sa.Row[Any]]:
    query = sa.select(table).order_by(*table.primary_key.columns)
    yield from connection.execution_options(yield_per=PAGE).execute(query)


def _kept(connection: sa.Connection, told: _Told) -> Iterator[str]:
    for table in KEPT:
        (key,) = table.primary_key.columns
        for row in _rows(connection, table):
            values = dict(row._mapping)
            place = (table.name, str(values[key.name]))
            wanted = told.kept.pop(place, None)
            if wanted is None:
                yield f"Row {place[1]} of {table.name} is not in the audit."
            elif wanted != row_hash(table, values):
                yield f"Row {place[1]} of {table.name} was altered."
    for name, key_ in told.kept:
        yield f"Row {key_} of {name} is missing."


def _changing(connection: sa.Connection, told: _Told) -> Iterator[str]:
    def other(what: str, id: str, value: Any, said: Mapping[str, Any]) -> Iterator[str]:
        if id not in said or said[id] != value:
            yield f"The {what} is not what the audit says."

    for row in _rows(connection, t.people):
        yield from other(f"roles of {row.name}", row.id, json.loads(row.roles), told.roles)
    for row in _rows(connection, t.cases):
        yield from other(f"patient of the case {row.id}", row.id, row.patient_id, told.patient)
        yield from other(f"state of the case {row.id}", row.id, row.status, told.status)
    for row in _rows(connection, t.models):
        yield from other(f"hash of the model {row.name}", row.id, row.sha256, told.model)
    for row in _rows(connection, t.explanations):
        if row.state == "done":
            hashed = explanation_hash(row.data, row.map_sha256)
            yield from other(f"explanation {row.id}", row.id, hashed, told.explained)
    with_references = set(connection.scalars(sa.select(t.references.c.model_id).distinct()))
    for id in sorted(with_references | set(told.references)):
        found = references_hash(connection, id)
        yield from other(f"set of references of the model {id}", id, found, told.references)
    ids_of = (
        ("case", t.cases, told.status),
        ("person", t.people, told.roles),
        ("explanation", t.explanations, told.explained),
    )
    for name, table, ids in ids_of:
        there = set(connection.scalars(sa.select(table.c.id)))
        yield from (f"The {name} {id} is missing." for id in ids if id not in there)


def _images(store: Store, connection: sa.Connection) -> Iterator[str]:
    for sha256 in connection.scalars(sa.select(t.blobs.c.sha256)).all():
        try:
            store.blobs.get(sha256)
        except StoreError as error:
            yield str(error)


def _reports(connection: sa.Connection) -> Iterator[str]:
    for row in _rows(connection, t.reports):
        try:
            report = CaseReport.from_json(row.content)
        except (ValueError, KeyError, TypeError):
            yield f"The report {row.version} of the case {row.case_id} cannot be read."
            continue
        if (report.sha256, report.kind, report.version) != (row.sha256, row.kind, row.version):
            yield f"The report {row.version} of the case {row.case_id} was altered."
