"""Decoding in a process that can be ended: for images that may keep a decoder busy.

The process is Python, started without the working folder; it is given the bytes of the file, and
gives back pixels or an error. It has a limit of time; of memory and of the processor's time too
where the system knows such limits, as Windows does not.
Where no process can be started, as in a program that is one frozen file, the image is refused.
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing.spawn
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import numpy as np

from allkit.errors import ImageError
from allkit.images.refusal import refuse
from allkit.types import Pixels

__all__ = ["PROCESSOR_SECONDS", "SECONDS", "decode_apart"]

SECONDS = 10.0
"""After so long the process is ended, and the image is refused, on however busy a machine."""
PROCESSOR_SECONDS = 4
"""The same for the time of the processor, where the system can limit it: what an idle machine takes."""
AT_ONCE = threading.BoundedSemaphore(2)
"""So many such processes run at a time for this one; the next waits."""
PROGRAM = (
    "import sys\n"
    "sys.path[:] = [p for p in sys.path if p]\n"
    "import json\n"
    "sys.path += [p for p in json.loads(sys.argv[1]) if p not in sys.path]\n"
    "from allkit.images.child import main\n"
    "main()\n"
)
NEEDED = ("allkit", "numpy", "PIL")


def decode_apart(data: bytes, name: str) -> Pixels:
    """Return the pixels of a file, `(H, W, 3)` uint8. Raises `ImageError`, also where it is ended.

    `name` is what an error calls it.
    """
    with AT_ONCE:
        try:
            process = _start()
        except OSError as error:
            refuse(name, "too_slow", f"and no process could be started for it: {error}", error)
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(SECONDS, end)
        timer.daemon = True
        timer.start()
        try:
            pixels = _exchanged(process, data, name)
        finally:
            timer.cancel()
            process.kill()  # it has ended by itself, but for a mistake
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None and not stream.closed:
                    _closed(stream)
    if pixels is None:
        if process.returncode == -getattr(signal, "SIGXCPU", 0) < 0:
            refuse(name, "too_slow", f"more than {PROCESSOR_SECONDS} seconds")
        if late.is_set():
            refuse(name, "too_slow", f"more than {SECONDS:g} seconds")
        refuse(name, "corrupt", f"its decoder ended with status {process.returncode}")
    return pixels


def _start() -> subprocess.Popen[bytes]:
    executable = multiprocessing.spawn.get_executable()
    if not executable or getattr(sys, "frozen", False):
        raise OSError("this program is not run by Python itself")
    found = [importlib.util.find_spec(package) for package in NEEDED]
    origins = [spec.origin for spec in found if spec is not None and spec.origin is not None]
    roots = [str(Path(origin).parents[1]) for origin in origins]
    hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # no window of a console on Windows
    settings = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [executable, "-P", "-c", PROGRAM, json.dumps(list(dict.fromkeys(roots)))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        creationflags=hidden,
        env=settings,
    )


def _exchanged(process: subprocess.Popen[bytes], data: bytes, name: str) -> Pixels | None:
    """Return what the process makes of a file, and nothing where it ended before that."""
    sent, got = process.stdin, process.stdout
    if sent is None or got is None:
        return None
    try:
        sent.write(json.dumps({"name": name, "bytes": len(data)}).encode() + b"\n")
        sent.write(data)
        sent.close()
    except OSError:
        return None
    try:
        answer = json.loads(got.readline(2**16))
    except ValueError:
        return None
    if "code" in answer:
        raise ImageError(answer["message"], code=answer["code"])
    pixels = np.empty((answer["height"], answer["width"], 3), np.uint8)
    room = pixels.data.cast("B")
    at = 0
    while at < len(room):
        count = got.readinto(room[at:])  # type: ignore[attr-defined] # a buffered reader
        if not count:
            return None
        at += count
    return pixels


def _closed(stream: IO[bytes]) -> None:
    try:
        stream.close()
    except OSError:  # what was not yet sent
        return
