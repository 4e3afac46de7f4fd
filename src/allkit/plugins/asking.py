"""What runs in the child: each plugin is imported in a process of its own, several at once.

The child has imported once what every plugin needs. For each entry point it forks a process, which
has the time limit to itself, writes its answer into a pipe of its own, and is ended together with
what it has started. (Not with what has taken itself out of its group of processes, as `setsid` does:
that goes on, holds no file of the child, and nobody waits for it.) What else a plugin prints goes
nowhere. Where a process cannot be forked safely, the child loads a single plugin itself.
"""

from __future__ import annotations

import builtins
import contextlib
import faulthandler
import importlib
import json
import logging
import os
import re
import secrets
import select
import signal
import sys
import threading
import time
import types
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint
from typing import IO, Any

import allkit
from allkit.plugins.distributions import GROUP, shown
from allkit.plugins.loading import Loaded, load
from allkit.telemetry import setting

__all__ = ["READY", "Took", "child", "outcome"]

READY = b"ready\n"
GRACE = 1.0
"""Seconds beyond the limit after which a process is ended that did not end itself."""
AT_THE_START = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "ALLKIT_TRACE": "0",
}
"""What numpy is imported with: one thread, since a process that is forked keeps no other."""
FROM_OUTSIDE = tuple(-number for number in (1, 2, 9, 15))
"""The statuses of a process that somebody ended, or the system, for want of memory."""
LARGEST = 32 * 2**20
"""Bytes that a process may write into its pipe."""
CANNOT_ANSWER = 113
"""The status of a process whose pipe is gone."""

