"""Processes that are killed, stopped, or given too little: forks of one server that has torch loaded."""

from __future__ import annotations

import multiprocessing
import sys
import time
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

PRELOADED = [
    "torch", "accelerate", "timm", "sklearn.model_selection", "scipy.optimize", "allkit.training",
    "allkit.plugins", "matplotlib.backends.backend_agg", "matplotlib.figure",
]  # fmt: skip

FORKED = """
import os, sys, warnings
for number, path in ((1, out), (2, err)):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
sys.stdout = os.fdopen(os.dup(1), "w", buffering=1)
sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
os.environ.update(environment)
exec(before, names)
exec(program, names)
"""
ALLKIT = """
import sys
sys.argv = ["allkit", *arguments]
from allkit.cli import main
main()
"""
EVENTS = """
import os, signal, sys
count = 0
def changes(event, arguments):
    # What changes files: each is a moment at which the process may end, or the disk be full.
    if event == "open":
        mode, flags = arguments[1], arguments[2]
        wanted = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return bool(wanted) and str(arguments[0]).startswith(within)
    if event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"):
        return str(arguments[0]).startswith(within)
    return False
def hook(event, arguments):
    global count
    if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"):
        if changes(event, arguments):
            count += 1
            if count >= at:
                happen(event)
sys.addaudithook(hook)
"""
KILL_AT = EVENTS + "\ndef happen(event): os.kill(os.getpid(), signal.SIGKILL)\n"
FAIL_AT = (
    EVENTS
    + """
import errno
def happen(event):
    # What is full lets go of files; what is read-only does not.
    if error == errno.EROFS or event in ("open", "os.rename", "os.mkdir"):
        raise OSError(error, os.strerror(error), within)
"""
)


@dataclass
class Ended:
    """How a process ended: its status (negative for a signal), and what it said, in seconds."""

    status: int
    out: str
    err: str
    seconds: float


def server() -> Any:
    """Return the context that forks; what it has loaded is decided when it is used first."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


class Process:
    """A program in a process of its own, with the names it uses; `arguments` are those of `allkit`."""

    _number = 0

    def __init__(
        self,
        folder: Path,
        *arguments: object,
        program: str = ALLKIT,
        before: str = "",
        environment: Mapping[str, str] | None = None,
        **names: Any,
    ) -> None:
        Process._number += 1
        self.out, self.err = (folder / f"{kind}-{Process._number}.txt" for kind in ("out", "err"))
        inside = {
            "program": program, "before": before, "out": str(self.out), "err": str(self.err),
            "environment": {"ALLKIT_CACHE": str(folder / "cache"), **(environment or {})},
            "names": {"__name__": "__main__", "arguments": list(map(str, arguments)), **names},
        }  # fmt: skip
        self.process = server().Process(target=exec, args=(FORKED, inside))
        with mock.patch.dict(sys.modules, {"__main__": types.ModuleType("__main__")}):
            self.process.start()
        self.begun = time.monotonic()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return int(self.process.pid)

    def kill_after(self, seconds: float) -> Ended:
        """Kill it, unless it ends before."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
        return self.end()

    def end(self, seconds: float = 120.0) -> Ended:
        """Wait for its end; one that takes longer is killed, and has the status -9."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        texts = [p.read_text(errors="replace") if p.exists() else "" for p in (self.out, self.err)]
        return Ended(int(self.process.exitcode or 0), *texts, time.monotonic() - self.begun)


def allkit(folder: Path, *arguments: object, **names: Any) -> Ended:
    """Run a command of allkit to its end."""
    return Process(folder, *arguments, **names).end()


def left_behind(*folders: Path) -> list[str]:
    """Return the temporary files and folders that lie in these folders."""
    found = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    return [str(path) for path in found if ".part" in path.suffixes or path.suffix == ".old"]
