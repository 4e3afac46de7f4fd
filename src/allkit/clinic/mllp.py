"""HL7 messages over the network by MLLP: one sender, one receiver.

MLLP has no encryption and no login. The receiver listens on this machine only unless told otherwise;
between machines belongs a tunnel with TLS, or a network of the laboratory's own. Whether and when a
message is sent again is decided elsewhere; the errors here say whether that can help.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal

from allkit.clinic.orders import acknowledge
from allkit.clinic.orders.segments import split_message
from allkit.errors import OrderError, SendError

__all__ = ["MAX_MESSAGE", "Acknowledgement", "Receiver", "send"]

START, END = b"\x0b", b"\x1c\r"
MAX_MESSAGE = 2**20
"""Most bytes of a message, in either direction."""
PIECE = 65536
WHOLE_MESSAGE = 60.0
"""Seconds in which a message has to be whole, once it has begun."""
IDLE = 300.0
"""Seconds after which a connection without a message is closed."""
CONNECTIONS = 16
TAKEN, FAILED = ("AA", "CA"), ("AE", "CE")


@dataclass(frozen=True)
class Acknowledgement:
    """The other system's answer: its code (AA, or CA in enhanced mode), its words, our message's id."""

    code: str
    text: str
    control_id: str


class _Frames:
    """The messages that come in on one connection, cut out of their frames."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.buffer = b""

    def next(self, *, wait: float, whole: float) -> bytes | None:
        """Return the next message; `None` where the connection ends before one is whole.

        Bytes between frames are thrown away, and so is a frame that another one interrupts. Raises
        `TimeoutError`, and `_TooLong` with the first bytes.
        """
        deadline = time.monotonic() + wait
        begun = False
        while True:
            start = self.buffer.find(START)
            self.buffer = self.buffer[start:] if start >= 0 else b""
            end = self.buffer.find(END)
            if end >= 0:
                frame, self.buffer = self.buffer[:end], self.buffer[end + len(END) :]
                if len(frame) > MAX_MESSAGE:
                    raise _TooLong(frame)
                return frame[frame.rfind(START) + 1 :]
            if len(self.buffer) > MAX_MESSAGE:
                raise _TooLong(self.buffer)
            if self.buffer and not begun:
                begun, deadline = True, time.monotonic() + whole
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.connection.settimeout(left)
            piece = self.connection.recv(PIECE)
            if not piece:
                return None
            self.buffer += piece


class _TooLong(Exception):
    """A message of more than `MAX_MESSAGE` bytes; its first argument is its beginning."""


def send(message: bytes, *, host: str, port: int, timeout: float = 10.0) -> Acknowledgement:
    """Send one HL7 message and return the answer that it was taken.

    `timeout` is in seconds, for the connection and again for the answer. Raises `SendError`: with `retry`
    where the other side cannot be reached, is silent, or answers AE (it failed); without where it
    answers AR (it refuses), answers for another message, or `message` is none. A message whose answer was
    lost may have been taken: sent again, it has the same id, by which it is recognised.
    """
    try:
        control = split_message(message).head.value(10)
    except OrderError as error:
        raise SendError(f"What is to be sent is no HL7 message. {error}", retry=False) from None
    if not control or START in message or END[:1] in message or len(message) > MAX_MESSAGE:
        raise SendError(
            "The message has no id in MSH-10, is over 1 MiB, or holds the bytes that end a frame. It "
            "cannot be sent.",
            retry=False,
        )
    where = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.sendall(START + message + END)
            answer = _Frames(connection).next(wait=timeout, whole=timeout)
    except TimeoutError:
        raise SendError(
            f"{where} gave no answer within {timeout:g} seconds. Check the receiving system.",
            retry=True,
        ) from None
    except _TooLong:
        raise SendError(
            f"{where} answered with over 1 MiB. Check the address.", retry=False
        ) from None
    except (OSError, UnicodeError, OverflowError) as error:  # a host or a port that cannot be
        reason = getattr(error, "strerror", None) or "no valid address"
        raise SendError(
            f"{where} cannot be reached ({reason}). Check the address and the receiving system.",
            retry=isinstance(error, OSError),
        ) from None
    if answer is None:
        raise SendError(f"{where} closed the connection without an answer.", retry=True)
    return _accepted(answer, control, where)


