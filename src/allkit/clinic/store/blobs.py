"""Images by content, on disk: a file's name is the SHA-256 of what it holds."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from allkit.clinic.records import sha256_of
from allkit.errors import StoreError
from allkit.files import private_folder, write_whole

__all__ = ["Blobs"]


class Blobs:
    """A folder of images. A file is whole on the disk before its row is written, and never changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha256: str) -> Path:
        """Return where the image with a hash lies, whether or not it is there."""
        return self.folder / sha256[:2] / sha256

    def put(self, data: bytes) -> str:
        """Keep bytes, once; return their SHA-256. Raises `AllkitError` where the disk is full."""
        sha256 = sha256_of(data)
        path = self.path(sha256)
        if not _holds(path, sha256):
            try:
                private_folder(path.parent)
            except OSError as error:
                raise StoreError(
                    f"The folder {path.parent} cannot be made ({error.strerror or error}). Free some "
                    "space, or look at its permissions; nothing was changed."
                ) from None
            write_whole(path, data, private=True)
            _sync(path.parent)
        return sha256

    def get(self, sha256: str) -> bytes:
        """Return the bytes with a hash. Raises `StoreError` where they are gone or were altered."""
        try:
            data = self.path(sha256).read_bytes()
        except OSError as error:
            raise StoreError(
                f"The image {sha256[:12]} cannot be read from the clinic's folder "
                f"({error.strerror or error}). Restore it from a backup."
            ) from None
        if sha256_of(data) != sha256:
            raise StoreError(
                f"The image {sha256[:12]} in the clinic's folder was altered. Restore it from a backup."
            )
        return data

    def remove(self, sha256: str) -> None:
        """Remove the file with a hash, if it is there."""
        self.path(sha256).unlink(missing_ok=True)

    def clear_parts(self, older_than: float = 600) -> int:
        """Remove what killed processes left half written, some seconds ago; return how many files."""
        count = 0
        for part in self.folder.glob("??/.*.part"):
            with contextlib.suppress(OSError):  # its writer has just finished
                if time.time() - part.stat().st_mtime > older_than:
                    part.unlink()
                    count += 1
        return count

    def there(self) -> Iterator[str]:
        """Yield the hashes of the files that are there; what a killed process left half is no such file."""
        if self.folder.is_dir():
            for part in sorted(self.folder.iterdir()):
                yield from (f.name for f in sorted(part.iterdir()) if len(f.name) == 64)


def _holds(path: Path, sha256: str) -> bool:
    """Whether a file is there and whole; one that was damaged is written anew."""
    try:
        return sha256_of(path.read_bytes()) == sha256
    except OSError:
        return False


def _sync(folder: Path) -> None:
    """Put the names in a folder on the disk, where the system can."""
    with contextlib.suppress(OSError):  # Windows opens no folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
