"""What the routes share: bodies and images read within limits, and answers asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
from fastapi import HTTPException, Request

from allkit.images.batches import cores
from allkit.images.decode import Decoded, decoded, read_info
from allkit.records import Prediction
from allkit.runtime.answers import with_notes
from allkit.serving import bodies
from allkit.serving.queue import Queue
from allkit.serving.space import Full, Held
from allkit.types import Pixels

__all__ = ["FULL", "Admission", "Entered", "Limits"]

LONG = 30_000_000
"""Pixels, each as often as the file goes over it, that take about a second to decode."""
LONG_CHUNKS = 8192
"""Parts of the pixels of a PNG from which on it may take long: twice those of 32 MiB as usually written."""
LONG_WAIT = 30.0
"""Seconds in which an image that may take long must have had its turn."""
FULL = HTTPException(503, "The server is full. Try again in a moment.", {"Retry-After": "1"})


@dataclass(frozen=True)
class Limits:
    """How much may be inside at once: images, bytes of one request, bytes in all.

    `requests_a_minute` may come of each key, or of each address that shows none; 0 for any number.
    """

    images: int = 256
    request_bytes: int = 32 * 2**20
    memory: int = 2**30
    requests_a_minute: int = 0


@dataclass(frozen=True)
class Entered:
    """A request that is inside: its body, and the room that it holds, one image in it."""

    request: Request
    body: bytes
    held: Held


class Admission:
    """Lets requests in while there is room, and reads their images.

    Images that may take long have a turn of their own, one at a time, so that others do not wait
    behind them.
    """

    def __init__(self, queue: Queue, name: str, limits: Limits) -> None:
        self.queue, self.name, self.limits = queue, name, limits
        self._readers = asyncio.Semaphore(max(2, cores()))
        self._long = asyncio.Semaphore(1)

    @contextlib.asynccontextmanager
    async def inside(self, request: Request) -> AsyncIterator[Entered]:
        """Give a request with its body, while there is room for it; 413, 408 or 503 otherwise."""
        limit = self.limits.request_bytes
        try:
            with self.queue.space.held() as held:
                body = await bodies.read(request, limit, held)
                held.take(images=1)
                yield Entered(request, body, held)
        except Full:
            await bodies.discard(request, limit)
            raise FULL from None
        except HTTPException as error:
            if error.status_code in (413, 415):
                await bodies.discard(request, limit)
            raise

    async def answer(
        self, entered: Entered, images: Sequence[tuple[str, bytes | Pixels]]
    ) -> list[Prediction]:
        """Read and answer, in order.

        Raises `ImageError` for the first image that cannot be read, and `Full`.
        """
        if len(images) > self.limits.images:
            raise HTTPException(
                413, f"{len(images)} images at once; the limit is {self.limits.images}."
            )
        entered.held.take(images=len(images) - 1)
        # All end before the room is given back, also when one of them fails.
        reading = (self._read(entered, *image) for image in images)
        read = await asyncio.gather(*reading, return_exceptions=True)
        for outcome in read:
            if isinstance(outcome, BaseException):
                raise outcome
        done = [outcome for outcome in read if not isinstance(outcome, BaseException)]
        answers = await self.queue.answer([(name, image.pixels) for name, image in done])
        return [with_notes(answer, image) for answer, (_, image) in zip(answers, done, strict=True)]

    async def _read(
        self, entered: Entered, name: str, image: bytes | Pixels
    ) -> tuple[str, Decoded]:
        async with self._readers:
            size, long = await asyncio.to_thread(_cost, name, image)
            entered.held.take(memory=size)
            if not long:
                return name, await asyncio.to_thread(decoded, image, name=name)
        try:
            async with asyncio.timeout(LONG_WAIT):
                await self._long.acquire()
        except TimeoutError:
            raise Full from None
        try:
            if await entered.request.is_disconnected():
                raise HTTPException(400, "The client has gone.")
            return name, await asyncio.to_thread(decoded, image, name=name)
        finally:
            self._long.release()


def _cost(name: str, image: bytes | Pixels) -> tuple[int, bool]:
    """Return the bytes of the pixels, and whether decoding may take long, from the file's structure."""
    if isinstance(image, np.ndarray):
        return image.nbytes, False
    info = read_info(image, name=name)
    pixels = info.width * info.height
    # A progressive JPEG goes over its pixels once for each scan.
    passes = image.count(b"\xff\xda") if info.format == "JPEG" else 1
    parts = image.count(b"IDAT") if info.format == "PNG" else 0
    return pixels * 3, pixels * passes + len(image) > LONG or parts > LONG_CHUNKS
