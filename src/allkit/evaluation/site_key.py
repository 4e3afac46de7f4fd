"""The secret of a site, by which a model recognises its groups and nobody else can guess them.

A group is often a patient or a slide, and its name a short number: anybody could try all of them
against a plain hash. So a model keeps HMAC-SHA-256 of each name, keyed with 32 random bytes that lie
in a file of the user's, and beside it which key it was. Where that key is not here, nothing can be
said about the groups.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import warnings
from collections.abc import Iterable
from pathlib import Path

from allkit.errors import AllkitError, ConfigError
from allkit.files import private_folder, users_folder, write_whole
from allkit.runtime.reading import read_plain

__all__ = ["FILE_VARIABLE", "HiddenGroups", "hide_groups", "key_file"]

FILE_VARIABLE = "ALLKIT_SITE_KEY_FILE"
MOST = 1024
"""Bytes of the largest file that may hold a key."""
DIGITS = 32
"""Hexadecimal digits that are kept of an HMAC; 128 bits."""


def key_file() -> Path | None:
    """Return where the key lies: `ALLKIT_SITE_KEY_FILE`, or `allkit/site-key` in the user's settings.

    `None` for a user without a home.
    """
    setting = os.environ.get(FILE_VARIABLE)
    if setting:
        return Path(setting)
    folder = users_folder("config")
    return None if folder is None else folder / "site-key"


def hide_groups(names: Iterable[str]) -> tuple[str, ...]:
    """Return what a model keeps of its groups, sorted: `KEY:HMAC` of each name.

    The first call makes the key of this site. Where it cannot be written, a warning says so, and it
    is forgotten when the process ends. Raises `ConfigError` where the file holds no key.
    """
    wanted = sorted(set(names))
    if not wanted:
        return ()
    key = _read() or _made()
    return tuple(sorted(_hidden(name, key) for name in wanted))


class HiddenGroups:
    """The groups that a model was trained on, as far as the key of this site shows them.

    `hidden` is what the model keeps of each. Models of the first versions keep a hash without a key.
    `others` are the keys of other sites. Raises `ConfigError` where the file of the key holds none.
    """

    def __init__(self, hidden: Iterable[str]) -> None:
        self._hidden = frozenset(hidden)
        keys = {entry.partition(":")[0] for entry in self._hidden if ":" in entry}
        self._key = _read() if keys else None
        self.others = sorted(keys - ({_name_of(self._key)} if self._key else set()))

    @property
    def known(self) -> bool:
        """Whether all of them can be recognised; if not, a group that is not held may still be one."""
        return not self.others

    def holds(self, name: str | None) -> bool:
        """Return whether the model was trained on a group, as far as it can be known."""
        if not name:
            return False
        return _unkeyed(name) in self._hidden or (
            self._key is not None and _hidden(name, self._key) in self._hidden
        )

    def are(self, names: Iterable[str]) -> bool:
        """Return whether these are the groups, all of them and no other; they have to be `known`."""
        wanted = set(names)
        return len(wanted) == len(self._hidden) and all(map(self.holds, wanted))


def _hidden(name: str, key: bytes) -> str:
    digest = hmac.new(key, f"group {name}".encode("utf-8", "surrogatepass"), hashlib.sha256)
    return f"{_name_of(key)}:{digest.hexdigest()[:DIGITS]}"


def _name_of(key: bytes) -> str:
    """Return the name of a key, eight hexadecimal digits that say nothing about it."""
    return hashlib.sha256(b"name of an allkit site key " + key).hexdigest()[:8]


def _unkeyed(name: str) -> str:
    """Return the hash of a group in models of the first versions."""
    text = f"group {name}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:16]


def _read() -> bytes | None:
    """Return the key of this site, or `None` where none was made yet."""
    path = key_file()
    if path is None:
        return _forgotten.get(None)
    try:
        # A pipe would be waited for, and a device read without end.
        data = read_plain(path, ConfigError, most=MOST, follow=True)
    except (FileNotFoundError, NotADirectoryError):
        return _forgotten.get(path)
    except (ConfigError, OSError) as error:
        if not os.path.lexists(path):
            return _forgotten.get(path)
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        raise ConfigError(
            f"The key of this site in {path} cannot be read ({reason}). Ask its owner to let you read it, "
            f"or name another file in {FILE_VARIABLE}."
        ) from None
    text = data.decode("ascii", "replace").strip()
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ConfigError(
            f"{path} holds no key of a site, which is 64 hexadecimal digits. Take it from a backup, or "
            f"name another file in {FILE_VARIABLE}."
        )
    return bytes.fromhex(text)


def _made() -> bytes:
    """Return a new key, written to its file where that can be."""
    path, text = key_file(), secrets.token_hex(32)
    if path is None:
        return _kept_here(None, text, "this user has no home")
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        private_folder(path.parent)
        write_whole(beside, f"{text}\n", private=True)
        try:
            os.link(beside, path)  # never over the key of another process that was quicker
        except FileExistsError:
            pass
        except OSError:  # a drive without hard links
            if not path.exists():
                os.replace(beside, path)
    except (AllkitError, OSError) as error:
        return _kept_here(path, text, f"{path} cannot be written ({_reason(error)})")
    finally:
        _remove(beside)
    return _read() or bytes.fromhex(text)


def _reason(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, AllkitError) else error
    return str(getattr(cause, "strerror", None) or cause or error)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


_forgotten: dict[Path | None, bytes] = {}
"""Keys that could not be written, by their files; they end with the process."""


def _kept_here(path: Path | None, text: str, why: str) -> bytes:
    warnings.warn(
        f"The key of this site cannot be kept, because {why}. Later nobody can tell by group whether images "
        f"were trained on. Set {FILE_VARIABLE} to a file that can be written, and train again.",
        UserWarning,
        stacklevel=4,
    )
    return _forgotten.setdefault(path, bytes.fromhex(text))
