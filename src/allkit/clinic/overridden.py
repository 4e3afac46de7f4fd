"""Fields that readers gave another class than the model, as a data set to adapt or train with."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from allkit.clinic.access import READERS, User
from allkit.clinic.cases import SIGNED
from allkit.clinic.reading import INADEQUATE, OTHER
from allkit.clinic.records import sha256_of
from allkit.clinic.shares import standing, within
from allkit.clinic.store import tables as t
from allkit.data.rows import Sample
from allkit.data.sources import FileSource
from allkit.data.written import as_csv
from allkit.errors import ClinicError
from allkit.files import whole_folder

__all__ = ["TABLE", "Written", "write_overridden"]

TABLE = "index.csv"
"""The table in the folder, which `Dataset.open` and every command reads."""
LEFT_OUT = "left-out.json"
IMAGES = "images"
SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png"}
PAGE = 1_000
Only = Literal["overridden", "signed"]
WHY = (OTHER, INADEQUATE, "second_reader", "conflict", "unread")


@dataclass(frozen=True)
class Written:
    """What was written: images of each class, patients and cases, and what was left out.

    `left_out` counts images: called `other` or `inadequate`; where the `second_reader` gave another class;
    in `conflict`, because the same image lies in two cases under two classes (`conflicts` holds the SHA-256
    of these); and, of signed cases, fields that are `unread` by a person.
    """

    table: Path
    classes: Mapping[str, int]
    patients: int
    cases: int
    left_out: Mapping[str, int]
    conflicts: tuple[str, ...]


@dataclass
class _Found:
    rows: list[sa.Row[Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(WHY, 0)))
    conflicts: list[str] = field(default_factory=list)

    def leave_out(self, why: str, sha256: str) -> None:
        self.left_out[why] += 1
        if why == "conflict":
            self.conflicts.append(sha256)


def write_overridden(
    user: User,
    folder: Path,
    *,
    only: Only = "overridden",
    since: str | None = None,
    overwrite: bool = False,
    salt: bytes | None = None,
) -> Written:
    """Write fields and their readers' classes into a new folder, whole or not at all; note it in the audit.

    `only` chooses the fields whose class differs from the answer that stood when they were read
    (`overridden`), or all that were read in signed cases (`signed`); `since` is the first day of the reading
    (`2026-01-31`, UTC). The folder holds the images, copied under their hashes, and `index.csv` with
    `image, label, group, slide`: a group is a patient, a slide is a case, each under a hash with a `salt`
    that is random for each export and not kept, so that neither leads back here. An image comes once, were
    it in two cases. Raises `ClinicError` where there is nothing to write, and `AllkitError` where an image
    is gone or altered, or the place cannot be written.
    """
    if only not in ("overridden", "signed"):
        raise ClinicError(f"Fields are chosen by overridden or signed, not by {only[:40]!r}.")
    hidden = _Hidden(secrets.token_bytes(16) if salt is None else salt)
    with user.read(*READERS, "admin") as connection:
        found = _found(connection, only, since)
    if not found.rows:
        reasons = ", ".join(f"{name} {n}" for name, n in found.left_out.items() if n)
        raise ClinicError(
            "There is no such field with a class to learn from"
            f"{f' (left out: {reasons})' if reasons else ''}. Nothing was written."
        )
    with whole_folder(folder, overwrite=overwrite, private=True, former=LEFT_OUT) as building:
        (building / IMAGES).mkdir()
        samples = [_sample(user, row, building, hidden) for row in found.rows]
        text = as_csv(samples, building / TABLE, name="the clinic")
        (building / TABLE).write_text(text, encoding="utf-8")
        described = {
            "only": only,
            "since": since,
            "images": len(samples),
            "left_out": dict(found.left_out),
            "conflicts": found.conflicts,
        }
        (building / LEFT_OUT).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        # Before the folder gets its name: nothing leaves without being in the audit.
        _log(user, found, sha256=sha256_of(text), only=only)
    return Written(
        folder / TABLE,
        classes=dict(Counter(str(sample.label) for sample in samples)),
        patients=len({sample.group for sample in samples}),
        cases=len({sample.slide for sample in samples}),
        left_out=dict(found.left_out),
        conflicts=tuple(found.conflicts),
    )


def _log(user: User, found: _Found, *, sha256: str, only: str) -> None:
    # The role was checked at the beginning: who waited long for many images is not signed out at the end.
    with user.store.change(user.name) as change:
        change.log(
            "images.exported",
            "images",
            only=only,
            images=len(found.rows),
            cases=sorted({row.case_id for row in found.rows}),
            left_out=dict(found.left_out),
            sha256=sha256,
        )


class _Hidden:
    """Names in place of ids: the same for the same id within one export, and for nobody to undo."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def name(self, kind: str, id: str) -> str:
        digest = hmac.new(self._salt, f"{kind} {id}".encode(), hashlib.sha256)
        return f"{kind[0]}{digest.hexdigest()[:16]}"