def _accepted(answer: bytes, control: str, where: str) -> Acknowledgement:
    try:
        parts = [one for one in split_message(answer).segments if one.name == "MSA"]
        got = Acknowledgement(*(parts[0].value(number) for number in (1, 3, 2)))
    except (OrderError, IndexError):
        message = f"{where} answered with no acknowledgement. Check the address."
        raise SendError(message, retry=False) from None
    if got.control_id != control:
        raise SendError(f"{where} acknowledged another message than the one sent.", retry=False)
    if got.code in TAKEN:
        return got
    failed = got.code in FAILED
    what = "could not take the message" if failed else "refuses the message"
    words = f": {got.text[:200]}" if got.text else ""
    raise SendError(f"{where} {what} ({got.code or 'no code'}{words}).", retry=failed)


class Receiver:
    """Listens for HL7 messages in threads, until its `with` block ends.

    `handle` gets each message without its frame and returns the answer; it is called from several
    threads. Where it raises, the sender gets AE without a word of the message, and `failed` is told the
    error. `port` 0 takes a free one; `port` then says which. A connection that sends nothing for
    `idle` seconds, or not a whole message in `whole` seconds, is closed; of more than `connections` at
    once, the newest is closed at once.
    """

    def __init__(
        self,
        handle: Callable[[bytes], bytes],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        failed: Callable[[Exception], None] | None = None,
        idle: float = IDLE,
        whole: float = WHOLE_MESSAGE,
        connections: int = CONNECTIONS,
    ) -> None:
        self.handle, self.failed = handle, failed
        self.host, self.port = host, port
        self.idle, self.whole = idle, whole
        self._free = threading.BoundedSemaphore(connections)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._closing = False

    def __enter__(self) -> Receiver:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            self._listener = socket.create_server((self.host, self.port), family=family)
        except (OSError, OverflowError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "no valid address"
            raise SendError(
                f"Cannot listen on {self.host}:{self.port} ({reason}). Choose another port.",
                retry=False,
            ) from None
        self._listener.settimeout(0.5)  # closing it wakes `accept` on Linux only
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._closing = True
        _shut(self._listener)
        with self._lock:
            for connection in self._open:
                _shut(connection)
        self._accepting.join(5)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                if self._closing:
                    return
                time.sleep(0.1)  # no file descriptor is left, for example
                continue
            if not self._free.acquire(blocking=False):
                connection.close()
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads = [one for one in self._threads if one.is_alive()] + [thread]
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
        try:
            with connection:
                self._answer_all(connection)
        except OSError:  # the other side went away, or was silent too long
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            self._free.release()

    def _answer_all(self, connection: socket.socket) -> None:
        frames = _Frames(connection)
        while not self._closing:
            try:
                message = frames.next(wait=self.idle, whole=self.whole)
            except _TooLong as error:
                text = "The message is over 1 MiB."
                self._reply(connection, _answer(error.args[0][1:PIECE], "AR", text))
                return
            if message is None:
                return
            try:
                answer = self.handle(message)
            # Whatever the handler raises, the connection and the receiver go on, and the sender is told
            # to send again.
            except Exception as error:  # noqa: BLE001 - see above
                answer = _answer(
                    message, "AE", "The receiver failed. Send the message again later."
                )
                if self.failed is not None:
                    self.failed(error)
            self._reply(connection, answer)

    def _reply(self, connection: socket.socket, answer: bytes) -> None:
        connection.settimeout(self.whole)
        connection.sendall(START + answer + END)


def _answer(message: bytes, code: Literal["AE", "AR"], text: str) -> bytes:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return acknowledge(message, code=code, text=text, at=now)


def _shut(one: socket.socket) -> None:
    with suppress(OSError):  # it is closed already, or was never connected
        one.shutdown(socket.SHUT_RDWR)
    one.close()
