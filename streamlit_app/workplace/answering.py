"""The process that answers, `allkit clinic work`: started beside the server, and again when it dies.

It ends by itself when the server is gone, however that ended: its standard input is closed then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Sequence

__all__ = ["answering"]

BEFORE = 2.0
"""Seconds before it is started at first: opening a model takes a processor, which the first page wants."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before it is started again; twice as long each time that it died at once."""
QUIET_END = 10.0
"""Seconds in which it may finish its field when the server stops."""
log = logging.getLogger("allkit.app")


@contextlib.asynccontextmanager
async def answering(arguments: Sequence[str]) -> AsyncIterator[None]:
    """Have jobs answered while the block runs; `arguments` name the store."""
    task = asyncio.create_task(_keep(arguments))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _keep(arguments: Sequence[str]) -> None:
    wait = FIRST_WAIT
    loop = asyncio.get_running_loop()
    await asyncio.sleep(BEFORE)
    while True:
        begun = loop.time()
        code = await _run(arguments)
        wait = FIRST_WAIT if loop.time() - begun > LONGEST_WAIT else min(2 * wait, LONGEST_WAIT)
        log.warning("The process that answers ended with %s; starting it again.", code)
        await asyncio.sleep(wait)


async def _run(arguments: Sequence[str]) -> int:
    command = [sys.executable, "-P", "-m", "allkit", "clinic", "work", "--until-closed", *arguments]
    # One thread for each core is what a network wants; more of them wait for one another.
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    try:
        return await process.wait()
    except asyncio.CancelledError:
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), QUIET_END)
        except TimeoutError:
            process.kill()
            await process.wait()
        raise
