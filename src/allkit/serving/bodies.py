"""Bodies of requests: read whole into memory, within limits of size and pace, never to disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Collection

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from allkit.serving.pace import BYTES_A_SECOND, GRACE, paced
from allkit.serving.space import Held

__all__ = ["announced", "discard", "files_of", "one_file", "read"]

DIGITS = 15
"""Of a length that is looked at; Python refuses numbers of thousands."""
NAME = 255
SLOW = (
    f"The body is too slow: after {GRACE:.0f} seconds it must have brought "
    f"{BYTES_A_SECOND // 1024} KiB for each further second."
)


def announced(request: Request, limit: int) -> int:
    """Return the bytes of the body that is to come; 0 where the head does not say.

    Raises 413 when they are too many, and 415 for a compressed body.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "The body is compressed. Send it as it is.")
    length = request.headers.get("content-length", "").strip()
    if not (length.isascii() and length.isdigit()):
        return 0
    length = length.lstrip("0")
    if len(length) > DIGITS or int(length or "0") > limit:
        raise _too_large(limit)
    return int(length or "0")


async def read(request: Request, limit: int, held: Held) -> bytes:
    """Return the body, for which `held` takes room as it comes: who sends slowly holds little.

    Raises 413 when it has more than `limit` bytes, 408 when it is too slow, and `Full`.
    """
    held.require(memory=announced(request, limit))
    body = bytearray()
    try:
        async for piece in paced(request.stream()):
            held.take(memory=len(piece))
            body += piece
            if len(body) > limit:
                raise _too_large(limit)
    except TimeoutError:
        raise HTTPException(408, SLOW, {"Connection": "close"}) from None
    except ClientDisconnect:
        raise HTTPException(400, "The connection was closed within the body.") from None
    return bytes(body)


async def discard(request: Request, limit: int) -> None:
    """Read what a refused client still sends, a while, so that it hears the answer."""
    if request.headers.get("expect") or request.method in ("GET", "HEAD"):
        return  # it waits to be told to go on, or has nothing to send
    seen = 0
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(5):
            async for piece in request.stream():
                seen += len(piece)
                if seen > 4 * limit:
                    return


async def one_file(request: Request, body: bytes) -> tuple[str, bytes]:
    """Return name and bytes of the image in a body: the one file of a form, or all of it."""
    files = await files_of(request, body, most=2)
    if len(files) != 1:
        raise HTTPException(400, f"The form holds {len(files)} files; send exactly one image.")
    return files[0]


async def files_of(
    request: Request, body: bytes, *, most: int, kinds: Collection[str] = ()
) -> list[tuple[str, bytes]]:
    """Return names and bytes of the files of a form, `most` of them at most, or of the body itself.

    `kinds` are media types that are taken as the body itself, beside images.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("image/") or kind in ("application/octet-stream", *kinds):
        return [("image", body)]
    if kind != "multipart/form-data":
        raise HTTPException(
            415, "Send an image as a file of a multipart/form-data form, or as the body itself."
        )

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, pieces(), max_files=most, max_fields=20)
    parser.spool_max_size = len(body) + 1  # nothing of it is written to disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"The form cannot be read: {error.message}") from None
    except (KeyError, ValueError, LookupError):
        raise HTTPException(400, "The form cannot be read: its head is damaged.") from None
    async with contextlib.AsyncExitStack() as stack:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        for file in files:
            stack.push_async_callback(file.close)
        return [(_name(file.filename), await file.read()) for file in files]


def _name(given: str | None) -> str:
    """Return the name of a file as text that can be sent, and is not longer than names are."""
    return (given or "image")[:NAME].encode("utf-8", "replace").decode()


def _too_large(limit: int) -> HTTPException:
    return HTTPException(
        413, f"The body has more than {limit:,} bytes. Send fewer or smaller images."
    )