OF_ALLKIT = ("ALLKIT_", "HOME", "PYTHONPATH", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
"""How the variables of the environment begin that decide what allkit does."""
OWN_FINDERS = ("_distutils_hack", "pkg_resources", "setuptools", "six")
"""Modules that many import, and that put a finder before Python's own."""
SOON = 0.5
"""Seconds in which a thread of a plugin may end that only had something to prepare."""

_PYTHON = os.path.dirname(os.__file__)
_exit = os._exit  # a plugin may put another function in its place


@dataclass
class _Asked:
    """A process that imports one plugin."""

    place: int
    pid: int
    pipe: int
    start: float
    text: bytearray = field(default_factory=bytearray)
    named: bool = False
    open: bool = True

    def read(self) -> None:
        """Take what is in the pipe."""
        while self.open and len(self.text) <= LARGEST:
            try:
                more = os.read(self.pipe, 2**16)
            except BlockingIOError:
                return
            self.open = bool(more)
            self.text += more

    def end(self) -> int:
        """End the process and those that it has started; return its status, below zero for a signal."""
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                kill(self.pid, signal.SIGKILL)
        os.close(self.pipe)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def ended(self) -> bool:
        """Say whether the process has ended; its number stays its own until `end`."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def child(job: dict[str, Any]) -> None:
    """Run in the child: ask every entry point of the job and write what came of each.

    A line is JSON: `[PLACE, DESCRIPTION]`, or `[PLACE, null]` for one that is slow.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who is asked to stop tells by closing the input
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    with contextlib.suppress(Exception), setting(AT_THE_START, force=True):
        _get_ready()
    answers.write(READY)
    if job["forks"]:
        for place, description in _ask_all(job, null):
            answers.write(json.dumps([place, description]).encode() + b"\n")
    else:
        ((_, *entry),) = job["entries"]
        os.dup2(null, 0)
        _answer(entry, job["limit"], job["token"].encode(), answers.fileno())
    _exit(0)


def _get_ready() -> None:
    """Import here what every plugin does, once: a process that is forked has it already."""
    importlib.import_module("numpy")
    for name in ("hookimpl", *allkit.records.__all__):
        getattr(allkit, name, None)
    from pydantic import BaseModel, Field

    # Both look for what is installed when they are used first, which takes longer than to import them.
    class Settings(BaseModel):
        strength: float = Field(1.0, ge=0, description="an example")

    record = allkit.Augmentation("example", lambda image, rng: image, settings=Settings)
    plugin = types.SimpleNamespace(
        api_version=2, allkit_augmentations=allkit.hookimpl(lambda: [record])
    )
    load("allkit", "allkit", lambda: plugin).describe()


def _ask_all(job: dict[str, Any], null: int) -> Iterator[tuple[int, dict[str, Any] | None]]:
    waiting, running = deque(job["entries"]), list[_Asked]()
    limit, token = job["limit"], secrets.token_hex(16).encode()
    try:
        while waiting or running:
            while waiting and len(running) < job["workers"]:
                place, *entry = waiting.popleft()
                running.append(_started(place, partial(_answer, entry, limit, token)))
            pipes = [0, *(asked.pipe for asked in running if asked.open)]
            if 0 in select.select(pipes, [], [], 0.02)[0]:  # nobody waits for answers any more
                return
            for asked in list(running):
                asked.read()
                seconds = time.monotonic() - asked.start
                whole = _framed(bytes(asked.text), token) is not None
                late = seconds > limit + GRACE or len(asked.text) > LARGEST
                if whole or late or asked.ended():
                    running.remove(asked)
                    asked.read()
                    status = asked.end()
                    took = Took(seconds, limit, late)
                    yield asked.place, outcome(bytes(asked.text), token, status, took)
                elif seconds > job["named_after"] and not asked.named:
                    asked.named = True
                    yield asked.place, None
    finally:
        for asked in running:
            asked.end()
        os.close(null)


def _started(place: int, answer: Callable[[int], None]) -> _Asked:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which are numpy's
        pid = os.fork()
    if pid:
        os.close(writing)
        return _Asked(place, pid, reading, time.monotonic())
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(1, 0)
        # Nothing of the child's own stays open, so that nothing waits for what a plugin leaves behind.
        os.dup2(writing, 3, inheritable=False)
        os.closerange(4, 256)
        answer(3)
    finally:
        _exit(CANNOT_ANSWER)


def _answer(entry: Sequence[str], limit: float, token: bytes, pipe: int) -> None:
    """Load one plugin and write what came of it, in the process that is its own."""
    origin, name, value = entry
    me, tell = os.getpid(), json.dumps
    faulthandler.enable(pipe)
    faulthandler.dump_traceback_later(limit, exit=True, file=pipe)
    before = _Surroundings.now()
    loaded = load(origin, value, EntryPoint(name, value, GROUP).load, alone=True)
    faulthandler.cancel_dump_traceback_later()
    if os.getpid() != me:  # the plugin has forked, and this is not who was asked
        return
    changed = _Surroundings.now().changed(before)
    if changed and not loaded.error:
        loaded = Loaded(
            error=f"Its import changes the whole program: it {', '.join(changed)}. A plugin leaves "
            f"everything as it was.",
            seconds=loaded.seconds,
            api_version=loaded.api_version,
        )
    text = tell(loaded.describe()).encode()
    rest = memoryview(b"\n%s %d\n%s" % (token, len(text), text))
    while rest:
        rest = rest[os.write(pipe, rest) :]
    _exit(0)


@dataclass(frozen=True)
class Took:
    """How long a process took, and whether it was ended for that."""

    seconds: float
    limit: float
    late: bool = False


def outcome(text: bytes, token: bytes, status: int, took: Took) -> dict[str, Any]:
    """Return what a process answered, or how it ended."""
    answer = _framed(text, token)
    if answer is not None:
        with contextlib.suppress(ValueError):
            return dict(json.loads(answer))
    loaded = Loaded(error=_ended(text.decode(errors="replace"), status, took), seconds=took.seconds)
    return loaded.describe() | {"kept": took.late or status not in FROM_OUTSIDE}


def _framed(text: bytes, token: bytes) -> bytes | None:
    """Return the answer among what was written into a pipe, once it is whole."""
    _, found, rest = text.rpartition(b"\n%s " % token)
    size, line, answer = rest.partition(b"\n")
    if not found or not line or len(answer) < int(size):
        return None
    return answer[: int(size)]


def _ended(text: str, status: int, took: Took) -> str:
    place = _place(text)
    if len(text) > LARGEST // 2:
        return "Its import writes into files that others have opened."
    if took.late or "Timeout (" in text:
        return f"Its import took longer than {took.limit:g} seconds{place}."
    if status == CANNOT_ANSWER:
        return "Its import closes files that others have opened."
    if status < 0:
        return f"Its import crashed the Python process (signal {-status}){place}."
    return f"Its import ended the Python process (status {status}){place}."


def _place(text: str) -> str:
    """Return where a trace of Python's fault handler says that a process was."""
    # The thread that crashed; of one that hangs the first, which stands last.
    _, found, rest = text.rpartition("Current thread ")
    rest = rest if found else text.rpartition("Thread ")[2]
    frames = re.findall(r'File "([^"]+)", line (\d+) in', rest)
    # Not the function of Python's own that it called, but where it called it.
    own = [at for at in frames if not at[0].startswith(_PYTHON) or "-packages" in at[0]] or frames
    return f", in {own[0][0]} line {own[0][1]}" if own else ""


@dataclass(frozen=True)
class _Surroundings:
    """What belongs to the whole program, as it is now."""

    folder: str
    path: tuple[str, ...]
    streams: tuple[bool, ...]
    functions: dict[str, int]
    modules: frozenset[str]
    filters: int
    signals: tuple[Any, ...]
    errors: tuple[Any, ...]
    torch: tuple[str, bool]
    variables: dict[str, str]
    finders: frozenset[str]
    umask: int
    deepest: int
    log: int
    threads: bool

    @classmethod
    def now(cls) -> _Surroundings:
        try:
            folder = os.getcwd()
        except OSError:
            folder = ""
        numpy = sys.modules.get("numpy")
        return cls(
            folder=folder,
            path=tuple(str(entry) for entry in sys.path),
            streams=tuple(map(_usable, (sys.stdin, sys.stdout, sys.stderr), range(3))),
            functions={name: id(value) for name, value in vars(builtins).items() if name != "_"},
            modules=frozenset(
                n for n in sys.modules if n in sys.stdlib_module_names or n == "allkit"
            ),
            filters=sum(
                f[0] == "error" and f[2] in (Warning, UserWarning) for f in warnings.filters
            ),
            signals=tuple(map(signal.getsignal, (signal.SIGINT, signal.SIGTERM))),
            errors=tuple(sorted(numpy.geterr().items())) if numpy else (),
            torch=_of_torch(),
            variables={n: value for n, value in os.environ.items() if n.startswith(OF_ALLKIT)},
            finders=_first_finders(),
            umask=_umask(),
            deepest=sys.getrecursionlimit(),
            log=logging.root.manager.disable,
            threads=_goes_on(),
        )

    def changed(self, before: _Surroundings) -> list[str]:
        """Return in words what is other than `before`, and does harm to others."""
        functions = {n for n, value in before.functions.items() if self.functions.get(n) != value}
        variables = {name for name, _ in before.variables.items() ^ self.variables.items()}
        finders = self.finders - before.finders
        found = {
            "changes the working folder": self.folder != before.folder,
            "takes folders off sys.path": not set(before.path) <= set(self.path),
            "closes standard input, output or error": self.streams != before.streams,
            f"replaces the built-in {_listed(functions)}": bool(functions),
            "removes modules that others have imported": not before.modules <= self.modules,
            "makes an error of every warning": self.filters > before.filters,
            "takes over Ctrl-C or the signal to end": self.signals != before.signals,
            "changes what NumPy does with numbers that overflow": bool(before.errors)
            and self.errors != before.errors,
            "changes how torch computes everywhere": self.torch != before.torch,
            f"changes {_listed(variables)} in the environment": bool(variables),
            f"looks for every module first ({_listed(finders)})": bool(finders),
            "changes who may read the files that are written (umask)": self.umask != before.umask,
            "changes how deep calls may be (the recursion limit)": self.deepest != before.deepest,
            "turns off the log of others": self.log != before.log,
            "starts a thread that keeps the program from ending": self.threads,
        }
        return [words for words, so in found.items() if so]


def _usable(stream: IO[str] | None, number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return stream is not None and not getattr(stream, "closed", False)


def _listed(names: Collection[str]) -> str:
    return shown(", ".join(sorted(names)[:5]))


def _of_torch() -> tuple[str, bool]:
    """Return what kind of number torch computes with, and whether with gradients."""
    torch: Any = sys.modules.get("torch")
    if not hasattr(torch, "get_default_dtype") or not hasattr(torch, "is_grad_enabled"):
        return "torch.float32", True
    return str(torch.get_default_dtype()), bool(torch.is_grad_enabled())


def _first_finders() -> frozenset[str]:
    """Return the names of the finders of modules that are asked before Python's own."""
    names = [
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in (one if isinstance(one, type) else type(one) for one in sys.meta_path)
    ]
    own = "_frozen_importlib_external.PathFinder"
    first = names[: names.index(own)] if own in names else names
    return frozenset(name for name in first if name.partition(".")[0] not in OWN_FINDERS)


def _umask() -> int:
    mask = os.umask(0o077)  # which can only be read by setting it
    os.umask(mask)
    return mask


def _goes_on() -> bool:
    """Say whether a thread goes on that Python waits for at its end; those of executors are ended then."""
    executors = getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", {})
    others = [
        thread
        for thread in threading.enumerate()
        if not thread.daemon and thread not in executors and thread is not threading.main_thread()
    ]
    until = time.monotonic() + SOON
    for thread in others:
        thread.join(max(0.0, until - time.monotonic()))
    return any(thread.is_alive() for thread in others)
