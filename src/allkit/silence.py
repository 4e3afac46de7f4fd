"""Quiet while other people's code runs that reports what is none of the user's concern."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

__all__ = ["silenced"]


@contextlib.contextmanager
def silenced(level: int) -> Iterator[None]:
    """Let no message of `level` or below be logged for a while; what goes wrong is still raised."""
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)
