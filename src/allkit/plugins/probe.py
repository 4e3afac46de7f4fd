"""What a plugin offers, found out in a process of its own, which may hang or crash.

The child imports one entry point after the other and writes a line before and after each. It
ends itself when one takes too long, from a thread that no hanging import can stop.

It sees neither the working folder nor what lies there under a name of one of Python's modules. A
child that does not come as far as the first plugin says nothing about plugins: then they are
imported here, and what came of it is not kept.
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

__all__ = ["probe", "search_path", "watched"]

NAMED_AFTER = 3.0  # seconds until a slow import is named
_CHILD = (
    "import json, sys\n"
    "job = json.loads(sys.stdin.readline())\n"
    "sys.path[:] = job['path']\n"
    "from allkit.plugins.probe import child\n"
    "child(job)\n"
)
_READY = b"ready\n"
FROM_OUTSIDE = tuple(-number for number in (1, 2, 9, 15))
"""The statuses of a process that somebody ended, or the system, for want of memory."""


def search_path(needed: Sequence[str] = ()) -> list[str]:
    """Return where the child looks for modules: as here, but not in the working folder.

    That is on the path of every notebook and every `python -m`, whatever lies in it. It stays where
    PYTHONPATH names it in full; where it is one of the folders `needed`, it comes last.
    """
    here = os.path.realpath(os.curdir)
    named = {
        os.path.realpath(entry)
        for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if os.path.isabs(entry)
    }
    kept = [entry for entry in sys.path if here in named or os.path.realpath(entry) != here]
    return [*kept, *([here] if here in map(os.path.realpath, needed) and here not in named else [])]


def probe(
    entries: Sequence[tuple[str, str, str]], limit: float, path: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield what each entry point (origin, name, value) offers, in order.

    `limit` is the time in seconds that one import may take, and `path` where modules are sought. What
    says nothing about a plugin itself has `kept` false.
    """
    done = 0
    while done < len(entries):
        before = done
        for description in _one_child(entries[done:], limit, path):
            done += 1
            yield description
        if done == before:  # there is no child
            for origin, name, value in entries[done:]:
                with watched(origin):
                    loaded = load(origin, value, EntryPoint(name, value, GROUP).load)
                yield loaded.describe() | {"kept": False}
            return


def _one_child(
    entries: Sequence[tuple[str, str, str]], limit: float, path: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield what a child says; nothing where it could not begin."""
    job = {"path": list(path), "limit": limit, "entries": [list(entry) for entry in entries]}
    with _errors() as errors:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if tracing() else errors,
                env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            )
        except (OSError, ValueError, TypeError):  # no such program, or no more processes
            return
        with contextlib.suppress(OSError):  # it ended at once, which is reported below
            if process.stdin:
                process.stdin.write(json.dumps(job).encode() + b"\n")
                process.stdin.close()
        finished = 0
        try:
            if _line(process, "", limit) != _READY:
                return
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
                "notes": [],
                "error": _ended(status, errors.read().decode(errors="replace"), limit),
                "kept": status not in FROM_OUTSIDE,
            }


def _errors() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError:  # there is no folder for temporary files
        return open(os.devnull, "w+b")


def _line(process: subprocess.Popen[bytes], origin: str, limit: float) -> bytes:
    # The child ends itself in time; should it not, it is ended here.
    last = threading.Timer(limit + 5, process.kill)
    last.start()
    try:
        then = f"; it is left out after {limit:g}"
        with watched(origin, then) if origin else contextlib.nullcontext():
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
    answers.write(_READY.decode())
    answers.flush()
    faulthandler.enable()
    for origin, name, value in job["entries"]:
        faulthandler.dump_traceback_later(job["limit"], exit=True)
        loaded = load(origin, value, EntryPoint(name, value, GROUP).load)
        faulthandler.cancel_dump_traceback_later()
        answers.write(json.dumps(loaded.describe()) + "\n")
        answers.flush()
    os._exit(0)  # whatever threads a plugin has left behind
