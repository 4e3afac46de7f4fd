"""Archives that are something else than their name says: a pointer of Git LFS, a web page, another kind."""

from __future__ import annotations

from allkit.files import pretender

__all__ = ["MOST_TO_TELL", "mistaken_for"]

MOST_TO_TELL = 1024
"""As many bytes of the beginning tell what a file is."""

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
