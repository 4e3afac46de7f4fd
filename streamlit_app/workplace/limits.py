"""What a model's maker wrote about where it fails, in the user's language. No Streamlit.

The sentences are stored with the model, in English. Those that allkit itself writes are known by their exact
wording (`limits.toml`) and translated; others are shown as they are, and marked as English.
"""

from __future__ import annotations

import re
from functools import cache

from allkit.clinic.text import without_options
from workplace.telling import display_of
from workplace.texts import Texts, texts

__all__ = ["limit_words"]

FOREIGN = "foreign"
"""The key for what is not allkit's own sentence."""


def limit_words(say: Texts, limit: str) -> str:
    """Return a limit as a sentence for readers; advice for who trains a model is left out of it."""
    told = without_options(limit)
    for key, wording in _known():
        found = wording.fullmatch(told)
        if found is not None:
            return say(f"limits.{key}", **{k: _named(say, v) for k, v in found.groupdict().items()})
    return say(f"limits.{FOREIGN}", text=told)


@cache
def _known() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Return the wording of each known limit, in which a value stands for any words."""
    own = texts("en").section("limits")
    return tuple((key, _pattern(text)) for key, text in own.items() if key != FOREIGN)


def _pattern(text: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", text)
    said = [f"(?P<{p}>.+?)" if at % 2 else re.escape(p) for at, p in enumerate(parts)]
    return re.compile("".join(said))


def _named(say: Texts, value: str) -> str:
    """Return a list of classes or groups as the user's language names them, a number as it is."""
    names = re.split(r", | or | and ", value)
    return ", ".join(
        say(f"group.{name}") if say.has(f"group.{name}") else display_of(say, name)
        for name in names
    )
