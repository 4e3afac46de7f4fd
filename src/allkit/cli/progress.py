"""Progress on standard error: bars on a terminal, lines in a pipe or a log."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from allkit.errors import AllkitError
from allkit.shown.progress import progress_bar
from allkit.shown.telling import EVERY, Teller
from allkit.shown.text import json_escaped, terminal_text, unicode_text

__all__ = [
    "bars",
    "drop_unread",
    "flush_streams",
    "put",
    "put_all",
    "put_json",
    "put_json_lines",
    "ready_streams",
    "say",
]

_BYTES = re.compile("[\udc80-\udcff]+")
"""Bytes of a name that is no Unicode, as Python holds them."""


def say(text: str) -> None:
    """Write one line for the person at the terminal to standard error, where there is one."""
    if sys.stderr is not None:
        _write(sys.stderr, f"{text}\n")


def put(text: str) -> None:
    """Write what was asked for to standard output; what would move a terminal's cursor as escapes."""
    _write(sys.stdout, text)


def put_all(texts: Iterable[str]) -> None:
    """Write several texts as `put` does, one after another."""
    for text in texts:
        put(text)


def put_json(value: Any, *, indent: int | None = None, default: Any = None) -> None:
    """Write a value as JSON on standard output."""
    put_json_lines([json.dumps(value, ensure_ascii=False, indent=indent, default=default) + "\n"])


def put_json_lines(lines: Iterable[str]) -> None:
    """Write texts that are JSON already: what the output's encoding has not as escapes of JSON."""
    ascii_only = not (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
    for line in lines:
        _write(sys.stdout, json_escaped(line, ascii_only=ascii_only))


def _as_in_rows(found: re.Match[str]) -> str:
    return unicode_text(found[0])


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:
        raise AllkitError(
            "Cannot write the output: standard output is closed. Send it to a file, as in "
            "`allkit … > FILE`, or to /dev/null."
        )
    try:
        stream.write(terminal_text(_BYTES.sub(_as_in_rows, text)))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise AllkitError(
            f"Cannot write the output: {error.strerror or error}. Send it elsewhere."
        ) from None


def ready_streams() -> None:
    """Let every text be written in whatever encoding the terminal or the pipe has: as escapes if need be.

    Where a service or a program without a window has no standard error, what is told goes nowhere.
    The number of a closed stream is taken, so that no file gets it and with it what libraries write.
    """
    handle = os.open(os.devnull, os.O_RDWR)
    while handle <= 2:
        os.set_inheritable(handle, True)
        handle = os.open(os.devnull, os.O_RDWR)
    os.close(handle)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush_streams() -> None:
    """Write what is left to be written on standard output.

    Raises `BrokenPipeError` where nobody reads it, and `AllkitError` where there is no room for it.
    """
    if sys.stdout is None or sys.stdout.closed:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise AllkitError(
            f"Cannot write on standard output: {error.strerror or error}. Send it elsewhere."
        ) from None


def drop_unread() -> None:
    """Let what cannot be written go nowhere: Python would try again at its end, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


@contextlib.contextmanager
def bars() -> Iterator[Teller]:
    """Give a `progress(what, done, total)` that tells how long work takes, and how far it is.

    On a terminal one bar is drawn for each thing that is done; elsewhere a line is written every 30
    seconds. What allkit logs as information meanwhile, such as the engine that was chosen, is told
    with work that takes its time. Of several processes that train together the first one tells.
    """
    with progress_bar(write=say, every=EVERY) as progress:
        yield progress
