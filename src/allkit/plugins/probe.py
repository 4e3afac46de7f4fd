"""What a plugin offers, found out in a process of its own, which may hang or crash.

The child imports one entry point after the other and writes a line before and after each. It
ends itself when one takes too long, from a thread that no hanging import can stop.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint
from typing import IO, Any

from allkit.plugins.loading import GROUP, load
from allkit.plugins.tracing import tracing

__all__ = ["probe", "watched"]

NAMED_AFTER = 3.0  # seconds until a slow import is named
_CHILD = (
    "import json, sys\n"
    "job = json.loads(sys.stdin.readline())\n"
    "sys.path[:] = job['path']\n"
    "from allkit.plugins.probe import child\n"
    "child(job)\n"
)


def probe(entries: Sequence[tuple[str, str, str]], limit: float) -> Iterator[dict[str, Any]]:
    """Yield what each entry point (origin, name, value) offers, in order.

    `limit` is the time in seconds that one import may take.
    """
    done = 0
    while done < len(entries):
        for description in _one_child(entries[done:], limit):
            done += 1
            yield description


def _one_child(entries: Sequence[tuple[str, str, str]], limit: float) -> Iterator[dict[str, Any]]:
    job = {"path": sys.path, "limit": limit, "entries": [list(entry) for entry in entries]}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if tracing() else errors,
        )
        with contextlib.suppress(OSError):  # it ended at once, which is reported below
            if process.stdin:
                process.stdin.write(json.dumps(job).encode() + b"\n")
                process.stdin.close()
        finished = 0
        try:
            for origin, _, _ in entries:
                line = _line(process, origin, limit)
                if not line:
                    break
                finished += 1
                yield json.loads(line)
        finally:
            process.kill()
            status = process.wait()
            if process.stdout:
                process.stdout.close()
        if finished < len(entries):
            errors.seek(0)
            yield {
                "offers": [],
                "seconds": limit,
                "api_version": 1,
                "error": _ended(status, errors.read().decode(errors="replace"), limit),
            }


def _line(process: subprocess.Popen[bytes], origin: str, limit: float) -> bytes:
    # The child ends itself in time; should it not, it is ended here.
    last = threading.Timer(limit + 5, process.kill)
    last.start()
    try:
        with watched(origin, f"; it is left out after {limit:g}"):
            return process.stdout.readline() if process.stdout else b""
    finally:
        last.cancel()


class watched:
    """Names a plugin whose import takes longer than a few seconds, while it goes on."""

    def __init__(self, origin: str, then: str = "") -> None:
        message = (
            f"The plugin {origin} has been importing for {NAMED_AFTER:g} seconds{then}. "
            f"ALLKIT_PLUGINS can leave it out."
        )
        self._timer = threading.Timer(
            NAMED_AFTER, lambda: warnings.warn(message, UserWarning, stacklevel=2)
        )
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def _ended(status: int, errors: str, limit: float) -> str:
    where = re.findall(r'File "([^"]+)", line (\d+) in', errors)
    place = f", in {where[0][0]} line {where[0][1]}" if where else ""
    if "Timeout (" in errors:
        return f"Its import took longer than {limit:g} seconds{place}."
    if status < 0:
        return f"Its import crashed the Python process (signal {-status}){place}."
    return f"Its import ended the Python process (status {status}){place}."


def child(job: dict[str, Any]) -> None:
    """Run in the child: load every entry point and write what came of it."""
    answers: IO[str] = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a plugin prints must not mix with the answers
    faulthandler.enable()
    for origin, name, value in job["entries"]:
        faulthandler.dump_traceback_later(job["limit"], exit=True)
        loaded = load(origin, value, EntryPoint(name, value, GROUP).load)
        faulthandler.cancel_dump_traceback_later()
        answers.write(json.dumps(loaded.describe()) + "\n")
        answers.flush()
    os._exit(0)  # whatever threads a plugin has left behind
