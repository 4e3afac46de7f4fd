"""How far two readers agree, and how sure a share is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

__all__ = ["kappa", "wilson"]


def kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Return Cohen's kappa of two readers' classes, −1 to 1; `None` where it is not defined.

    It is the agreement beyond what the readers' own shares of the classes make likely (Cohen 1960), and
    has no value where there is nothing to compare, or both gave one class to everything.
    """
    count = len(pairs)
    if not count:
        return None
    first, second = (Counter(pair[i] for pair in pairs) for i in (0, 1))
    observed = sum(a == b for a, b in pairs) / count
    chance = sum(first[name] * second[name] for name in first) / count**2
    return None if chance == 1 else (observed - chance) / (1 - chance)


def wilson(hits: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the interval of Wilson (1927) for a share, 95 % by default; 0 to 1 where there is no case."""
    if not count:
        return 0.0, 1.0
    share, square = hits / count, z * z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = (
        z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    )
    return max(0.0, middle - half), min(1.0, middle + half)
