"""What goes to the log: a few lines a minute, however many broken requests come."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from typing import Any

__all__ = ["CONFIG", "Few", "Plain"]

A_MINUTE = 20


class Few(logging.Filter):
    """Lets some lines pass in each minute; the first line of a later one says how many did not."""

    def __init__(self, most: int = A_MINUTE, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._most, self._clock = most, clock
        self._began, self._seen = clock(), 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a line passes."""
        if self._clock() - self._began >= 60:
            missing = self._seen - self._most
            if missing > 0:
                record.msg, record.args = f"{record.getMessage()} ({missing} lines left out)", ()
            self._began, self._seen = self._clock(), 0
        self._seen += 1
        return self._seen <= self._most


class Plain(logging.Formatter):
    """A level and a sentence; of an error its type and its place, as its text may hold a name."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return a line; of a traceback that came as text only the type of the error is left."""
        text = super().format(record)
        before, found, after = text.partition("Traceback (most recent call last)")
        return before + after.strip().splitlines()[-1].partition(":")[0] if found else text

    def formatException(self, ei: Any) -> str:
        """Return the type of an error and where it arose."""
        frames = traceback.extract_tb(ei[2])
        place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        return f"{ei[0].__name__}{place}"


def _line(level: str = "WARNING") -> dict[str, Any]:
    return {"handlers": ["few"], "level": level, "propagate": False}


CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"few": {"()": Few}},
    "formatters": {"plain": {"()": Plain}},
    "handlers": {
        "few": {"class": "logging.StreamHandler", "formatter": "plain", "filters": ["few"]}
    },
    "loggers": {
        "uvicorn": _line(),
        "allkit": _line(),
        "asyncio": _line("ERROR"),
        # What is wrong with a form is told to who sent it.
        "python_multipart": _line("CRITICAL"),
    },
}
"""For `logging.config.dictConfig`, as uvicorn applies it."""
