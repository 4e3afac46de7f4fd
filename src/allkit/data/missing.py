"""The words that stand for no value, as programs and people write them.

Some do wherever they stand; others only where a group, a case, a slide or a fold is wanted, because a class
may be called so.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

__all__ = ["Kind", "doubtful", "missing_text"]

Kind = Literal["origin", "label", "further"]
"""What a column is for: whose image it is, also its fold; what it shows; or anything else."""

_WORDS = frozenset(
    {
        "", "'", '"', "–", "—", "na", "n/a", "n.a", "n.a.", "n. a.", "n/a.", "k.a", "k.a.", "k. a.", "nan",
        "-nan", "+nan", "nan.", "nat", "none", "null", "nil", "\\n", "undefined", "1.#ind", "-1.#ind",
        "1.#qnan", "-1.#qnan", "1.#nan", "na_character_", "na_integer_", "na_real_", "na_complex_",
        "na_logical_",
        "pd.na", "pd.nat", "np.nan", "numpy.nan", "math.nan", "float('nan')", 'float("nan")', "#na", "#n/a",
        "#n/a n/a", "#nv", "#n/d", "#n/b", "#n/v", "#i/t", "#yok", "#н/д", "#není_k_dispozici", "#hiányzik",
        "#getting_data",
    }
)  # fmt: skip
"""What stands for no value in pandas, R, databases, statistics programs, Excel in its languages."""
_IN_BRACKETS = frozenset(
    {
        "",
        "na",
        "n/a",
        "n.a.",
        "nan",
        "nat",
        "none",
        "null",
        "nil",
        "blank",
        "empty",
        "leer",
        "missing",
    }
)
_SIGNS = re.compile(r"-+|\.+|\?+")
_BROKEN = re.compile(r"#[¡¿]?\w[\w/]*[!?]")  # #REF!, #NAME?, #¡VALOR!: a broken formula of Excel
_BRACKETS = re.compile(r"""\((.*)\)|\[(.*)\]|<(.*)>|\{(.*)\}|'(.*)'|"(.*)"|«(.*)»""")
_NO_CLASS = re.compile(r"-(1|99+)(\.0*|,0+)?")  # -1 on the Hugging Face hub, -99 in statistics
_NEGATIVE = re.compile(r"-[1-9]\d*(\.0*|,0+)?")
_DOUBTFUL = frozenset(
    [
        "unknown",
        "missing",
        "not available",
        "nd",
        "n.d.",
        "n/d",
        "n. d.",
        "no data",
        "not known",
        "not applicable",
        "not determined",
        "not recorded",
        "not specified",
        "not provided",
        "unspecified",
        "unbekannt",
        "ohne angabe",
        "keine angabe",
        "inconnu",
        "desconocido",
        "sconosciuto",
    ]
)


def _word(text: str) -> str:
    word = unicodedata.normalize("NFKC", text).casefold().replace("\u2212", "-")
    return " ".join(word.split())


def missing_text(text: str, kind: Kind = "origin") -> bool:
    """Return whether a text without blanks at its ends stands for no value in a column of a kind.

    No origin is also a negative number and a word such as `unknown`; no label is also -1 and -99.
    """
    word = _word(text)
    if word in _WORDS or _SIGNS.fullmatch(word) or _BROKEN.fullmatch(word):
        return True
    if found := _BRACKETS.fullmatch(word):
        inner = next(part for part in found.groups() if part is not None)
        return inner.strip() in _IN_BRACKETS
    if kind == "origin":
        return word in _DOUBTFUL or _NEGATIVE.fullmatch(word) is not None
    return kind == "label" and _NO_CLASS.fullmatch(word) is not None


def doubtful(label: str) -> bool:
    """Return whether a label, which is taken for a class, may have been meant for no value."""
    word = _word(label)
    return word in _DOUBTFUL or _NEGATIVE.fullmatch(word) is not None
