"""Who may ask: the keys of the server, which can change while it runs."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from allkit.errors import ConfigError

__all__ = ["Keys", "id_of", "keys_of"]

log = logging.getLogger("allkit.serve")
AGAIN = 1.0
"""Seconds after which a file is looked at again."""
MOST_BYTES = 2**20


def id_of(key: str) -> str:
    """Return by what a key is known in the access log: eight digits of its SHA-256."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:8]


def keys_of(text: str, where: str) -> list[str]:
    """Return the keys of a text, one a line; lines with # are remarks. Raises `ConfigError`."""
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    make = "Make one with: python -c 'import secrets; print(secrets.token_urlsafe())'"
    if not keys:
        raise ConfigError(f"There is no key in {where}. {make}")
    if any(len(k) < 16 or not k.isascii() or not k.isprintable() or " " in k for k in keys):
        raise ConfigError(
            f"Each key in {where} must be 16 characters or more, ASCII and without spaces. {make}"
        )
    return keys


class Keys:
    """The keys that are right now; those of a file follow it, so that no key needs a restart."""

    def __init__(self, keys: Sequence[str], file: Path | None = None) -> None:
        self._set(keys)
        self._file = file
        self._seen = None if file is None else _stamp(file)
        self._looked = time.monotonic()

    @classmethod
    def of_file(cls, file: Path) -> Keys:
        """Return the keys of a file. Raises `ConfigError` when it cannot be read, or one is no key."""
        return cls(_read(file), file)

    def known(self, shown: str, clock: Callable[[], float] = time.monotonic) -> str | None:
        """Return the id of a key that is right; `None` for a wrong one."""
        if self._file is not None and clock() - self._looked >= AGAIN:
            self._looked = clock()
            self._follow(self._file)
        given = shown.encode("latin-1", "replace")
        # In constant time: how long it takes must not tell how much of a guess was right.
        right = [id for id, key in self._keys.items() if hmac.compare_digest(given, key)]
        return right[0] if right else None

    def _set(self, keys: Sequence[str]) -> None:
        self._keys = {id_of(key): key.encode() for key in keys}

    def _follow(self, file: Path) -> None:
        stamp = _stamp(file)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._set(_read(file))
        except ConfigError as error:
            log.error("The keys stay as they were. %s", error)
            return
        log.warning("The keys were read again; there are %d.", len(self._keys))


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(file: Path) -> list[str]:
    try:
        if not file.is_file():
            raise ConfigError(f"The key file {file} cannot be read (it is no file).")
        with file.open("rb") as stream:
            text = stream.read(MOST_BYTES).decode("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"The key file {file} cannot be read ({error}).") from None
    return keys_of(text, str(file))
