"""Files and folders that are written whole or not at all, and the hash of a model's."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from allkit.errors import AllkitError, ConfigError

__all__ = ["clear_stale", "model_hash", "require_free", "whole_folder", "write_whole"]


def require_free(path: Path, *, overwrite: bool, option: str = "--overwrite") -> None:
    """Raise `ConfigError` when `path` exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise ConfigError(
            f"{path} exists already. Choose another name, or give {option} to replace it."
        )
    if not path.parent.exists():
        raise ConfigError(
            f"The folder {path.parent} does not exist. Make it first, or choose another place."
        )


def write_whole(path: Path, data: bytes | str) -> None:
    """Write `data` so that `path` holds either its old content or all of the new.

    Raises `AllkitError` when the disk is full or the place cannot be written; the old file is
    then untouched.
    """
    payload = data.encode() if isinstance(data, str) else data
    with _named_failure(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(payload)
                stream.flush()
                os.fsync(stream.fileno())
            _usual_mode(Path(name), 0o666)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def whole_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder to fill; it takes the place of `path` when the block succeeds.

    When the block fails nothing is left behind, and an existing `path` is untouched.
    """
    require_free(path, overwrite=overwrite)
    with _named_failure(path):
        building = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
        try:
            yield building
            _usual_mode(building, 0o777)
            for file in building.rglob("*"):
                if file.is_file():
                    with file.open("rb") as stream:
                        os.fsync(stream.fileno())
            if path.exists():
                old = Path(
                    tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".old")
                )
                os.replace(path, old / path.name)
                os.replace(building, path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                os.replace(building, path)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise


def clear_stale(path: Path) -> None:
    """Remove what a killed process left beside `path` while it wrote it; nobody may be writing it.

    A whole folder that was being replaced, and whose successor did not come, is put back.
    """
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
    for old in path.parent.glob(f".{glob.escape(path.name)}.*.old"):
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


def _usual_mode(path: Path, mode: int) -> None:
    # Temporary files are private to their owner; what the user asked for gets the usual mode.
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(mode & ~umask)


def cache_folder() -> Path:
    """Return where what was computed is kept: `ALLKIT_CACHE`, or the user's cache folder."""
    setting = os.environ.get("ALLKIT_CACHE")
    if setting:
        return Path(setting)
    import platformdirs

    return Path(platformdirs.user_cache_dir("allkit", appauthor=False))


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
