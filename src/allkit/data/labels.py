"""The classes of acute lymphoblastic leukaemia, their display names and their other spellings."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["ALL_CLASSES", "canonical_label", "class_order", "display_name"]

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
    "pre": "Pre", "preb": "Pre", "malignantpreb": "Pre", "preball": "Pre", "precancerous": "Pre",
    "pro": "Pro", "prob": "Pro", "malignantprob": "Pro", "proball": "Pro", "prognosis": "Pro",
}  # fmt: skip


def _key(label: str) -> str:
    return re.sub(r"[^a-z0-9]", "", label.lower())


def canonical_label(label: str) -> str:
    """Return the class that `label` means on this task, or the label itself, stripped."""
    return _ALIASES.get(_key(label), label.strip())


def class_order(labels: Iterable[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the class names in their fixed order, and the class each label stands for.

    When every label is a spelling of one of the four classes of this task, those in use come in
    the task's order. Any other label set is taken as it is, sorted.
    """
    found = sorted(set(labels))
    mapping = {label: canonical_label(label) for label in found}
    if found and set(mapping.values()) <= set(ALL_CLASSES):
        return tuple(c for c in ALL_CLASSES if c in mapping.values()), mapping
    return tuple(found), {label: label for label in found}


def display_name(name: str) -> str:
    """Return the name to show a person: `Pre` is shown as `Pre-B`."""
    return _DISPLAY.get(name, name)
