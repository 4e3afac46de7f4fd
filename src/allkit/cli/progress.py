"""Progress on standard error: bars on a terminal, lines in a pipe or a log."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from allkit.cli.telling import Telling
from allkit.errors import AllkitError
from allkit.shown.text import json_escaped, terminal_text, unicode_text

if TYPE_CHECKING:
    from allkit.types import Progress

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


def memory_in_use() -> str:
    """Return the memory in use now, as in `1,240 MB`; empty where the system does not say."""
    torch = sys.modules.get("torch")  # a command that needs none does not import it for this
    if torch is not None and torch.cuda.is_available():
        return f"{torch.cuda.memory_allocated() / 2**20:,.0f} MB"
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return ""
    return f"{pages * os.sysconf('SC_PAGE_SIZE') / 2**20:,.0f} MB"


@contextlib.contextmanager
def bars() -> Iterator[Progress]:
    """Give a `progress(what, done, total)` that tells how long work takes, and how far it is.

    On a terminal one bar is drawn for each thing that is done; elsewhere a line is written every 30
    seconds. What allkit logs as information meanwhile, such as the engine that was chosen, is told
    with work that takes its time. Of several processes that train together the first one tells.
    """
    if os.environ.get("RANK", "0") != "0":
        yield lambda *_: None
    elif sys.stderr.isatty():
        with _drawn_bars() as progress:
            yield progress
    else:
        telling = Telling(say)
        with _logged(telling.note):
            yield telling


class _Notes(logging.Handler):
    """Gives what is logged to `tell`."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self.tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one record."""
        self.tell(record.getMessage())


@contextlib.contextmanager
def _logged(tell: Callable[[str], None]) -> Iterator[None]:
    """Give to `tell` what allkit logs as information, for a while."""
    log, handler = logging.getLogger("allkit"), _Notes(tell)
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    # A library that sets up logging for the whole program would have it written a second time.
    log.propagate = False
    try:
        yield
    finally:
        log.setLevel(level)
        log.propagate = propagate
        log.removeHandler(handler)


@contextlib.contextmanager
def _drawn_bars() -> Iterator[Progress]:
    """Give a progress that draws bars on the terminal, with the first lines of `Telling` above."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        """What is done in a second, over the last half minute."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.1f}/s" if speed else "", style="progress.data.speed")

    class Memory(ProgressColumn):
        """What the process holds, of the graphics card where there is one."""

        def render(self, task: Task) -> Text:
            return Text("" if task.finished else memory_in_use(), style="progress.data.speed")

    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        MofNCompleteColumn(),
        Speed(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        Memory(),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        tasks = {}

        def write(line: str) -> None:
            shown.console.print(terminal_text(line), markup=False, highlight=False, soft_wrap=True)

        telling = Telling(write, every=None)

        def progress(what: str, done: int, total: int) -> None:
            telling(what, done, total)
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total)
            shown.update(tasks[what], completed=done, total=total)

        with _logged(telling.note):
            yield progress
