"""Files and folders that are written whole or not at all, by one process; and the hash of a model's."""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import hashlib
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from allkit.errors import AllkitError, ConfigError

__all__ = [
    "cache_folder",
    "can_write",
    "clear_stale",
    "held",
    "model_hash",
    "on_disk",
    "private_file",
    "private_folder",
    "require_file",
    "require_free",
    "users_folder",
    "whole_file",
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
ABANDONED = 86_400.0
"""Seconds after which nobody writes any more, where no lock tells."""


def require_free(
    path: Path, *, overwrite: bool, option: str = "--overwrite", former: str = ""
) -> None:
    """Raise `ConfigError` when `path` exists and may not be replaced, or is no name.

    A folder is replaced only where it is empty or holds the file `former`, which one of the same kind
    has: a slip of the hand must not cost somebody's images.
    """
    if not path.name:  # of an empty text as well
        raise ConfigError(f"{path} names no place of its own to write to. Give a name.")
    try:
        exists, folder = path.exists(), path.parent.exists()
    except (OSError, ValueError) as error:  # a name that is too long, or holds a null character
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"Cannot write {path}: {reason}. Choose another name.") from None
    if exists and not overwrite:
        raise ConfigError(
            f"{path} exists already. Choose another name, or give {option} to replace it."
        )
    if former and path.is_dir() and not (path / former).is_file() and any(path.iterdir()):
        raise ConfigError(
            f"{path} is a folder with other things in it (it has no {former}), so it is not replaced. Choose "
            f"another name, or remove it yourself."
        )
    if not folder:
        raise ConfigError(
            f"The folder {path.parent} does not exist. Make it first, or choose another place."
        )


