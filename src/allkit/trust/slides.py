"""What may be answered on a slide that was never seen: limits, each chosen on slides left out."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from allkit.types import Floats

__all__ = ["Limit", "bound", "limit_of_slides"]


class Limit(NamedTuple):
    """A limit, and whether it is `empirical`: too few slides were left out to promise the risk."""

    limit: float
    empirical: bool


def limit_of_slides(needs: Floats, risk: float, margin: float) -> Limit:
    """Return the limit for slides that were never seen, from what each of n left-out slides needs.

    `needs` `(n,)` are the smallest limits at which each slide is not answered wrongly. A new slide,
    exchangeable with these, needs more than the k-th smallest of them with probability 1 − k / (n + 1)
    at most (split conformal prediction, Vovk 2005). Where n slides suffice for the asked `risk`
    that k-th value is the limit. With fewer, nothing can be promised: it is then the strictest of all,
    raised by the share `margin` of itself, and `empirical`. Infinite for no slide.
    """
    count = len(needs)
    if not count:
        return Limit(math.inf, True)
    rank = math.ceil((count + 1) * (1 - risk) - 1e-9)
    if rank > count:
        strictest = float(np.max(needs))
        return Limit(strictest + margin * abs(strictest), True)
    return Limit(float(np.sort(needs)[rank - 1]), False)


def bound(wrong: int, count: int, level: float = 0.95) -> float:
    """Return the exact one-sided upper bound of a share of which `wrong` of `count` were seen.

    Clopper & Pearson 1934. None of five slides: up to 0.451 at the level 0.95.
    """
    from scipy.stats import beta

    if not count or wrong >= count:
        return 1.0
    return float(beta.ppf(level, wrong + 1, count - wrong))
