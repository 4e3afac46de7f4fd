"""How often each may ask: a bucket of requests that fills again through the minute."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Rates"]

MOST = 10_000
"""Who is remembered at once; whoever asked longest ago is forgotten first, with a full bucket."""


class Rates:
    """Lets each ask `a_minute` times a minute, all at once or spread; 0 for as often as wanted."""

    def __init__(self, a_minute: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.a_minute, self._clock = a_minute, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, who: str) -> int:
        """Count a request; return 0, or the whole seconds until the next one is let in."""
        if not self.a_minute:
            return 0
        now = self._clock()
        left, then = self._buckets.pop(who, (float(self.a_minute), now))
        left = min(self.a_minute, left + (now - then) * self.a_minute / 60)
        let_in = left >= 1
        self._buckets[who] = (left - 1 if let_in else left, now)
        while len(self._buckets) > MOST:
            self._buckets.popitem(last=False)
        return 0 if let_in else max(1, math.ceil((1 - left) * 60 / self.a_minute))
