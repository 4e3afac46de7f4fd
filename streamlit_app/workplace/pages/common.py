"""Words and cells that several pages show."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import streamlit as st

from allkit.clinic.shares import Share
from workplace.components.rows import Cell
from workplace.plain import plain

if TYPE_CHECKING:
    from workplace.here import Here
    from workplace.texts import Texts

__all__ = [
    "age",
    "may",
    "share_cell",
    "short",
    "small",
    "tone_of",
    "when",
]

TONES: Mapping[str, str] = {
    "new": "waiting",
    "reading": "open",
    "second": "open",
    "signed": "done",
    "amended": "done",
    "erased": "refused",
}


def small(text: str, *, width: Literal["stretch", "content"] = "stretch") -> None:
    """Write a remark: small, but in the full colour of text, which captions are too pale for."""
    st.markdown(f":small[{plain(text)}]", width=width)


def may(here: Here, *roles: str) -> bool:
    """Whether the person has one of the roles now; the clinic itself asks again in every transaction."""
    return bool(set(here.roles) & set(roles))


def when(time: str) -> str:
    """Return a time of the store as it is shown: `2026-01-31 09:15` (UTC)."""
    return time[:16].replace("T", " ")


def age(say: Texts, since: str, now: str) -> Cell:
    """Return how long ago something was, in the largest fitting unit, sorted by its seconds."""
    then, moment = (datetime.datetime.fromisoformat(text) for text in (since, now))
    seconds = max(0.0, (moment - then).total_seconds())
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= size:
            return Cell(say(f"common.{unit}", n=int(seconds // size)), sort=seconds)
    return Cell(say("common.now"), sort=seconds)


def tone_of(say: Texts, status: str, *, urgent: bool = False) -> tuple[str, str]:
    """Return the shape and the word of a case's state; that it is urgent comes before everything."""
    word = say(f"common.status_{status}")
    if urgent:
        return "urgent", say("common.urgent", status=word)
    return TONES[status], word


def share_cell(say: Texts, share: Share) -> Cell:
    """Return a share with its number and interval, drawn; under 20 it only says that these are too few."""
    if share.share is None or share.low is None or share.high is None:
        return Cell(say("common.too_few", hits=share.hits, total=share.n), sort=-1.0)
    # The ends of an interval are no claim of certainty: 0 and 100 stay as they are.
    words = say(
        "common.share",
        hits=share.hits,
        total=share.n,
        share=f"{100 * share.share:.0f}",
        low=f"{100 * share.low:.0f}",
        high=f"{100 * share.high:.0f}",
    )
    return Cell(words, sort=share.share, drawn=(share.low, share.share, share.high))


def short(sha256: str) -> str:
    """Return the beginning of a hash, by which people tell models apart."""
    return sha256[:12]
