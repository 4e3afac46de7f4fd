"""Files and folders that are written whole or not at all, by one process; and a model's hash."""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import glob
import hashlib
import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from allkit.errors import AllkitError, ConfigError

__all__ = [
    "cache_folder",
    "clear_stale",
    "held",
    "model_hash",
    "on_disk",
    "private_file",
    "private_folder",
    "require_free",
    "users_folder",
    "whole_folder",
    "write_whole",
]

T = TypeVar("T")

LONGEST = 200
"""Bytes of a name that stay in that of its temporary file: names of 255 bytes are the longest."""
NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY)
"""The errors of drives that cannot be told to write now; a full or broken drive has others."""
HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
"""The errors of a lock that another process holds; a drive without locks has others."""


def require_free(path: Path, *, overwrite: bool, option: str = "--overwrite") -> None:
    """Raise `ConfigError` when `path` exists and may not be replaced."""
    try:
        exists, folder = path.exists(), path.parent.exists()
    except (OSError, ValueError) as error:  # a name that is too long, or holds a null character
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"Cannot write {path}: {reason}. Choose another name.") from None
    if exists and not overwrite:
        raise ConfigError(
            f"{path} exists already. Choose another name, or give {option} to replace it."
        )
    if not folder:
        raise ConfigError(
            f"The folder {path.parent} does not exist. Make it first, or choose another place."
        )


def write_whole(path: Path, data: bytes | str, *, private: bool = False) -> None:
    """Write `data` so that `path` holds either its old content or all of the new.

    With `private` nobody but the user may read it, whatever the umask. Raises `AllkitError` when the
    disk is full or the place cannot be written; the old file is then untouched.
    """
    # A name that is no UTF-8 (a surrogate) is shown with a backslash, which is JSON's way as well.
    payload = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    with _named_failure(path):
        name, stream = _beside(path, ".part", lambda name: _opened(name, private))
        try:
            with stream:
                stream.write(payload)
                stream.flush()
                on_disk(stream)
            os.replace(name, path)
        except BaseException:
            name.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def whole_folder(path: Path, *, overwrite: bool = False, private: bool = False) -> Iterator[Path]:
    """Give a temporary folder to fill; it takes the place of `path` when the block succeeds.

    When the block fails nothing is left behind, and an existing `path` is untouched. With `private`
    nobody but the user may look into it, whatever the umask.
    """
    require_free(path, overwrite=overwrite)
    with _named_failure(path):
        mode = 0o700 if private else 0o777
        building, _ = _beside(path, ".part", lambda name: name.mkdir(mode))
        try:
            yield building
            for file in building.rglob("*"):
                if file.is_file():
                    with file.open("rb") as stream:
                        on_disk(stream)
            if path.exists():
                old, _ = _beside(path, ".old", lambda name: name.mkdir(0o700))
                os.replace(path, old / path.name)
                os.replace(building, path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                os.replace(building, path)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise


def _beside(path: Path, suffix: str, make: Callable[[Path], T]) -> tuple[Path, T]:
    """Make something with a new hidden name beside `path`; return its path and what was made.

    It gets its mode when it is made, from the system: the mask of a process is no matter of one
    thread.
    """
    while True:
        name = path.with_name(f"{_hidden(path)}.{secrets.token_hex(4)}{suffix}")
        try:
            return name, make(name)
        except FileExistsError:
            if not name.exists():  # what is there is `path.parent`, and it is no folder
                raise


def _hidden(path: Path) -> str:
    name = f".{path.name}"
    return os.fsdecode(os.fsencode(name)[:LONGEST]) if len(os.fsencode(name)) > LONGEST else name


def _opened(path: Path, private: bool) -> IO[bytes]:
    """Make a file and open it for writing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o600 if private else 0o666), "wb")


def on_disk(stream: IO[Any]) -> None:
    """Have an open file written to the disk now, where the drive can be told to."""
    try:
        os.fsync(stream.fileno())
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


def private_folder(path: Path) -> Path:
    """Make a folder that nobody but the user may look into, and its parents; one that is there stays."""
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(0o700, exist_ok=True)
    return path


def private_file(path: Path) -> None:
    """Make an empty file that nobody but the user may read, for a library that fills it."""
    with contextlib.suppress(FileExistsError):
        _opened(path, private=True).close()


def held(path: Path, what: Path) -> IO[bytes] | None:
    """Open a file and hold it for this process until it is closed; `None` where another holds it.

    On a drive without locks it is opened too, and a warning says that nobody watches over `what`.
    """
    for _ in range(5):
        stream = path.open("ab")
        try:
            _lock(stream)
        except OSError as error:
            if error.errno in HELD:
                stream.close()
                return None
            warnings.warn(
                f"The drive of {what} has no locks ({error.strerror or error}), so allkit cannot see "
                f"whether another process writes there. Start no second one for the same place.",
                UserWarning,
                stacklevel=3,
            )
            return stream
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return stream
        stream.close()  # its last holder has removed it in between
    return None


def _lock(stream: IO[bytes]) -> None:
    if os.name == "nt":
        import msvcrt

        stream.seek(0)
        # Only on Windows does the module hold it.
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def clear_stale(path: Path) -> None:
    """Remove what a killed process left beside `path` while it wrote it; nobody may be writing it.

    A whole folder that was being replaced, and whose successor did not come, is put back.
    """
    hidden = glob.escape(_hidden(path))
    for part in path.parent.glob(f"{hidden}.*.part"):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
    for old in path.parent.glob(f"{hidden}.*.old"):
        if not path.exists() and (old / path.name).exists():
            os.replace(old / path.name, path)
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _named_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AllkitError(
            f"Cannot write {path}: {error.strerror or error}. Nothing was changed there; free "
            f"some space or choose another place."
        ) from error


def cache_folder() -> Path:
    """Return where what was computed is kept: `ALLKIT_CACHE`, or the user's cache folder.

    A user without a home has none; then it is kept as long as this process runs.
    """
    setting = os.environ.get("ALLKIT_CACHE")
    if setting:
        return Path(setting)
    return users_folder("cache") or _of_this_process()


def users_folder(kind: str) -> Path | None:
    """Return allkit's folder among the user's of a kind, `cache`, `config` or `data`.

    `None` for a user without a home, as in a container with a number in place of a user.
    """
    import platformdirs

    try:
        found = getattr(platformdirs, f"user_{kind}_dir")("allkit", appauthor=False)
    except (KeyError, OSError, RuntimeError):
        return None
    # Without a home, `~` stays as it is, and would be a folder in the current one.
    return Path(found) if os.path.isabs(found) else None


@functools.cache
def _of_this_process() -> Path:
    try:
        folder = tempfile.mkdtemp(prefix="allkit-")
    except OSError as error:
        raise ConfigError(
            f"This user has no home, and no temporary folder can be written ({error.strerror or error}). "
            f"Set ALLKIT_CACHE to a folder that can be written."
        ) from None
    process = os.getpid()

    def remove() -> None:
        if os.getpid() == process:  # a fork of it leaves it
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return Path(folder)


def model_hash(path: Path) -> str:
    """Return a SHA-256 of what decides a model's answers: an exported file, or a model folder."""
    if path.is_dir():
        try:
            lines = (path / "SHA256SUMS").read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError):
            return ""  # opening it says what is wrong
        # Card and pictures may be changed without any answer changing.
        lines = sorted(
            line for line in lines if not line.endswith("  README.md") and "  plots/" not in line
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
