"""The access log: one line for each request, without a name, an address or anything that was sent."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from allkit.errors import ConfigError

__all__ = ["AccessLog"]

log = logging.getLogger("allkit.serve")
HEAD = "time method route status ms bytes key\n"
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class AccessLog:
    """Appends to a file, which is opened for each line: it may be moved away at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._append("")
        except OSError as error:
            raise ConfigError(
                f"The access log {path} cannot be written ({error.strerror or error})."
            ) from None

    def note(
        self, method: str, route: str, *, status: int, seconds: float, sent: int, key: str
    ) -> None:
        """Add a request: the template of its route, never its path. `key` is the id of a key."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        method = method if method in METHODS else "OTHER"
        line = f"{now} {method} {route} {status} {seconds * 1000:.1f} {sent} {key or '-'}\n"
        try:
            self._append(line)
        except OSError as error:
            log.error("A line of the access log is lost (%s).", error.strerror or error)

    def _append(self, line: str) -> None:
        handle = os.open(self._path, _FLAGS, 0o600)
        try:
            fresh = os.fstat(handle).st_size == 0
            os.write(handle, ((HEAD if fresh else "") + line).encode())
        finally:
            os.close(handle)
