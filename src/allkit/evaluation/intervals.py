"""Exact intervals for a metric that was the same in every group, and the words beside them.

A bootstrap of answers without an error has no error either: its interval has no width, as if the next
group could not be different. An exact bound can be given instead. If a share q of all groups were
different, n groups would all be alike with the probability (1 - q)^n; where that is below 5 %, q is
ruled out. So at most q = 1 - 0.05^(1/n) of the groups are different, about 3/n.

The bound has one side only: no model makes fewer errors than none.
Clopper & Pearson 1934 (Biometrika 26:404) for the bound, Louis 1981 (The American Statistician
35:154) for its one side, Hanley & Lippman-Hand 1983 (JAMA 249:1743) for 3/n.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from allkit.shown.text import how_many

__all__ = [
    "beside",
    "ends",
    "interval_of",
    "less_of_classes",
    "possible",
    "shown_interval",
    "words_of_exact",
    "words_of_exact_difference",
]
__all__ += ["widened", "with_words"]

ALPHA = 0.05
WIDTH = 1e-9
"""A narrower interval counts as one without a width."""
SHARES = ("accuracy", "balanced_accuracy", "accepted_accuracy", "set_coverage")
"""Shares of right answers, which an error lowers."""
RARITIES = ("silent_error_rate", "empty_sets")
"""Shares of errors."""
AREAS = ("roc_auc", "average_precision")
"""How the names of areas end, which are shares of nothing that groups could be counted for."""


def possible(units: float) -> float:
    """Return the largest share of units that may be different if `units` were all alike."""
    return 1 - ALPHA ** (1 / units) if units > 0 else 1.0


def less_of_classes(units: Sequence[float]) -> float:
    """Return by how much a mean of shares over classes may differ if all units were alike.

    `units` are the numbers of units of each class; a unit of several classes counts in parts that
    add up to one. Shares q of the classes are ruled out where the product of (1 - q)^n is below 5 %;
    of the others, the largest mean has 1 - q = min(1, λn), with the λ that makes the product 5 % (a
    concave function on a line). For one class this is `possible`.
    """
    counts = sorted(n for n in units if n > 0)
    if not counts:
        return 1.0
    for number in range(
        len(counts), 0, -1
    ):  # the classes with the fewest units are the different ones
        some = counts[:number]
        mean = sum(n * math.log(n) for n in some)
        level = math.exp((math.log(ALPHA) - mean) / sum(some))
        if level * some[-1] <= 1:
            return sum(1 - level * n for n in some) / len(counts)
    return 1.0 / len(counts)


def widened(
    value: float, share: float, lowest: float = 0.0, highest: float = 1.0
) -> tuple[float, float]:
    """Return the interval of a mean that was `value` in every unit, if `share` may be different.

    A different unit may have any value from `lowest` to `highest`.
    """
    return value - (value - lowest) * share, value + (highest - value) * share


def words_of_exact(
    name: str, value: float, interval: Sequence[float], *, count: int, unit: str, rest: str = ""
) -> str:
    """Return in words the basis of an exact interval of a metric: `count` units, all alike.

    `rest` follows the unit's name.
    """
    where = _where(count, unit, rest)
    if count == 1:
        what = f"{where} only, from which almost nothing follows"
    elif value == 1 and (name in SHARES or name.startswith(("macro_", "malignant_"))):
        what = f"no error in {where}"
    elif value == 0 and name in SHARES:
        what = f"none right in {where}"
    elif value == 0 and name in RARITIES:
        what = f"none in {where}"
    else:
        what = f"the same in all of {where}"
    if name in SHARES and value == 1:
        return f"{what}; up to {_percent(1 - interval[0])} % wrong possible"
    if name in (*SHARES, *RARITIES) and value == 0:
        return f"{what}; up to {_percent(interval[1])} % possible"
    return what


def words_of_exact_difference(difference: float, count: int, unit: str, rest: str = "") -> str:
    """Return in words the basis of an exact interval of a difference."""
    what = "no difference in any of" if difference == 0 else "the same difference in all of"
    if count == 1:
        return f"{_where(count, unit, rest)} only, from which almost nothing follows"
    return f"{what} {_where(count, unit, rest)}"


def _where(count: int, unit: str, rest: str) -> str:
    caveat = " (no groups are known)" if unit == "image" else ""
    return f"{how_many(count, unit)}{rest}{caveat}"


def _percent(share: float) -> int:
    return math.ceil(100 * share - 1e-9)


def interval_of(evaluation: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """Return the interval of a metric of `Evaluation.to_dict`; `None` where it has none.

    Models of older versions hold intervals without a width, which count as missing.
    """
    bounds = evaluation["intervals"].get(name)
    if bounds is None:
        return None
    low, high = bounds
    if high - low < WIDTH and low >= 0 and high <= 1:
        return widened(low, possible(evaluation.get("units", 1)))
    return low, high


def ends(low: float, high: float) -> tuple[str, str]:
    """Return both ends as text, with three decimals, or as many as they need to differ.

    A narrow interval must not look as if it had no width.
    """
    for digits in range(3, 7):
        texts = f"{low:.{digits}f}", f"{high:.{digits}f}"
        if texts[0] != texts[1]:
            break
    return texts


def shown_interval(evaluation: Mapping[str, Any], name: str) -> str:
    """Return the interval of a metric as people are shown it: `0.812–0.950`; empty where it has none.

    An area that was the same in every group has none to show: its exact interval bounds a share of
    groups, and an area is no share. The words of `beside` say on how many groups it rests.
    """
    interval = interval_of(evaluation, name)
    if interval is None:
        return ""
    stored = evaluation["intervals"].get(name)
    exact = name in evaluation.get("exact", {}) or interval != tuple(stored)
    if exact and name.endswith(AREAS):
        return ""
    return "–".join(ends(*interval))


def with_words(evaluation: Mapping[str, Any], name: str) -> str | None:
    """Return the interval of a metric, and after a semicolon the words for it; or `None`."""
    if interval_of(evaluation, name) is None:
        return None
    return "; ".join(filter(None, (shown_interval(evaluation, name), beside(evaluation, name))))


def beside(evaluation: Mapping[str, Any], name: str) -> str:
    """Return the words that belong beside a metric of `Evaluation.to_dict`, or nothing.

    They give the basis of an exact interval, or say that a shortcut is as good.
    """
    words = []
    exact = evaluation.get("exact", {}).get(name)
    stored, interval = evaluation["intervals"].get(name), interval_of(evaluation, name)
    known = exact is None and evaluation.get(name) is not None
    if known and interval is not None and interval != tuple(stored):
        exact = words_of_exact(
            name,
            evaluation[name],
            interval,
            count=evaluation.get("units", 1),
            unit=evaluation["interval_unit"],
        )
    if exact is not None:
        words.append(exact)
    probe = evaluation.get("shortcut_probe") or {}
    if name in ("accuracy", "balanced_accuracy") and probe.get("note"):
        # A probe is measured by its balanced accuracy, so the balanced accuracies are compared.
        words.append(f"balanced, {probe['note']}" if name == "accuracy" else probe["note"])
    return "; ".join(words)
