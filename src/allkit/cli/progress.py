"""Progress on standard error: bars on a terminal, nothing in a pipe or a log."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allkit.types import Progress

__all__ = ["bars", "say"]


def say(text: str) -> None:
    """Write one line for the person at the terminal to standard error."""
    sys.stderr.write(text + "\n")


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
    """Give a `progress(what, done, total)` that draws one bar for each thing that is done."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
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

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total)
            shown.update(tasks[what], completed=done, total=total)

        yield progress
