"""How a command ends when the person, the system or the machine ends it: one sentence, one status."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
import time
import types
from collections.abc import Iterator

from allkit.plugins.guard import Stopped

__all__ = ["Stopped", "explained", "notes_of", "stoppable"]

PATIENCE = 5.0
"""Seconds that an end in good order may take; a signal after that ends the process at once."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
HANDLES = (errno.EMFILE, errno.ENFILE)
NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "failed to allocate memory",
    "bad allocation",
    "bad_alloc",
    "failed to map segment",
    "unable to allocate",
    "insufficient memory",
)
"""What libraries say, in their own errors, when the memory does not suffice."""
NO_THREADS = ("can't start new thread", "thread creation failed", "pthread_create")


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM raise `Stopped`, once: what is at work then puts its things in order.

    A second signal changes nothing for five seconds; one after that ends the process at once. Signals
    that this process was started to ignore, or that its host handles, stay as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: list[float] = []

    def stop(number: int, _: types.FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            raise Stopped(128 + number)
        if time.monotonic() - first[0] > PATIENCE:
            os.write(2, b"Stopped at once.\n")
            os._exit(128 + number)

    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.getsignal(number) for number in usual}
    ours = [number for number, handler in usual.items() if before[number] == handler]
    try:
        for number in ours:
            signal.signal(number, stop)
        yield
    finally:
        for number in ours:
            if signal.getsignal(number) is stop:
                signal.signal(number, before[number])


def explained(error: BaseException) -> str | None:
    """Return the sentence for an error of the machine: no memory, space, handles or threads left.

    `None` for anything else, which is a bug.
    """
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(sign in text for sign in NO_MEMORY):
        return (
            "The memory does not suffice. Close other programs, or raise the limit that this "
            "process was given (`ulimit -v`, or the container's)."
        )
    if any(sign in text for sign in NO_THREADS) or (
        isinstance(error, OSError) and error.errno == errno.EAGAIN
    ):
        return (
            "The system gives this process no further thread or process. Close other programs, or "
            "raise the limit (`ulimit -u`, or the container's)."
        )
    if isinstance(error, OSError) and error.errno is not None:
        return _of_system(error)
    return None


def _of_system(error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and _nowhere():
        return (
            "The working folder was removed or renamed. Change into one that exists with `cd`, and "
            "give the command again."
        )
    names = [
        os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, str | bytes)
    ]
    what = names[-1] if names else ""
    if error.errno in HANDLES:
        return (
            f"Too many files are open at once{f', at {what}' if what else ''}. Raise the limit "
            f"(`ulimit -n`), and close other programs."
        )
    if error.errno in FULL:
        where = f"Cannot write {what}" if what else "Cannot write"
        return f"{where}: {error.strerror}. Free some space, or choose another place."
    refused = f"{what}: {error.strerror or error}" if what else f"{error.strerror or error}"
    return f"{refused}. Check the path, the drive and its permissions."


def _nowhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def notes_of(error: BaseException) -> str:
    """Return the notes of an error, each after a blank."""
    return "".join(f" {note}" for note in getattr(error, "__notes__", ()))