def require_file(path: Path) -> None:
    """Raise `ConfigError` when `path` is something that no file can take the place of."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder. Name a file to write.")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is a pipe or a device. Name a file to write.")


def write_whole(path: Path, data: bytes | str, *, private: bool = False) -> None:
    """Write `data` so that `path` holds either its old content or all of the new.

    With `private` nobody but the user may read it, whatever the umask. Raises `AllkitError` when the
    disk is full or the place cannot be written; the old file is then untouched.
    """
    # A name that is no UTF-8 (a surrogate) is shown with a backslash, which is JSON's way as well.
    payload = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    with whole_file(path, private=private) as part, part.open("r+b") as stream:
        stream.write(payload)


@contextlib.contextmanager
def whole_file(path: Path, *, private: bool = False, suffix: str = "") -> Iterator[Path]:
    """Give an empty temporary file to fill; it takes the place of `path` when the block succeeds.

    When the block fails nothing is left behind, and an existing `path` is untouched. What a killed
    process left there is cleared. `private` and errors are those of `write_whole`; the temporary name
    ends in `suffix`.
    """
    clear_stale(path)
    with _named_failure(path):
        require_file(path)
        part, stream = _beside(path, f".part{suffix}", lambda name: _opened(name, private))
        stream.close()
        with _shown_alive(part):
            try:
                yield part
                with part.open("rb") as stream:
                    on_disk(stream)
                os.replace(part, path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise


@contextlib.contextmanager
def whole_folder(
    path: Path, *, overwrite: bool = False, private: bool = False, former: str = ""
) -> Iterator[Path]:
    """Give a temporary folder to fill; it takes the place of `path` when the block succeeds.

    When the block fails nothing is left behind, and an existing `path` is untouched. With `private`
    nobody but the user may look into it, whatever the umask. With `overwrite`, `former` is the file by which
    a folder of the same kind is known; others are not replaced.
    """
    require_free(path, overwrite=overwrite, former=former)
    clear_stale(path)
    with _named_failure(path):
        mode = 0o700 if private else 0o777
        building, _ = _beside(path, ".part", lambda name: name.mkdir(mode))
        with _shown_alive(building):
            try:
                yield building
                if private:
                    _close_to_others(building)
                for file in building.rglob("*"):
                    if file.is_file():
                        with file.open("rb") as stream:
                            on_disk(stream)
                _put(building, path)
            finally:
                _remove(building)


def _put(building: Path, path: Path) -> None:
    """Give a finished folder its name; what had it before is then gone."""
    if not path.exists():
        os.replace(building, path)
    elif not _exchanged(building, path):
        old, _ = _beside(path, ".old", lambda name: name.mkdir(0o700))
        os.replace(path, old / path.name)
        try:
            os.replace(building, path)
        except BaseException:
            os.replace(old / path.name, path)
            raise
        finally:
            if path.exists():
                _remove(old)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two names change places in one step, so that neither is ever missing; `False` where none can."""
    if sys.platform != "linux":
        return False
    import ctypes

    here, exchange = -100, 2  # of Linux: the working folder; let both change places
    arguments = (here, os.fsencode(one), here, os.fsencode(other), exchange)
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):  # an older or another C library
        return False
    return bool(rename(*arguments) == 0)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _shown_alive(part: Path) -> Iterator[None]:
    """Lock what is being written, by which `clear_stale` sees that somebody is at it."""
    handle = None
    if os.name != "nt":  # there nobody can remove what is open
        import fcntl

        with contextlib.suppress(OSError):
            handle = os.open(part, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _abandoned(part: Path) -> bool:
    """Say whether whoever wrote this has ended without finishing it."""
    try:
        old = time.time() - part.stat().st_mtime > ABANDONED
        if os.name == "nt":
            return old or not part.is_dir()
        import fcntl

        handle = os.open(part, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return old and error.errno not in HELD
    finally:
        os.close(handle)
    return True


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


def _close_to_others(folder: Path) -> None:
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # a drive without modes
            path.chmod(0o700 if path.is_dir() else 0o600)


def private_folder(path: Path) -> Path:
    """Make a folder that nobody but the user may look into, and its parents; one that is there stays."""
    if not path.is_dir():
        if path.parent != path:
            private_folder(path.parent)
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
    """Remove what a killed process left beside `path` while it wrote it; what is being written stays.

    A whole folder that was being replaced, and whose successor did not come, is put back.
    """
    ours = re.compile(rf"{re.escape(_hidden(path))}\.\w+\.(part(\.\w+)?|old)")
    with contextlib.suppress(
        OSError
    ):  # what cannot be read or changed is told by whoever writes there
        for left in [entry for entry in path.parent.iterdir() if ours.fullmatch(entry.name)]:
            if left.suffix != ".old":
                if _abandoned(left):
                    _remove(left)
                continue
            if not path.exists() and (left / path.name).exists():
                os.replace(left / path.name, path)
            _remove(left)


@contextlib.contextmanager
def _named_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not path.parent.is_dir():
            what = "is no folder" if path.parent.exists() else "does not exist"
            advice = "Make it first, or choose another place."
            raise AllkitError(
                f"Cannot write {path}: the folder {path.parent} {what}. {advice}"
            ) from error
        raise AllkitError(
            f"Cannot write {path}: {error.strerror or error}. Nothing was changed there; free "
            f"some space or choose another place."
        ) from error


def cache_folder() -> Path:
    """Return where what was computed is kept: `ALLKIT_CACHE`, or the user's cache folder.

    A user without a home, or with one that cannot be written, has none; then it is kept as long as
    this process runs.
    """
    setting = os.environ.get("ALLKIT_CACHE")
    if setting:
        return Path(setting)
    folder = users_folder("cache")
    return folder if folder is not None and can_write(folder) else _of_this_process()


def can_write(folder: Path) -> bool:
    """Return whether files can be made in a folder that is there, or that can be made."""
    if folder.is_dir():
        return os.access(folder, os.W_OK | os.X_OK)
    above = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
    try:
        with tempfile.TemporaryFile(dir=above):  # what the modes allow, the drive may not
            return True
    except OSError:
        return False


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
