"""The process that decodes one image apart: bytes from its standard input, pixels to its output."""

from __future__ import annotations

import contextlib
import json
import os
import sys

from allkit.images.apart import PROCESSOR_SECONDS

__all__ = ["main"]

MEMORY = 700 * 2**20
"""Most bytes of address space beyond those that the process has before it decodes."""


def main() -> None:
    """Decode the one image that is sent: a line of JSON with its name and size, then its bytes."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is not taken for pixels
    from allkit.errors import ImageError
    from allkit.images.own import read_here

    _limit()
    head = json.loads(sys.stdin.buffer.readline())
    files = [sys.stdin.buffer.read(head["bytes"])]
    try:
        pixels = read_here(files, head["name"])
    except ImageError as error:
        answer = json.dumps({"message": str(error), "code": error.code})
        out.write(answer.encode() + b"\n")
    else:
        height, width = pixels.shape[:2]
        out.write(json.dumps({"height": height, "width": width}).encode() + b"\n")
        out.write(pixels.data.cast("B"))
    out.flush()
    os._exit(0)


def _limit() -> None:
    """Limit the memory and the time of the processor, where the system can; it has no such on Windows."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/statm") as status:
            used = int(status.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
