"""Groups that coincide with classes: no metric can then separate the slide from the disease."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

__all__ = ["alone", "coincide", "nested"]


def nested(labels: Sequence[str], groups: Sequence[Hashable]) -> bool:
    """Return whether every group holds images of one class only."""
    return len(set(zip(groups, labels, strict=True))) == len(set(groups))


def alone(labels: Sequence[str], groups: Sequence[Hashable], fewest: int = 2) -> list[str]:
    """Return the classes whose images come from fewer than `fewest` groups, sorted."""
    of: dict[str, set[Hashable]] = {}
    for label, group in zip(labels, groups, strict=True):
        of.setdefault(label, set()).add(group)
    return sorted(label for label, own in of.items() if len(own) < fewest)


def coincide(labels: Sequence[str], groups: Sequence[Hashable], what: str) -> str | None:
    """Return in words that every class is one group of its own, or `None` where it is not so.

    `what` names a group: the column that it comes from.
    """
    classes = set(labels)
    if len(classes) < 2 or not nested(labels, groups) or len(alone(labels, groups)) < len(classes):
        return None
    return (
        f"Every class comes from one {what} of its own ({len(classes)} classes, {len(classes)} "
        f"values of {what}): every difference between these (stain, light, scale bar, patient) is a "
        f"difference between the classes too, and nothing can be left out. So nothing can be learnt "
        f"about unseen slides. Give images of each class from at least two values of {what}."
    )
