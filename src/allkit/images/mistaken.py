"""Files that are something else than their name says: a pointer of Git LFS, a web page, an archive."""

from __future__ import annotations

__all__ = ["MOST_TO_TELL", "SLIDES", "mistaken_for", "package_for", "pretender"]

MOST_TO_TELL = 1024
"""As many bytes of the beginning tell what a file is."""

SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide")
"""Ends of the names of whole slides, as scanners write them."""
_PACKAGES = {".dcm": "allkit-dicom", ".dicom": "allkit-dicom"} | dict.fromkeys(
    SLIDES, "'allkit-wsi[openslide]'"
)
"""Ends of names → the package whose reader takes such files, as pip is asked for it."""

_ARCHIVES = {
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf'\x1c": "a 7z archive",
    b"\x1f\x8b": "an archive of gzip",
    b"BZh": "an archive of bzip2",
    b"\xfd7zXZ\0": "an archive of xz",
    b"\x28\xb5\x2f\xfd": "an archive of Zstandard",
    b"PK\3\4": "a zip",
}


def mistaken_for(head: bytes, *, wanted: bytes = b"") -> str:
    """Return what a file is instead of what its name says, and what to do; empty if that is unknown.

    `head` are its first bytes, `MOST_TO_TELL` of them. What begins with `wanted` is as it should be. The
    words go on a sentence that begins with the file's name: "is empty …".
    """
    if not head:
        return "is empty: nothing was copied. Copy or download it again."
    if not head.strip(b"\0"):
        return (
            "begins with nothing but zeros: the copy was not finished. Copy or download it again."
        )
    if wanted and head.startswith(wanted):
        return ""
    if saved := pretender(head):
        return saved
    for mark, kind in _ARCHIVES.items():
        if head.startswith(mark):
            return f"is {kind} by its content. Unpack it, and give the folder."
    if head[257:262] == b"ustar":
        return "is a tar archive by its content. Unpack it, and give the folder."
    return ""


def package_for(name: str, data: bytes = b"") -> str:
    """Return the package that reads a file, as pip is asked for it; empty where none is known.

    `data` is its beginning: a DICOM is known by it whatever its name is.
    """
    if data[128:132] == b"DICM":
        return _PACKAGES[".dcm"]
    dot = name.rfind(".")
    return _PACKAGES.get(name[dot:].lower(), "") if dot >= 0 else ""


def pretender(data: bytes) -> str:
    """Return what was saved in place of a file, and what to do; empty when its beginning shows nothing.

    `data` is the file's first kilobyte, or all of it. The text goes on a sentence that begins with
    the name: "is a web page: …".
    """
    head = data[:MOST_TO_TELL].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head.startswith(b"version http") and (b"git-lfs" in head or b"oid sha256" in head):
        return (
            "is a pointer of Git LFS of a few lines, not the file itself. Install Git LFS and type "
            "`git lfs pull` in the clone."
        )
    if head.startswith((b"/annex/objects", b"../.git/annex", b".git/annex")):
        return "is a pointer of git-annex, not the file itself. Type `git annex get` in the clone."
    if head.startswith((b"<!doctype", b"<html", b"<head", b"<body")) or b"<html" in head:
        return (
            "is a web page: a login or an error page was saved in its place. Sign in and download "
            "the file again."
        )
    if head.startswith((b'{"error', b'{"message', b'{"detail', b"<error", b"access denied")) or (
        head.startswith(b"<?xml") and b"<error" in head
    ):
        return "is the error message of a server, saved in its place. Download the file again."
    return ""
