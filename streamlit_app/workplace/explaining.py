"""Why a model answered so, for the browser: the map, the nearest training fields, the reference fields."""

from __future__ import annotations

from typing import Any

from allkit.clinic.access import READERS, User
from allkit.clinic.explanations import Explanation, ask, explanation, map_of
from allkit.clinic.references import reference_picture, references_of
from allkit.clinic.view import case_of_field, model_of
from workplace.pictures import PICTURES
from workplace.texts import Texts
from workplace.words import display_of

__all__ = ["map_png", "reference_jpeg", "why"]


def why(user: User, field: str, say: Texts, *, ask_for: bool) -> dict[str, Any]:
    """Return what is known of why a field was answered so; `ask_for` has it made."""
    found = ask(user, field) if ask_for else explanation(user, field)
    hidden = found.state == "hidden"
    return {
        "state": found.state,
        "words": _words(say, found),
        "map": found.has_map,
        "map_words": " ".join(_of_map(say, found)) if found.has_map else "",
        "nearest": [
            {
                "reference": near.reference,
                "label": near.label,
                "display": display_of(say, near.label),
                "words": say("why.same") if near.same else say("why.near"),
            }
            for near in found.nearest
        ],
        "references": [] if hidden else _references(user, field, say),
    }


def _words(say: Texts, found: Explanation) -> str:
    if found.state == "failed":
        return say("why.failed", error=found.error)
    words = say(f"why.{found.state}")
    return f"{words} {say(f'why.{found.without_nearest}')}" if found.without_nearest else words


def _of_map(say: Texts, found: Explanation) -> list[str]:
    """Return what the map shows, whether that was checked, and what it does not show."""
    checked = {True: "faithful", False: "not_faithful", None: "not_measured"}[found.faithful]
    words = [say("why.not_why"), say(f"why.method.{found.method}"), say(f"why.{checked}")]
    return [*words, *(say(f"why.note.{note}") for note in found.notes)]


def _references(user: User, field: str, say: Texts) -> list[dict[str, str]]:
    with user.read(*READERS, polling=True) as connection:
        model = model_of(connection, case_of_field(connection, field))
    if model is None:
        return []
    return [
        {"reference": one.id, "label": one.label, "display": display_of(say, one.label)}
        for one in references_of(user, model.id, polling=True)
    ]


def map_png(user: User, field: str) -> bytes:
    """Return the map of a field."""
    return map_of(user, field)


def reference_jpeg(user: User, reference: str, side: int) -> bytes:
    """Return the picture of a reference field."""
    with user.read(*READERS, polling=True):
        pass
    return PICTURES.of(reference, side, lambda: reference_picture(user, reference))