def _sample(user: User, row: sa.Row[Any], building: Path, hidden: _Hidden) -> Sample:
    name = f"{IMAGES}/{row.sha256}{SUFFIXES[row.media]}"
    # A copy, checked by its hash: who edits a linked one would alter what was signed.
    (building / name).write_bytes(user.store.blobs.get(row.sha256))
    columns = {
        "specimen": row.specimen,
        "model": row.model,
        "model_label": row.answer,
        "model_probability": None if row.probability is None else f"{row.probability:.6g}",
        "model_verdict": row.verdict,
        "blind": "yes" if row.blind else "no",
    }
    return Sample(
        name,
        FileSource(building / name),
        row.label,
        group=hidden.name("patient", row.patient_id),
        columns={key: value for key, value in columns.items() if value is not None},
        slide=hidden.name("case", row.case_id),
    )


def _found(connection: sa.Connection, only: Only, since: str | None) -> _Found:
    found = _Found()
    for sha256, rows in _by_image(connection, since):
        wanted = [row for row in rows if row.round == 1 and row.recent and _is_wanted(row, only)]
        if wanted:
            why = _against(wanted[0], rows)
            if why is None:
                found.rows.append(wanted[0])
            else:
                found.leave_out(why, sha256)
    if only == "signed":
        found.left_out["unread"] = _unread(connection, since)
    return found


def _by_image(
    connection: sa.Connection, since: str | None
) -> Iterator[tuple[str, list[sa.Row[Any]]]]:
    """Yield the classes that stand for each image, of all cases and both readers."""
    read, a = standing(), t.answers.c
    r = read.c
    query = (
        sa.select(
            t.fields.c.sha256,
            t.blobs.c.media,
            r.seq,
            r.case_id,
            r.round,
            r.label,
            r.blind,
            sa.and_(sa.true(), *within(r.at, since)).label("recent"),
            a.label.label("answer"),
            a.verdict,
            a.probability,
            t.models.c.sha256.label("model"),
            t.cases.c.patient_id,
            t.cases.c.specimen,
            t.cases.c.status,
        )
        .select_from(read)
        .join(t.fields, (t.fields.c.id == r.field_id) & (t.fields.c.case_id == r.case_id))
        .join(t.blobs, t.blobs.c.sha256 == t.fields.c.sha256)
        .join(t.cases, t.cases.c.id == r.case_id)
        .outerjoin(t.answers, a.id == r.answer_id)
        .outerjoin(t.models, t.models.c.id == a.model_id)
        .order_by(t.fields.c.sha256, r.seq)
        .execution_options(yield_per=PAGE)
    )
    for sha256, rows in groupby(connection.execute(query), key=lambda row: row.sha256):
        yield sha256, list(rows)


def _is_wanted(row: sa.Row[Any], only: Only) -> bool:
    if only == "signed":
        return row.status in SIGNED
    return row.answer is not None and row.answer != row.label


def _against(chosen: sa.Row[Any], rows: Sequence[sa.Row[Any]]) -> str | None:
    """Return why nothing should be learnt from an image, or `None`."""
    if any(row.label != chosen.label for row in rows if row.round == 1):
        return "conflict"
    if any(row.label != chosen.label for row in rows):
        return "second_reader"
    return str(chosen.label) if chosen.label in (OTHER, INADEQUATE) else None


def _unread(connection: sa.Connection, since: str | None) -> int:
    """Return how many fields of signed cases have no reader's class: that of the model teaches nothing."""
    read = standing()
    same = (read.c.field_id == t.fields.c.id) & (read.c.case_id == t.fields.c.case_id)
    number = connection.scalar(
        sa.select(sa.func.count())
        .select_from(t.fields)
        .join(t.cases, t.cases.c.id == t.fields.c.case_id)
        .outerjoin(read, same & (read.c.round == 1))
        .where(t.cases.c.status.in_(SIGNED), read.c.seq.is_(None))
        .where(*within(t.fields.c.added, since))
    )
    return int(number or 0)
