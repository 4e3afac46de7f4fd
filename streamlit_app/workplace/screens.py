"""A case as the browser shows it: what the clinic knows of it, in the words of the user's language."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from allkit.clinic.access import READERS, User
from allkit.clinic.cases import SIGNED
from allkit.clinic.reading import hindrance, labels, reads_second, unread
from allkit.clinic.view import CaseView, FieldView, Label, version_of, view_of
from workplace.texts import Texts
from workplace.words import display_of, field_words, job_words, slide_words, unread_words

__all__ = ["screen", "version"]

MOST_JOBS = 1000
_BEGUN: OrderedDict[str, tuple[float, int]] = OrderedDict()
"""When a job was first looked at while it ran, and how far it was: how fast it is follows from that."""
_LOCK = threading.Lock()


def version(user: User, case: str, language: str) -> str:
    """Return what changes when the screen of a case may; asking for it makes nobody less idle."""
    with user.read(*READERS, polling=True) as connection:
        return f"{version_of(connection, case)}-{user.id}-{language}"


def screen(user: User, case: str, say: Texts) -> dict[str, Any]:
    """Return a case as JSON for its reader. What is hidden from the reader is not in it."""
    with user.read(*READERS, polling=True) as connection:
        marked = f"{version_of(connection, case)}-{user.id}-{say.language}"
        view = view_of(connection, case, viewer=user.id)
        # From all that is known: what a second reader may not see yet is still theirs to read.
        whole = view_of(connection, case)
        classes = labels(connection, case)
    second = reads_second(view, user)
    why = hindrance(view, user)
    hidden = any(field.hidden for field in view.fields)
    job = job_words(say, view.job, _rate(view.job))
    slide = slide_words(
        say,
        view.slide,
        job=job,
        hidden=hidden,
        fields=len(view.fields),
        display=lambda label: display_of(say, label),
        signed=view.status in SIGNED,
    )
    left = unread(whole, second=second)
    return {
        "version": marked,
        "case": view.id,
        "status": view.status,
        "may_read": not why,
        "may_not": say(f"server.may_not.{why}") if why else "",
        "round": 2 if second else 1,
        "blind": view.blind,
        "classes": [{"name": name, "display": display_of(say, name)} for name in classes],
        "fields": [_field(say, field, view, second=second) for field in view.fields],
        "slide": {"tone": slide.tone, "headline": slide.headline, "lines": list(slide.lines)},
        "job": {"state": job.state, "done": job.done, "total": job.total, "words": job.words},
        "unread": len(left),
        "last": "finish" if second or _wants_second(whole) else "sign",
        "unread_words": unread_words(say, len(left), read=_was_read(view, second=second)),
    }


def _wants_second(view: CaseView) -> bool:
    """Whether a second reader comes after the first one's reading."""
    return view.second_wanted and not any(field.second for field in view.fields)


def _was_read(view: CaseView, *, second: bool) -> bool:
    return any(field.second if second else field.first for field in view.fields)


def _rate(job: Mapping[str, Any] | None) -> float | None:
    """Return how many fields of a running job are answered in a second; `None` where it is too early."""
    if job is None or job["state"] != "running" or not job["done"]:
        return None
    now = time.monotonic()
    with _LOCK:
        begun, done = _BEGUN.setdefault(job["id"], (now, int(job["done"])))
        while len(_BEGUN) > MOST_JOBS:
            _BEGUN.popitem(last=False)
    passed, answered = now - begun, int(job["done"]) - done
    return answered / passed if passed > 1 and answered >= 2 else None


def _field(say: Texts, field: FieldView, view: CaseView, *, second: bool) -> dict[str, Any]:
    def display(label: str) -> str:
        return display_of(say, label)

    words = field_words(say, field.answer, hidden=field.hidden, display=display)
    cells: Sequence[Any] = () if field.answer is None else field.answer.cells
    mine, other = (field.second, field.first) if second else (field.first, field.second)
    return {
        "id": field.id,
        "number": field.number,
        "name": field.name,
        "width": field.width,
        "height": field.height,
        "state": words.state,
        "group": words.group,
        "headline": words.headline,
        "sentence": words.sentence,
        "tone": words.tone,
        "band": words.band,
        "band_words": words.band_words,
        "percent": words.percent,
        "label": words.label,
        "needs_why": words.needs_why,
        "not_excluded": list(words.not_excluded),
        "reasons": list(words.reasons),
        "measured": words.measured,
        "cells": [[round(c.x, 1), round(c.y, 1), round(c.diameter, 1)] for c in cells],
        "mine": _label(say, mine),
        "other": _label(say, other),
        "notes": [
            {"at": at, "by": who.display, "text": text}
            for at, who, text, of in view.notes
            if of == field.id
        ],
    }


def _label(say: Texts, label: Label | None) -> dict[str, str] | None:
    if label is None:
        return None
    return {
        "label": label.label,
        "display": display_of(say, label.label),
        "why": label.why,
        "by": label.person.display,
        "at": label.at,
    }
