"""How slow a body may come: a client that sends a byte now and then keeps its place no longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

__all__ = ["BYTES_A_SECOND", "GRACE", "paced"]

GRACE = 10.0
"""Seconds that every body may take."""
BYTES_A_SECOND = 32 * 2**10
"""A body that takes longer must have brought this many for each further second: 0.25 Mbit/s."""


async def paced(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the pieces of a body. Raises `TimeoutError` as soon as they are slower than they may be."""
    clock = asyncio.get_running_loop().time
    end, found = clock() + GRACE, True
    while found:
        async with asyncio.timeout_at(end):
            piece = await anext(pieces, None)
        found = piece is not None
        if piece is not None:
            asked = clock()
            yield piece
            # What is done with a piece is not the client's time.
            end += len(piece) / BYTES_A_SECOND + clock() - asked
