"""What a plugin offers, found out in a process of its own, which may hang or crash.

A child asks the plugins, each alone and several at once (`asking`). It sees neither the working
folder nor what lies there under a name of one of Python's modules. A child that does not come as far
as the first plugin says nothing about plugins: then they are imported here, and what came of it is
not kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint
from typing import IO, Any

from allkit.plugins.asking import READY, Took, outcome
from allkit.plugins.distributions import GROUP
from allkit.plugins.loading import Loaded, load
from allkit.plugins.tracing import tracing

__all__ = ["probe", "watched"]

NAMED_AFTER = 3.0
"""Seconds until a slow import is named."""
FORKS = hasattr(os, "fork") and sys.platform != "darwin"
"""Whether a process can be forked safely; on macOS the libraries of the system do not bear it."""
START = 30.0
"""Seconds that a child may take to start, and beyond the limit until it says something."""
PATIENCE = 5.0
"""Seconds in which a child ends, and what it has started, when nobody waits for it any more."""
_CHILD = (
    "import json, sys\n"
    "job = json.loads(sys.stdin.readline())\n"
    "sys.path[:] = job['path']\n"
    "from allkit.plugins.asking import child\n"
    "child(job)\n"
)
Entry = tuple[str, str, str]
"""The package with its version, the name and the value of an entry point."""


def probe(entries: Sequence[Entry], limit: float, path: Sequence[str]) -> list[dict[str, Any]]:
    """Return what each entry point offers, in order.

    `limit` is the time in seconds that each import may take, and `path` where modules are sought. What
    says nothing about a plugin itself has `kept` false.
    """
    job = {"path": list(path), "limit": limit, "named_after": NAMED_AFTER, "forks": FORKS}
    found = _forked(entries, job) if FORKS else _each_by_itself(entries, job)
    for place, (origin, name, value) in enumerate(entries):
        if place not in found:  # there is no child
            with watched(origin):
                loaded = load(origin, value, EntryPoint(name, value, GROUP).load)
            found[place] = loaded.describe() | {"kept": False}
    return [found[place] for place in range(len(entries))]


def _at_once() -> int:
    """Return how many plugins are imported at once: one a core, so that each has its time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(8, cores or 1)


def _forked(entries: Sequence[Entry], job: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Return what the processes answer that a child forks; nothing where it could not begin."""
    found: dict[int, dict[str, Any]] = {}
    workers = _at_once()
    while len(found) < len(entries):
        left = [place for place in range(len(entries)) if place not in found]
        asked = [[place, *entries[place]] for place in left]
        if not _one_child(job | {"entries": asked, "workers": workers}, entries, found):
            break
        missing = [place for place in left if place not in found]
        if missing and workers == 1:  # one by one, the first that is missing has done it
            loaded = Loaded(error="Its import ended the process that asks plugins what they offer.")
            found[missing[0]] = loaded.describe() | {"kept": False}
        elif missing:
            workers = 1
    return found


def _one_child(
    job: dict[str, Any], entries: Sequence[Entry], found: dict[int, dict[str, Any]]
) -> bool:
    """Let a child ask what `job` names, and put the answers into `found`; say whether it began."""
    process = _start(subprocess.PIPE)
    if process is None or not process.stdin or not process.stdout:
        return False
    try:
        with contextlib.suppress(OSError):  # it ended at once, which is seen below
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
        if _line(process, START) != READY:
            return False
        for _ in range(2 * len(job["entries"])):
            line = _line(process, job["limit"] + START)
            if not line.endswith(b"\n"):
                break
            place, description = json.loads(line)
            if description is None:
                _name(entries[place][0], job["limit"])
                continue
            found[place] = description
            if all(entry[0] in found for entry in job["entries"]):
                break
        return True
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()  # by which it ends, and every process that it has started
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _start(output: int | IO[bytes]) -> subprocess.Popen[bytes] | None:
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=None if tracing() else subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )
    except (OSError, ValueError, TypeError):  # no such program, or no more processes
        return None


def _line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    # The child tells in time what it finds out; should it not, it is ended here.
    last = threading.Timer(seconds, process.kill)
    last.daemon = True
    last.start()
    try:
        return process.stdout.readline() if process.stdout else b""
    finally:
        last.cancel()


def _each_by_itself(entries: Sequence[Entry], job: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Return what children answer that are asked one plugin each; nothing for those without one."""
    started: list[subprocess.Popen[bytes]] = []
    with ThreadPoolExecutor(_at_once()) as pool:
        try:
            waiting = [pool.submit(_by_itself, entry, job, started) for entry in entries]
            answers = [future.result() for future in waiting]
        except BaseException:  # nobody waits for them any more
            pool.shutdown(wait=False, cancel_futures=True)
            for process in started:
                process.kill()
            raise
    return {place: answer for place, answer in enumerate(answers) if answer is not None}


def _by_itself(
    entry: Entry, job: dict[str, Any], started: list[subprocess.Popen[bytes]]
) -> dict[str, Any] | None:
    token, limit = secrets.token_hex(16), job["limit"]
    with _file() as answers:
        process = _start(answers)
        if process is None or not process.stdin:
            return None
        started.append(process)
        start = time.monotonic()
        with contextlib.suppress(OSError), process.stdin:
            whole = job | {"entries": [[0, *entry]], "token": token}
            process.stdin.write(json.dumps(whole).encode() + b"\n")
        late = False
        with watched(entry[0], limit):
            try:
                status = process.wait(limit + START)
            except subprocess.TimeoutExpired:
                late = True
                process.kill()
                status = process.wait()
        answers.seek(0)
        text = answers.read()
    if not text.startswith(READY):
        return None
    return outcome(text, token.encode(), status, Took(time.monotonic() - start, limit, late))


def _file() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError:  # there is no folder for temporary files
        return open(os.devnull, "w+b")


def _name(origin: str, limit: float | None) -> None:
    then = f"; it is left out after {limit:g}" if limit else ""
    warnings.warn(
        f"The plugin {origin} has been importing for {NAMED_AFTER:g} seconds{then}. "
        f"ALLKIT_PLUGINS can leave it out.",
        UserWarning,
        stacklevel=2,
    )


@contextlib.contextmanager
def watched(origin: str, limit: float | None = None) -> Iterator[None]:
    """Name a plugin whose import takes longer than a few seconds, while it goes on."""
    timer = threading.Timer(NAMED_AFTER, _name, (origin, limit))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
