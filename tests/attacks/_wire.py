"""Bytes to a server and back, over sockets of our own: what no well-behaved client would send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from attacks import Counts

HANG = 20.0
"""Seconds after which an attempt counts as one that hangs."""
BAD = ("Traceback", 'File "')
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


class Served:
    """A server in a process of its own, with what it wrote to its log."""

    def __init__(self, folder: Path, **settings: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = (folder / "server.log").open("w+")
        script = Path(__file__).with_name("_served.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), json.dumps(settings)],
            stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        line = self.process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise AssertionError(self._log.read())
        self.said = json.loads(line)
        self.port = self.said["port"]
        deadline = time.monotonic() + 60
        while True:  # the port is taken before anybody listens
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", self.port), 5).close()
                break
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.02)
        self._told = False

    def stop(self) -> None:
        """Tell it to end, once: a second time would cut off what is inside."""
        if not self._told and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self._told = True

    def memory(self) -> float:
        """Return the MB that the process holds."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024

    def peak(self) -> float:
        """Return the MB that the process held at most."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", text)[1]) / 1024

    def end(self, counts: Counts | None = None) -> str:
        """Stop it, and return its log; a log with a traceback, or a bad status, is a failure."""
        self.stop()
        try:
            status = self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self._log.seek(0)
        text = self._log.read()
        self._log.close()
        self.process.stdout.close()
        if counts is not None:
            if status:
                counts.failed.append(f"the server ended with {status}")
            if any(bad in text for bad in BAD):
                counts.failed.append(f"a traceback in the log: {text[-600:]}")
        return text


async def exchange(
    port: int, pieces: Iterable[bytes], *, pause: float = 0.0, within: float = HANG
) -> tuple[bytes, float]:
    """Send pieces, and return what came back until the end, or until a whole answer was there.

    With it the seconds that it took. Raises `TimeoutError`.
    """
    began = time.perf_counter()
    async with asyncio.timeout(within):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            sending = asyncio.create_task(_send(writer, pieces, pause))
            got = b""
            try:
                with contextlib.suppress(ConnectionError):
                    while piece := await reader.read(65536):
                        got += piece
                        if _whole(got) and sending.done():
                            break
            finally:
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                    await sending
            return got, time.perf_counter() - began
        finally:
            writer.transport.abort()


async def _send(writer: asyncio.StreamWriter, pieces: Iterable[bytes], pause: float) -> None:
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            if pause:
                await asyncio.sleep(pause)


def _whole(got: bytes) -> bool:
    head, found, body = got.partition(b"\r\n\r\n")
    if not found or head.startswith(b"HTTP/1.1 100"):
        return False
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    return length is not None and len(body) >= int(length[1])


def status_of(got: bytes) -> int:
    """Return the status of the first answer; 0 where there is none."""
    found = [int(s) for s in _STATUS.findall(got) if s != b"100"]
    return found[0] if found else 0


def judge(counts: Counts, what: str, got: bytes, *, closed: bool = False) -> None:
    """Count an answer. `closed`: that the connection is closed without one is right, too."""
    statuses = [int(s) for s in _STATUS.findall(got) if s != b"100"]
    wrong = [s for s in statuses if not (200 <= s < 500 or s == 503)]
    if wrong or any(bad.encode() in got for bad in BAD):
        counts.failed.append(f"{what}: {got[:300]!r}")
    elif not statuses:
        if closed:
            counts.refused += 1
        else:
            counts.failed.append(f"{what}: closed without an answer")
    elif all(s < 300 for s in statuses):
        counts.right += 1
    else:
        counts.refused += 1


async def attempt(
    counts: Counts, port: int, what: str, pieces: Iterable[bytes], **further: object
) -> bytes:
    """Send, and count what comes back; no end within the time is a hang."""
    closed = bool(further.pop("closed", False))
    try:
        got, _ = await exchange(port, pieces, **further)
    except TimeoutError:
        counts.failed.append(f"{what}: no end within the time")
        return b""
    except ConnectionError:
        got = b""
    judge(counts, what, got, closed=closed)
    return got


def request(
    method: str = "POST",
    path: str = "/predict",
    *,
    body: bytes = b"",
    kind: str = "image/png",
    heads: Iterable[str] = (),
    length: str | None = "",
) -> bytes:
    """Return a request; `length` other than that of the body, or `None` for no such head."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", *heads]
    if length is not None:
        lines.append(f"Content-Length: {length or len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Neighbour:
    """A client that does nothing wrong: it asks again and again, and notes how long it waits."""

    def __init__(self, port: int, body: bytes, *, pause: float = 0.1) -> None:
        self.port, self._body, self._pause = port, body, pause
        self.seconds: list[float] = []
        self.full = 0
        self.wrong: list[str] = []

    async def __aenter__(self) -> Neighbour:
        self._task = asyncio.create_task(self._ask())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if not self.seconds:
            await self._once()

    async def _ask(self) -> None:
        while True:
            await self._once()
            await asyncio.sleep(self._pause)

    async def _once(self) -> None:
        try:
            got, seconds = await exchange(self.port, [request(body=self._body)], within=60)
        except (TimeoutError, OSError) as error:
            self.wrong.append(f"a normal client: {type(error).__name__}")
            return
        status = status_of(got)
        if status == 200:
            self.seconds.append(seconds)
        elif status == 503:
            self.full += 1
        else:
            self.wrong.append(f"a normal client: {got[:200]!r}")

    def report(self, counts: Counts, *, most: float) -> None:
        """Count its answers; one that took longer than `most` seconds is a failure."""
        counts.right += len(self.seconds)
        counts.refused += self.full
        counts.failed += self.wrong
        slow = [s for s in self.seconds if s > most]
        counts.failed += [f"a normal client waited {s:.1f} s" for s in slow]
        if not self.seconds:
            counts.failed.append("a normal client got no answer")
        else:
            counts.measured["most seconds of a normal client"] = max(self.seconds)


def descriptors() -> int:
    """Return how many sockets this process may open, after asking for as many as it may."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - len(os.listdir("/proc/self/fd"))
