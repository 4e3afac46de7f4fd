"""The tables of the clinic's database, as they are today.

Keys are ULIDs (26 characters), times are texts in UTC with milliseconds (they sort as they follow one
another), and what is marked JSON is canonical JSON. What a table may hold twice, and what is never changed,
the database itself enforces (`migrations`).
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

__all__ = [
    "ORDER",
    "answers",
    "audit",
    "backups",
    "blobs",
    "cases",
    "deliveries",
    "erasing",
    "explanations",
    "fields",
    "identifiers",
    "jobs",
    "keys",
    "messages",
    "metadata",
    "models",
    "patients",
    "people",
    "readings",
    "reasons",
    "references",
    "reports",
    "settings",
    "signatures",
    "slide_answers",
    "terms",
]

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _key(name: str = "id") -> sa.Column[str]:
    return sa.Column(name, sa.String(26), primary_key=True)


def _of(table: str, name: str, *, optional: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(26), sa.ForeignKey(f"{table}.id"), nullable=optional)


def _text(name: str, *, optional: bool = False, unique: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=optional, unique=unique)


def _count(name: str, *, optional: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=optional)


def _real(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Float, nullable=True)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False)


settings = sa.Table(
    "settings", metadata, sa.Column("name", sa.Text, primary_key=True), _text("value")
)
people = sa.Table(
    "people",
    metadata,
    _key(),
    _text("name", unique=True),
    _text("display"),
    _text("roles"),  # JSON: a list
    _flag("active"),
    _text("created"),
)
keys = sa.Table(
    "keys",
    metadata,
    _key(),
    _of("people", "person_id"),
    _text("sha256", unique=True),
    _text("created"),
    _text("revoked", optional=True),
)
patients = sa.Table(
    "patients",
    metadata,
    _key(),
    _text("pseudonym", unique=True),
    _of("patients", "joined_to", optional=True),
    _text("created"),
)
identifiers = sa.Table(
    "identifiers",
    metadata,
    _key(),
    _of("patients", "patient_id"),
    _text("issuer"),
    _text("value"),
    sa.UniqueConstraint("issuer", "value"),
    sa.Index(None, "patient_id"),
)
cases = sa.Table(
    "cases",
    metadata,
    _key(),
    _of("patients", "patient_id", optional=True),  # of an erased case there is none
    _text("order_number", optional=True),
    _text("order_issuer", optional=True),
    _text("order_state", optional=True),  # cancelled, where the orderer took it back
    _text("specimen"),
    _text("collected", optional=True),
    _text("stain", optional=True),
    _text("specimen_number", optional=True),
    _text("status"),
    _count("priority"),
    _count("review"),  # fields that nobody has read and no model accepted
    _flag("blind"),
    _flag("second_wanted"),
    _of("people", "reader_id", optional=True),
    _of("people", "second_id", optional=True),
    _text("created"),
    _text("changed"),
    sa.UniqueConstraint("order_issuer", "order_number"),
    sa.Index(None, "status", "priority", "created", "id"),
    sa.Index(None, "priority", "created", "id"),
    sa.Index(None, "patient_id"),
    sa.Index(None, "reader_id", "status"),
    sa.Index(None, "second_id", "status"),
)
terms = sa.Table(
    "terms",
    metadata,
    # Sorted by code points everywhere, so that a search for a beginning is a range of the index.
    sa.Column(
        "term",
        sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql"),
        primary_key=True,
    ),
    sa.Column("case_id", sa.String(26), sa.ForeignKey("cases.id"), primary_key=True),
    sa.Index(None, "case_id"),
)
blobs = sa.Table(
    "blobs",
    metadata,
    sa.Column("sha256", sa.String(64), primary_key=True),
    _count("size"),
    _text("media"),
    _text("created"),
)
fields = sa.Table(
    "fields",
    metadata,
    _key(),
    _of("cases", "case_id"),
    sa.Column("sha256", sa.String(64), sa.ForeignKey("blobs.sha256"), nullable=False),
    _count("number"),
    _text("name"),
    _count("width"),
    _count("height"),
    _real("micrometres_per_pixel"),
    _text("stripped"),  # JSON: what was taken out of the file, by name
    _text("stain"),  # JSON: optical densities of background and cells, red, green and blue
    _text("added"),
    sa.UniqueConstraint("case_id", "sha256"),
    sa.Index(None, "sha256"),
)
models = sa.Table(
    "models",
    metadata,
    _key(),
    _text("sha256", unique=True),
    _text("name"),
    _text("version"),
    _text("path"),
    _text("classes"),  # JSON: a list
    _text("groups"),  # JSON: class -> group, empty where there are none
    _text("limits"),  # JSON: a list
    _flag("calibrated"),
    _text("added"),
)
answers = sa.Table(
    "answers",
    metadata,
    _key(),
    _of("fields", "field_id"),
    _of("models", "model_id"),
    _text("verdict"),
    _text("label", optional=True),
    _real("probability"),
    _text("data"),  # JSON: the whole Prediction
    _text("at"),
    sa.UniqueConstraint("field_id", "model_id"),
)
slide_answers = sa.Table(
    "slide_answers",
    metadata,
    _key(),
    _of("cases", "case_id"),
    _of("models", "model_id"),
    _text("verdict"),
    _text("label", optional=True),
    _text("fields_sha256"),  # of the hashes of the fields that it rests on
    _text("data"),  # JSON: the whole CasePrediction
    _text("at"),
    sa.Index(None, "case_id", "model_id"),
)
jobs = sa.Table(
    "jobs",
    metadata,
    _key(),
    _of("cases", "case_id"),
    _of("models", "model_id"),
    _text("state"),  # queued, running, done, failed, cancelled
    _text("worker", optional=True),
    _text("lease_until", optional=True),
    _count("attempts"),
    _count("done"),
    _count("total"),
    _text("error", optional=True),
    _text("created"),
    _text("changed"),
    sa.Index(None, "state", "created"),
    sa.Index(None, "case_id", "state"),
)
readings = sa.Table(
    "readings",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    _of("cases", "case_id"),
    _of("fields", "field_id", optional=True),
    _of("people", "person_id"),
    _count("round"),  # 1: the reader, 2: the second reader
    _text("kind"),  # label, note or undo
    _text("label", optional=True),
    _text("why"),
    _count("undoes", optional=True),
    _flag("blind"),
    _of("answers", "answer_id", optional=True),  # what the model had said then
    _text("client"),
    _count("client_seq"),
    _text("at"),
    sa.UniqueConstraint("client", "client_seq"),
    sa.Index(None, "case_id", "seq"),
    sa.Index(None, "field_id"),
)
signatures = sa.Table(
    "signatures",
    metadata,
    _key(),
    _of("cases", "case_id"),
    _count("version"),
    _of("people", "person_id"),
    _text("at"),
    _text("readings_sha256"),
    _text("result"),
    _text("comment"),
    sa.UniqueConstraint("case_id", "version"),
)
reports = sa.Table(
    "reports",
    metadata,
    _key(),
    _of("cases", "case_id"),
    _count("version"),
    _text("kind"),
    _of("signatures", "signature_id", optional=True),
    _text("content"),  # JSON: the CaseReport
    sa.Column("sha256", sa.String(64), nullable=False),
    _text("at"),
    sa.UniqueConstraint("case_id", "version"),
)
reasons = sa.Table(
    "reasons",
    metadata,
    _key(),
    _of("cases", "case_id", optional=True),
    _text("what"),  # the word of the audit that the reason belongs to
    _text("why"),
    sa.Index(None, "case_id"),
)
erasing = sa.Table("erasing", metadata, _key("case_id"))
"""Holds a row while a case is being erased, which alone lets rows that are never changed be deleted."""
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    _text("at"),
    _text("who"),
    _text("what"),
    _text("object"),
    _text("detail"),  # JSON: ids, hashes, numbers and words of a fixed set, never free text
    sa.Column("prev", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Index(None, "object"),
)
backups = sa.Table(
    "backups",
    metadata,
    _key(),
    _text("path"),
    _text("at"),
    _count("seq"),
    sa.Column("head", sa.String(64), nullable=False),
)
messages = sa.Table(
    "messages",
    metadata,
    sa.Column("sender", sa.Text, primary_key=True),
    sa.Column("control", sa.Text, primary_key=True),
    _of("cases", "case_id", optional=True),
    sa.Column("sha256", sa.String(64), nullable=False),
    _text("at"),
)
deliveries = sa.Table(
    "deliveries",
    metadata,
    _key(),
    _of("reports", "report_id"),
    _text("target"),
    _text("state"),  # waiting, sent or dead
    _count("attempts"),
    _text("next_at"),
    _text("error", optional=True),
    _text("created"),
    _text("changed"),
    sa.UniqueConstraint("report_id", "target"),
    sa.Index(None, "state", "next_at"),
)
explanations = sa.Table(
    "explanations",
    metadata,
    _key(),
    _of("fields", "field_id"),
    _of("models", "model_id"),
    _text("state"),  # queued, running, done, failed
    _text("worker", optional=True),
    _text("lease_until", optional=True),
    _count("attempts"),
    sa.Column("map_sha256", sa.String(64), sa.ForeignKey("blobs.sha256"), nullable=True),
    _text("data", optional=True),  # JSON: what was found, see `explanations`
    _text("error", optional=True),
    _text("created"),
    _text("changed"),
    sa.UniqueConstraint("field_id", "model_id"),
    sa.Index(None, "state", "created"),
    sa.Index(None, "map_sha256"),
)
references = sa.Table(
    "references",
    metadata,
    _key(),
    _of("models", "model_id"),
    sa.Column("sha256", sa.String(64), sa.ForeignKey("blobs.sha256"), nullable=False),
    _text("label"),
    _flag("shown"),  # the one of its class that is shown beside a field
    _text("features", optional=True),  # float32, little-endian, in base64
    sa.UniqueConstraint("model_id", "sha256"),
    sa.Index(None, "sha256"),
)

ORDER = (
    settings, people, keys, patients, identifiers, cases, terms, blobs, fields, models, answers,
    slide_answers, jobs, readings, signatures, reports, reasons, audit, backups, messages, deliveries,
    explanations, references,
)  # fmt: skip
"""The tables in an order in which each stands behind those that it refers to."""
