"""Files of a model, read whole and only if they are plain files of a bearable size.

What is read may come from a stranger: a link, a pipe, a device, a file of holes. And it may be
something else than it is called, which is said by name: a pointer of Git LFS, a web page, a zip.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from allkit.errors import AllkitError
from allkit.images.mistaken import pretender

__all__ = [
    "MOST_BYTES",
    "PACKED",
    "ZIP",
    "look_alike",
    "memory_bytes",
    "named_otherwise",
    "parse_json",
    "read_plain",
]

MOST_BYTES = 8 * 2**30
"""Size of the largest file of a model that is read."""
HALF = (".part", ".partial", ".crdownload", ".download", ".tmp", ".aria2", ".incomplete")
"""Suffixes under which programs keep what they have not downloaded whole."""
ZIP, PACKED = (
    "is a zip. Unpack it, and give what is in it.",
    "is a packed archive. Unpack it, and give what is in it.",
)
"""What `look_alike` says of archives of which no more is known: a payload of an exporter may be one."""
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")

Refusal = Callable[[str], AllkitError]
"""Makes the error of a message; the class of the error serves."""


def read_plain(
    path: Path, refusal: Refusal, *, most: int = MOST_BYTES, follow: bool = False
) -> bytes:
    """Return the bytes of a plain file; only with `follow` may `path` be a link.

    Raises what `refusal` makes: for a link, a folder, a pipe or a device, for more than `most`
    bytes or more than there is memory, and `FileNotFoundError` where there is nothing.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        before = path.stat() if follow else path.lstat()  # to open a device may do something
        _require_plain(path, before, refusal)
        handle = os.open(path, flags | (0 if follow else getattr(os, "O_NOFOLLOW", 0)))
    except FileNotFoundError:
        raise
    except ValueError:
        raise refusal(f"{str(path)!r} cannot be the name of a file. Check the path.") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise refusal(_link(path)) from None
        raise refusal(
            f"Cannot read {path}: {error.strerror or error}. Check the path and who may read it."
        ) from None
    with open(handle, "rb", buffering=0) as stream:
        size = os.fstat(handle)
        _require_plain(path, size, refusal)
        if size.st_size > min(most, memory_bytes()):
            raise refusal(
                f"{path} has {size.st_size:,} bytes; at most {min(most, memory_bytes()):,} are read. It is "
                f"no file that allkit wrote, or does not fit into the memory of this machine."
            )
        try:
            data = bytearray(size.st_size)
            view, at = memoryview(data), 0
            while at < len(data) and (count := stream.readinto(view[at:])):
                at += count
            view.release()
        except (OSError, MemoryError) as error:
            raise refusal(f"Cannot read {path}: {error or 'too little memory'}.") from None
    return bytes(data[:at]) if at < len(data) else bytes(data)


def _require_plain(path: Path, found: os.stat_result, refusal: Refusal) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise refusal(_link(path))
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        raise refusal(f"{path} is {kind}, not a file. Copy the model again from where it was made.")


def _link(path: Path) -> str:
    return (
        f"{path} is a link, which is not followed. Copy the model with the files themselves, as "
        f"`cp -rL` does."
    )


def memory_bytes() -> int:
    """Return the bytes of this machine's memory; where the system does not say, those of `MOST_BYTES`."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return MOST_BYTES


def look_alike(data: bytes, *, zipped: bool = False) -> str:
    """Return what bytes are that were given for a file of a model, and what to do; empty if unknown.

    It goes on a sentence that begins with the name: "is empty: …". `zipped` says that a zip is
    what the file should be.
    """
    if not data:
        return "is empty: nothing was copied. Copy it again from where it was made."
    if not data.strip(b"\0"):
        return "holds nothing but zeros: the copy was not finished. Copy it again."
    if saved := pretender(data):
        return saved
    if data[:4] == b"PK\3\4" and not zipped:
        return _of_zip(data)
    if data[:2] == b"\x80\x02" or (data[:1] == b"\x80" and data[1:2] in b"\x03\x04\x05"):
        return (
            "is a pickle, as torch.save writes it, which can run code when it is opened. allkit "
            "opens none; give a model folder or an exported file."
        )
    if data[:2] == b"\x1f\x8b" or data[:6] in (b"7z\xbc\xaf'\x1c", b"\xfd7zXZ\0"):
        return PACKED
    return ""


def _of_zip(data: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            names = file.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return "begins like a zip and has no end: it was cut off. Copy it again from where it was made."
    if any(name.endswith(("/data.pkl", "data.pkl")) for name in names):
        return (
            "is a pickle, as torch.save writes it, which can run code when it is opened. allkit "
            "opens none; give a model folder or an exported file."
        )
    if any(name.endswith("SHA256SUMS") for name in names):
        return "is a zip of a model folder. Unpack it, and give the folder in it."
    return ZIP


def named_otherwise(path: Path) -> str:
    """Return what a file is by its name, in place of a model, and what to do; empty if unknown."""
    suffix = path.suffix.lower()
    if suffix in HALF:
        return "is half a download by its name. Wait until it is whole, or download it again."
    if path.name in ("model.safetensors", "model.json", "SHA256SUMS", "README.md"):
        return f"is one file of a model folder. Give the folder: {path.parent}"
    if suffix in PICKLES:
        return (
            "is a pickle by its name, which can run code when it is opened. allkit opens none; give a "
            "model folder or an exported file."
        )
    if suffix in (".xml", ".bin"):
        return (
            "is one of the two files that OpenVINO writes. allkit reads its own single file: `allkit "
            "export MODEL --format openvino --out model.openvino`."
        )
    if suffix in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"):
        return "is an archive. Unpack it, and give the model folder or exported file in it."
    return ""


def parse_json(data: bytes | str) -> Any:
    """Return the value of a JSON text, which must be what every reader takes it for.

    NaN and infinity are let pass, so that whoever knows the field can name it. Raises `ValueError`
    that says what is wrong: no UTF-8, too deep, a key given twice.
    """
    try:
        text = data if isinstance(data, str) else data.decode()
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"the key {name[:80]!r} is in it twice")
        values[name] = value
    return values
