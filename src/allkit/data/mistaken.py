"""Files that are something else than their name says: a pointer of Git LFS, a web page, an archive."""

from __future__ import annotations

__all__ = ["MOST_TO_TELL", "mistaken_for"]

MOST_TO_TELL = 1024
"""As many bytes of the beginning tell what a file is."""

_PAGE = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml")
_SERVER = (b'{"error', b'{"message', b'{"detail', b"<error", b"access denied", b"not found")
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
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not head:
        return "is empty: nothing was copied. Copy or download it again."
    if not head.strip(b"\0"):
        return (
            "begins with nothing but zeros: the copy was not finished. Copy or download it again."
        )
    if wanted and head.startswith(wanted):
        return ""
    if text.startswith(b"version http") and (b"git-lfs" in text or b"oid sha256" in text):
        return (
            "is a pointer of Git LFS of a few lines, not the file itself. Install Git LFS and type "
            "`git lfs pull` in the clone."
        )
    if text.startswith((b"/annex/objects", b"../.git/annex", b".git/annex")):
        return "is a pointer of git-annex, not the file itself. Type `git annex get` in the clone."
    if text.startswith(_PAGE) or b"<html" in text:
        return (
            "is a web page: a login or an error page was saved in its place. Sign in and download "
            "the file again."
        )
    if text.startswith(_SERVER):
        return "is the message of a server, saved in its place. Download the file again."
    for mark, kind in _ARCHIVES.items():
        if head.startswith(mark):
            return f"is {kind} by its content. Unpack it, and give the folder."
    if head[257:262] == b"ustar":
        return "is a tar archive by its content. Unpack it, and give the folder."
    return ""
