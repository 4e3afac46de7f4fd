"""Explanations: why the model answered so for a field. A reader asks, the worker makes, the store keeps.

What a reader may not see of the model's answer cannot be asked for either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as field_
from typing import Any, Literal

import sqlalchemy as sa

from allkit.clinic import explaining
from allkit.clinic.access import READERS, User
from allkit.clinic.store import tables as t
from allkit.clinic.store.derived import references_hash
from allkit.clinic.store.store import new_id
from allkit.clinic.view import FieldView, model_of, view_of
from allkit.errors import ClinicError

__all__ = ["Explanation", "Near", "ask", "explanation", "map_of"]

State = Literal["none", "queued", "running", "done", "failed", "hidden"]
METHODS = {
    "cells": "The map shows how much the answer loses when each white cell is left out.",
    "squares": "The map shows how much the answer loses when each square of the field is covered.",
    "occlusion": "The map shows how much the answer loses when each square of the field is covered.",
    "hirescam": "The map shows which places of the field add to the answer (HiResCAM).",
    "gradcam": "The map shows which places of the field the answer depends on (Grad-CAM).",
}
NOTES = {
    "empty": "The map is empty: no place of the field alone speaks for this answer.",
    "only_largest": f"Only the {explaining.MOST_CELLS} largest cells were left out one by one.",
    "too_few_places": "Whether the map can be relied on was not measured: there are too few cells.",
    "places_alike": "All places speak for the answer alike, so that no choice of them could be checked.",
    "speaks_against": "Some places speak against the answer; they are not marked.",
    "group_of_class": "The group was answered; the map is of its most probable class.",
}
WITHOUT = {
    "no_references": "No labelled images of the training are kept for this model.",
    "no_features": "This model gives no features, so it cannot be said which training images are near.",
    "replaced": "The labelled images were replaced since; ask again for the nearest.",
}


@dataclass(frozen=True)
class Near:
    """A reference that is near a field: its id and class, the cosine distance of the features (0 to 2),
    and whether it is the same image."""

    reference: str
    label: str
    distance: float
    same: bool


@dataclass(frozen=True)
class Explanation:
    """Why a model answered so for a field, as far as it is known.

    `target` is the class, or the group of classes (`of`), that is explained. `method` is one of `METHODS`,
    `notes` are of `NOTES`. `faithful` says whether the map was measured to show what the answer rests on;
    `None` where that was not measured. `nearest` are references; where there are none, `without_nearest`
    says why (`WITHOUT`).
    """

    field: str
    state: State
    error: str = ""
    target: str = ""
    of: str = ""
    method: str = ""
    places: int = 0
    faithful: bool | None = None
    check: Mapping[str, float] = field_(default_factory=dict)
    notes: tuple[str, ...] = ()
    nearest: tuple[Near, ...] = ()
    without_nearest: str = ""
    has_map: bool = False

    def in_words(self) -> list[str]:
        """Return what was found as sentences; nothing before it is done."""
        if self.state != "done":
            return []
        checked = {
            True: "The map was checked: covering what it marks changes the answer more than other places do.",
            False: "Do not rely on this map: covering what it marks changes the answer no more than chance.",
            None: "Whether the map can be relied on was not measured.",
        }[self.faithful]
        words = [METHODS.get(self.method, f"The map was made by {self.method}."), checked]
        left_out = {"places_alike"} if "empty" in self.notes else set()
        words += [NOTES[note] for note in self.notes if note in NOTES and note not in left_out]
        if {"too_few_places", "places_alike"} & set(self.notes):
            words.remove(checked)  # the note says it
        return [*words, *([WITHOUT[self.without_nearest]] if self.without_nearest else [])]


@dataclass(frozen=True)
class _Seen:
    """A field as a reader sees it, the model whose answers its case shows, and the explanation."""

    case: str
    field: FieldView
    model: sa.Row[Any] | None
    row: sa.Row[Any] | None


def ask(user: User, field: str) -> Explanation:
    """Ask why the model answered so for a field. What is there, or asked for, already is not made again.

    It is made anew where it failed, or where the references of the model were replaced since. Raises
    `ClinicError` where there is no answer, or where it is hidden from this reader.
    """
    with user.change(*READERS) as change:
        seen = _seen(change.connection, user, field)
        if seen.field.hidden:
            raise ClinicError(
                "The model's answer is hidden until you have given this field a class. Ask then."
            )
        answer = seen.field.answer
        if seen.model is None or answer is None or answer.label is None:
            raise ClinicError(
                "The model has no answer for this field, so there is none to explain."
            )
        if seen.row is None:
            id = new_id()
            change.insert(
                t.explanations,
                id=id,
                field_id=field,
                model_id=seen.model.id,
                state="queued",
                attempts=0,
                created=change.now,
                changed=change.now,
            )
        elif seen.row.state == "failed" or _stale(change.connection, seen.row):
            id = seen.row.id
            values = {"state": "queued", "attempts": 0, "error": None, "created": change.now}
            change.update(t.explanations, id, changed=change.now, **values)
        else:
            return _told(change.connection, seen)
        change.log("explanation.asked", id, of=seen.case, field=field, model=seen.model.id)
        return Explanation(field, "queued")


def explanation(user: User, field: str, *, polling: bool = True) -> Explanation:
    """Return the explanation of the answer for a field as it stands now; `polling` as in `User.read`."""
    with user.read(*READERS, polling=polling) as connection:
        seen = _seen(connection, user, field)
        return _told(connection, seen)


def map_of(user: User, field: str) -> bytes:
    """Return the map as a PNG to lie over the field: its proportions, and transparent where nothing is.

    Its colours are those of `explaining.RAMP`. Raises `ClinicError` where there is no map to be shown.
    """
    with user.read(*READERS) as connection:
        seen = _seen(connection, user, field)
    done = seen.row is not None and seen.row.state == "done" and not seen.field.hidden
    if seen.row is None or not done or seen.row.map_sha256 is None:
        raise ClinicError("There is no map for this field. Ask for an explanation first.")
    return user.store.blobs.get(seen.row.map_sha256)


def _seen(connection: sa.Connection, user: User, field: str) -> _Seen:
    case = connection.scalar(sa.select(t.fields.c.case_id).where(t.fields.c.id == field))
    if case is None:
        raise ClinicError(f"There is no field {field[:40]!r}. Open the case again.")
    # What is hidden is decided in one place, for the page and for this.
    view = view_of(connection, case, viewer=user.id)
    shown = next(one for one in view.fields if one.id == field)
    model = model_of(connection, case)
    e = t.explanations.c
    row = None
    if model is not None:
        row = connection.execute(
            sa.select(t.explanations).where(e.field_id == field, e.model_id == model.id)
        ).first()
    return _Seen(case, shown, model, row)


def _told(connection: sa.Connection, seen: _Seen) -> Explanation:
    field, row = seen.field.id, seen.row
    if seen.field.hidden:
        return Explanation(field, "hidden")
    if row is None:
        return Explanation(field, "none")
    if row.state != "done":
        return Explanation(field, row.state, error=row.error or "" if row.state == "failed" else "")
    data = json.loads(row.data)
    del data["references"]
    near = [Near(**one) for one in data.pop("nearest")]
    there = set(
        connection.scalars(
            sa.select(t.references.c.id).where(
                t.references.c.id.in_([one.reference for one in near])
            )
        )
    )
    still = tuple(one for one in near if one.reference in there)
    without = data.pop("without_nearest")
    if (near and not still) or (without == "no_references" and _stale(connection, row)):
        without = "replaced"
    data["notes"] = tuple(data["notes"])
    has_map = row.map_sha256 is not None
    return Explanation(
        field, "done", nearest=still, without_nearest=without, has_map=has_map, **data
    )


def _stale(connection: sa.Connection, row: sa.Row[Any]) -> bool:
    """Whether the references of the model were replaced since an explanation was made."""
    if row.state != "done":
        return False
    made_with: str = json.loads(row.data)["references"]
    return made_with != references_hash(connection, row.model_id)
