"""What is told while work runs: how long it will take, then from time to time how far it is."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["EVERY", "Teller", "Telling"]

EVERY = 30.0
"""Seconds between two lines about how far the work is."""
WORTH = 5.0
"""Work that takes less seconds than this is not told."""
PART = 0.5
"""Seconds of work that are measured together: images come in batches, many at the same moment."""
ALONE = 10.0
"""Seconds after which the first part is taken as a measure. Before, a second one is awaited: the
first one holds what is done once, such as the conversion of a network."""


class Teller(Protocol):
    """What is told how far some work is: `tell(what, done, total)`."""

    def __call__(self, what: str, done: int, total: int, /) -> None:
        """Note that `done` of `total` are done."""


@dataclass
class _Work:
    """One kind of work: how far it is, and how long one piece of it takes."""

    what: str
    total: int
    done: int
    begun: float
    told: bool = False
    _first: tuple[float, int] | None = None
    _parts: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=60))
    _at: tuple[float, int] = (0.0, 0)

    def __post_init__(self) -> None:
        self._at = (self.begun, self.done)

    def advance(self, done: int, total: int, now: float) -> None:
        """Note how far it is, and measure."""
        self.done, self.total = done, total
        seconds, pieces = now - self._at[0], done - self._at[1]
        if pieces > 0 and seconds >= PART:
            self._at = (now, done)
            if self._first is None:
                self._first = (seconds, pieces)
            else:
                self._parts.append((seconds, pieces))

    def left(self, now: float) -> float | None:
        """Return the seconds that are left, or `None` while too little was measured."""
        if self._first is None or not (self._parts or now - self.begun >= ALONE):
            return None
        parts = self._parts or [self._first]
        pace = sum(seconds for seconds, _ in parts) / sum(pieces for _, pieces in parts)
        return pace * (self.total - self.done)

    def how_far(self, now: float) -> str:
        """Return in words what is done, of how much, and the time left."""
        left = self.left(now)
        rest = "" if left is None else f", about {_in_words(left)} left"
        return f"{self.what}: {self.done:,} of {self.total:,}{rest}"


class Telling:
    """A `progress(what, done, total)` that writes lines about work that takes more than 5 seconds.

    One line when it is known how long the work takes, then, with `every`, one every so many seconds.
    `note` adds what else is to be known about such work, once. Work may hold other work that has a
    name of its own: then the outer one, once its time is known, is what is told first. `write` takes a
    line; `clock` gives seconds.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        every: float | None = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write, self._every, self._clock = write, every, clock
        self._works: dict[str, _Work] = {}  # what has begun and is not done, the outer ones first
        self._notes: list[str] = []
        self._noted: set[str] = set()
        self._last: float | None = None  # when the last line was written

    def __call__(self, what: str, done: int, total: int) -> None:
        """Note that `done` of `total` are done, and write a line if it is time for one."""
        now = self._clock()
        work = self._works.get(what)
        if work is None or done < work.done:
            self._works.pop(what, None)
            if done >= total:
                return
            work = self._works[what] = _Work(what, total, done, now)
        work.advance(done, total, now)
        if done >= total:
            del self._works[what]
            return
        outer = [other for other in self._works.values() if other is not work and other.told]
        if not work.told and not outer:
            self._begin(work, now)
        elif self._due(now):
            self._tell("; ".join(each.how_far(now) for each in (*outer, work)) + ".", now)

    def note(self, text: str) -> None:
        """Tell `text` with the work that it belongs to: nothing where that takes no time."""
        if text in self._noted:
            return
        self._noted.add(text)
        if any(work.told for work in self._works.values()):
            self._write(text)
        else:
            self._notes.append(text)

    def _begin(self, work: _Work, now: float) -> None:
        """Write the first line about some work, if it is known by now that it takes its time."""
        left = work.left(now)
        if left is None or now - work.begun + left < WORTH:
            return
        work.told = True
        whole = _in_words(now - work.begun + left)
        said = f" {work.total:,} " in f" {work.what} "
        amount = "" if said else f" ({work.total:,})"
        self._tell(f"{work.what}{amount}: about {whole} on this machine.", now)
        for text in self._notes:
            self._write(text)
        self._notes.clear()

    def _due(self, now: float) -> bool:
        return (
            self._every is not None and self._last is not None and now - self._last >= self._every
        )

    def _tell(self, text: str, now: float) -> None:
        self._last = now
        self._write(text[:1].upper() + text[1:])


def _in_words(seconds: float) -> str:
    """Return a time as a person would say it: `40 seconds`, `12 minutes`, `2.5 hours`."""
    if seconds < 57.5:
        return f"{max(5, 5 * round(seconds / 5))} seconds"
    if seconds < 90 * 60:
        minutes = max(1, round(seconds / 60))
        return f"{minutes} minute{'s' if minutes > 1 else ''}"
    return f"{seconds / 3600:.1f}".removesuffix(".0") + " hours"
