"""The coarse question: the metrics of the groups of classes, such as benign against malignant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.trust.decision import CoarseDecision, Decision
from allkit.trust.groups import ClassGroups
from allkit.types import Ints

__all__ = [
    "VERDICTS",
    "coarse_decision",
    "coarse_lines",
    "coarse_metrics",
    "coarse_name",
    "coarse_of",
    "mapped_groups",
]

VERDICTS = ("accepted", "review", "refused")


def coarse_metrics(
    names: Sequence[str], truth: Ints, answered: Ints, verdicts: Sequence[str] | None
) -> dict[str, Any]:
    """Return the metrics of the coarse answers on N images or units.

    `names` are those of the G groups, `truth` and `answered` `(N,)` their positions. `verdicts` is
    `None` where they cannot be judged. `confusion` has true groups in rows and answered ones in
    columns. `balanced_accuracy` is the mean over the groups that have images.
    """
    size = len(names)
    confusion = np.bincount(truth * size + answered, minlength=size * size).reshape(size, size)
    support = confusion.sum(axis=1)
    there = support > 0
    right = truth == answered
    result: dict[str, Any] = {
        "groups": list(names),
        "n": len(truth),
        "accuracy": float(right.mean()),
        "balanced_accuracy": float((np.diag(confusion)[there] / support[there]).mean()),
        "confusion": confusion.tolist(),
        "verdicts": {},
        "accepted_accuracy": None,
        "silent_error_rate": None,
    }
    if verdicts is not None:
        accepted = np.array([verdict == "accepted" for verdict in verdicts], dtype=bool)
        result["verdicts"] = {name: list(verdicts).count(name) for name in VERDICTS}
        result["silent_error_rate"] = float((accepted & ~right).mean())
        if accepted.any():
            result["accepted_accuracy"] = float(right[accepted].mean())
    return result


def coarse_of(
    groups: ClassGroups | None, truth: Ints, decisions: Sequence[Decision]
) -> dict[str, Any]:
    """Return the metrics of the coarse answers in N decisions under `coarse`; empty without groups.

    `truth` `(N,)` are the positions of the true classes, whose groups are those of `groups`.
    """
    coarse = [decision.coarse for decision in decisions]
    if groups is None or not coarse or any(answer is None for answer in coarse):
        return {}
    answered = [answer for answer in coarse if answer is not None]
    return {
        "coarse": coarse_metrics(
            groups.names,
            np.array(groups.of_class)[truth],
            np.array([answer.group for answer in answered]),
            [answer.verdict for answer in answered],
        )
    }


def coarse_decision(
    coarse: str | None,
    probability: float | None,
    verdict: Any,
    *,
    evidence: Mapping[str, float],
    ood_score: float | None,
    groups: ClassGroups | None,
) -> CoarseDecision | None:
    """Return the coarse part of a `Prediction` as the decision it came from.

    Where `groups` are not known, as of a file that a plugin opened, the names of the evidence are
    their names, in order.
    """
    names = list(evidence) if groups is None else list(groups.names)
    if coarse not in names or probability is None or verdict is None:
        return None
    values = tuple(evidence[name] for name in names) if set(names) == set(evidence) else ()
    return CoarseDecision(
        names.index(coarse), probability, verdict, evidence=values, ood_score=ood_score
    )


def mapped_groups(
    groups: ClassGroups | None, members: npt.NDArray[np.bool_], mapped: Sequence[str]
) -> tuple[ClassGroups | None, list[str]]:
    """Return the groups of M mapped classes, of which `members` `(K, M)` says what each is made of.

    `None`, with the reason, where a mapped class holds classes of several groups.
    """
    if groups is None:
        return None, []
    of_class = np.array(groups.of_class)
    of_mapped = [np.unique(of_class[inside]) for inside in members.T.astype(bool)]
    mixed = [name for name, found in zip(mapped, of_mapped, strict=True) if len(found) > 1]
    if mixed:
        return None, [
            f"{coarse_name(groups.names)} is not judged: {', '.join(mixed)} holds classes of several "
            f"class groups."
        ]
    return ClassGroups(groups.names, tuple(int(found[0]) for found in of_mapped)), []


def coarse_name(groups: Sequence[str]) -> str:
    """Return what the coarse question is called: `Benign or malignant`."""
    text = " or ".join(groups)
    return text[:1].upper() + text[1:]


def coarse_lines(coarse: Mapping[str, Any] | None) -> list[str]:
    """Return the metrics of the coarse answers as sentences; empty where there are none."""
    if not coarse:
        return []
    name = coarse_name(coarse["groups"])
    lines = [f"{name}: {coarse['accuracy']:.3f} right, balanced {coarse['balanced_accuracy']:.3f}."]
    if coarse["verdicts"]:
        counts = " / ".join(str(coarse["verdicts"][verdict]) for verdict in VERDICTS)
        right = coarse["accepted_accuracy"]
        lines.append(
            f"{name}, accepted / review / refused: {counts}; "
            f"{'none was accepted' if right is None else f'{right:.3f} of the accepted right'}; "
            f"silent errors {coarse['silent_error_rate']:.1%}."
        )
    return lines
