"""How far work is, wherever somebody may look: bars in a notebook and on a terminal, lines in a log."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

from allkit.shown.html import escaped
from allkit.shown.telling import Teller, Telling
from allkit.shown.text import terminal_text

__all__ = ["Asked", "in_notebook", "progress_bar", "progress_of"]

LOG_EVERY = 10.0
"""Seconds between two lines in a log."""
REDRAWN = 0.25
"""Seconds between two pictures of a bar in a notebook."""
Asked = Teller | Literal["auto"] | None
"""How progress is asked for: `"auto"` shows a `progress_bar`, a callable is called, `None` shows nothing."""
_shown: ContextVar[Teller | None] = ContextVar("shown", default=None)
"""What shows the work that goes on: work within it is shown by the same."""


@contextlib.contextmanager
def progress_bar(
    *, write: Callable[[str], None] | None = None, every: float = LOG_EVERY
) -> Iterator[Teller]:
    """Give a `progress(what, done, total)` that shows how far work is.

    ```
    with allkit.progress_bar() as progress:
        model.evaluate(images, progress=progress)
    ```

    In a notebook one bar is drawn below the cell for each thing that is done, on a terminal one a
    line. Elsewhere, as in a log, a line is written to standard error when it is known how long work
    takes, and one every 10 seconds; work of less than 5 seconds is not told. `write` takes the
    lines in place of standard error, `every` the seconds between them. Inside another
    `progress_bar` it gives that one. Of several processes that train together the first one tells.
    """
    outer = _shown.get()
    if outer is not None:
        yield outer
        return
    with _chosen(write or _say, every) as progress:
        token = _shown.set(progress)
        try:
            yield progress
        finally:
            _shown.reset(token)


@contextlib.contextmanager
def progress_of(asked: Asked) -> Iterator[Teller | None]:
    """Give what was asked for as `progress`: `"auto"` shows a `progress_bar`, `None` nothing.

    A callable is given as it is. For functions that take `progress="auto"`.
    """
    if asked == "auto":
        with progress_bar() as progress:
            yield progress
    else:
        yield asked if callable(asked) else None


def in_notebook() -> bool:
    """Return whether this runs in the kernel of a notebook, which can show HTML."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None


@contextlib.contextmanager
def _chosen(write: Callable[[str], None], every: float) -> Iterator[Teller]:
    if os.environ.get("RANK", "0") != "0":
        yield lambda *_: None
    elif in_notebook():
        bars = _NotebookBars()
        with _logged(bars.note):
            yield bars
    elif sys.stderr is not None and sys.stderr.isatty():
        with _drawn_bars() as progress:
            yield progress
    else:
        telling = Telling(write, every=every)
        with _logged(telling.note):
            yield telling


def _say(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # a log that is full or closed stops no work
            sys.stderr.write(f"{terminal_text(text)}\n")
            sys.stderr.flush()


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


class _NotebookBars:
    """Bars below the cell of a notebook: one display, which is drawn again as work goes on.

    No widget is needed, and what remains in the saved notebook is the last picture.
    """

    def __init__(self) -> None:
        self._works: dict[str, tuple[int, int, float, float]] = {}  # done, total, begun, now
        self._notes: list[str] = []
        self._display: Any = None
        self._drawn = 0.0

    def __call__(self, what: str, done: int, total: int, /) -> None:
        """Note that `done` of `total` are done, and draw."""
        now = time.monotonic()
        begun = self._works[what][2] if what in self._works else now
        self._works[what] = (done, total, begun, now)
        if done >= total or now - self._drawn >= REDRAWN:
            self._drawn = now
            self._draw()

    def note(self, text: str) -> None:
        """Show a line below the bars, once."""
        if text not in self._notes:
            self._notes.append(text)

    def _draw(self) -> None:
        shows: Any = importlib.import_module("IPython.display")  # a kernel has imported it already
        shown = shows.HTML(self.html())
        if self._display is None:
            self._display = shows.display(shown, display_id=True)
        else:
            self._display.update(shown)

    def html(self) -> str:
        """Return the bars as HTML."""
        rows = []
        for what, (done, total, begun, now) in self._works.items():
            seconds = now - begun
            left = (
                ""
                if not done or done >= total
                else f", {seconds / done * (total - done):,.0f} s left"
            )
            rows.append(
                f'<div><progress value="{done}" max="{max(total, 1)}" style="width:14rem"></progress> '
                f"{escaped(what)}: {done:,} of {total:,} <small>({seconds:,.0f} s{left})</small></div>"
            )
        notes = "".join(f"<div><small>{escaped(note)}</small></div>" for note in self._notes)
        return f'<div class="allkit-progress">{"".join(rows)}{notes}</div>'


def _memory_in_use() -> str:
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
def _drawn_bars() -> Iterator[Teller]:
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
            return Text("" if task.finished else _memory_in_use(), style="progress.data.speed")

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

        def progress(what: str, done: int, total: int, /) -> None:
            telling(what, done, total)
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total)
            shown.update(tasks[what], completed=done, total=total)

        with _logged(telling.note):
            yield progress
