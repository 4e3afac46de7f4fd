"""The classes of acute lymphoblastic leukaemia, their display names and their other spellings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

__all__ = ["ALL_CLASSES", "canonical_label", "class_order", "display_name"]
__all__ += ["skeleton", "spelling", "unclear"]

ALL_CLASSES = ("Benign", "Early", "Pre", "Pro")
"""The classes of this task, always in this order."""

_DISPLAY = {
    "Benign": "Benign (hematogones)",
    "Early": "Early pre-B",
    "Pre": "Pre-B",
    "Pro": "Pro-B",
}

# The public set's folders are named after B-cell maturation; some papers read `Pre` and `Pro` as
# "precancerous" and "prognosis". Their spellings are understood on reading, never shown.
_ALIASES = {
    "benign": "Benign", "hematogone": "Benign", "hematogones": "Benign",
    "haematogone": "Benign", "haematogones": "Benign", "benignhematogones": "Benign",
    "benignhaematogones": "Benign",
    "early": "Early", "earlypreb": "Early", "malignantearlypreb": "Early", "earlypreball": "Early",
    "earlypre": "Early", "earlyprebcell": "Early",
    "pre": "Pre", "preb": "Pre", "malignantpreb": "Pre", "preball": "Pre", "precancerous": "Pre",
    "prebcell": "Pre", "precursorb": "Pre", "precursorbcell": "Pre",
    "pro": "Pro", "prob": "Pro", "malignantprob": "Pro", "proball": "Pro", "prognosis": "Pro",
    "probcell": "Pro",
}  # fmt: skip

_OTHER_WORDS = dict.fromkeys(
    ("hematogone", "hematogones", "haematogone", "haematogones"), "hematogones"
) | {"precancerous": "precancerous", "prognosis": "prognosis"}
_OTHER_WORDS |= dict.fromkeys(("precursorb", "precursorbcell"), "precursor B")
"""Aliases that are other words: beside further classes they may be classes of their own."""

# Letters that look like Latin ones, in small and capital letters (Β looks like B, β does not).
_LOOK_ALIKE = str.maketrans(
    "аеорсухѕіјһԁԛԝкмтнвАВЕКМНОРСТУХЅІЈԚԜαοριυνκγχηϲϳΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹıłøđɑɡℓոսօ",
    "aeopcyxsijhdqwkmthbABEKMHOPCTYXSIJQWaopiuvkyxncjABEZHIKMNOPTYXCilodaglnuo",
)

_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))


def _key(label: str) -> str:
    text = unicodedata.normalize("NFKC", label).casefold()
    return "".join(character for character in text if character.isalnum())


def _cleaned(label: str) -> str:
    """Return a label in one Unicode form, without what cannot be seen and with single spaces."""
    return " ".join(unicodedata.normalize("NFC", label.translate(_INVISIBLE)).split())


def canonical_label(label: str) -> str:
    """Return the class that `label` means on this task, or the label itself, cleaned."""
    return _ALIASES.get(_key(label), _cleaned(label))


def spelling(label: str) -> str:
    """Return what is the same for all spellings of one label that is none of this task.

    Case, the width of letters, and blanks, hyphens, underscores and dots between two parts of a
    name do not count; a sign at its end does (`CD10+` and `CD10-` are two classes).
    """
    text = unicodedata.normalize("NFKC", _cleaned(label)).casefold().strip(" ._")
    text = re.sub(r"[\u2010-\u2015\u2212]", "-", text)
    text = re.sub(r"(?<=\d)\.(?=\d)", "\0", text)  # 1.5 is a number, and not 1-5 or 15
    text = re.sub(r"(?<=\d)[ ._-]+(?=\d)", "\1", text)
    return re.sub(r"[ ._-]+(?=[^ ._-])", "", text)


def skeleton(label: str) -> str:
    """Return what is the same for labels that a person cannot tell apart, or only by an accent.

    Beside what `spelling` leaves out, letters of other scripts that look like Latin ones are those,
    and accents do not count.
    """
    text = unicodedata.normalize("NFKD", _cleaned(label))
    plain = "".join(mark for mark in text if not "\u0300" <= mark <= "\u036f")
    return spelling(plain.translate(_LOOK_ALIKE))


def class_order(labels: Iterable[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the class names in their fixed order, and the class each label stands for.

    When every label is a spelling of one of the four classes of this task, those in use come in
    the task's order. Any other label set is sorted, and its labels stay as they are, but for blanks
    and Unicode forms; two spellings of one of the four classes become that class.
    """
    found = sorted(set(labels))
    mapping = {label: canonical_label(label) for label in found}
    if found and set(mapping.values()) <= set(ALL_CLASSES):
        return tuple(c for c in ALL_CLASSES if c in mapping.values()), mapping
    plain = {label: _cleaned(label) for label in found}
    spellings: dict[str, set[str]] = {}
    for label in found:
        spellings.setdefault(mapping[label], set()).add(plain[label])
    names = {
        label: mapping[label] if len(spellings[mapping[label]]) > 1 else plain[label]
        for label in found
    }
    # Numbers in the order of numbers: 2 before 10.
    whole = all(name.isdecimal() for name in names.values())
    return tuple(sorted(set(names.values()), key=int if whole else str)), names


def unclear(labels: Iterable[str]) -> list[list[str]]:
    """Return the labels that may mean one class or several: each a list of two or more, sorted.

    Other spellings of one label are; so are labels with one skeleton, and, beside further classes, two
    words for one of the four classes (`Benign`, `hematogones`).
    """
    found = sorted({_cleaned(label) for label in labels})
    further = any(canonical_label(label) not in ALL_CLASSES for label in found)
    groups: dict[tuple[str, str], dict[str, list[str]]] = {}
    for label in found:
        name = canonical_label(label)
        known = name in ALL_CLASSES
        word = _OTHER_WORDS.get(_key(label), "") if known else label
        of = ("known", name) if known else ("", spelling(label))
        groups.setdefault(of, {}).setdefault(word, []).append(label)
    same = [
        sorted(label for same in words.values() for label in same)
        for (kind, _), words in groups.items()
        if len(words) > 1 and (further or not kind)
    ]
    told = {label for labels in same for label in labels}
    return same + _look_alikes(label for label in found if label not in told)


def _look_alikes(labels: Iterable[str]) -> list[list[str]]:
    """Return the labels that look the same, of which at least one is none of the four classes."""
    groups: dict[str, list[str]] = {}
    for label in labels:
        seen = skeleton(label)
        known = canonical_label(label if canonical_label(label) in ALL_CLASSES else seen)
        groups.setdefault(known if known in ALL_CLASSES else seen, []).append(label)
    return [sorted(same) for same in groups.values() if len(set(map(canonical_label, same))) > 1]


def display_name(name: str) -> str:
    """Return the name to show a person: `Pre` is shown as `Pre-B`."""
    return _DISPLAY.get(name, name)
