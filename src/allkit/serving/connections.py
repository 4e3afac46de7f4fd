"""One connection: who is slow is dropped, and what is no HTTP gets one answer.

uvicorn itself waits for the head of a request as long as the client likes, and for the rest of a body
whose request it has answered; it lets a client take its answer as slowly as it wants.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Connection", "of_at_most"]

IDLE_SECONDS = 10.0
"""In which a request must begin, on a new connection or after an answer."""
HEAD_SECONDS = 10.0
"""In which the head of a request must be whole."""
REST_SECONDS = 5.0
"""In which the rest of a body must come whose request is answered already."""
ANSWER_SECONDS = 30.0
"""In which a client must have taken something of its answer."""
MOST = 4096
_REFUSAL = (
    "HTTP/1.1 {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}"
    "Connection: close\r\n\r\n{}"
)


class Connection(H11Protocol):
    """A connection of uvicorn with a time limit for what the client owes: a request, its head, its body.

    Where there are more than `most` connections, a new one takes the place of the one that has waited
    longest without a request: whoever opens many and asks for nothing keeps nobody out.
    """

    most = MOST

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None
        self._owed: tuple[str, object] = ("", None)
        self.since = self.loop.time()

    @property
    def waits(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    # ── what uvicorn and asyncio call ─────────────────────────────────────────────────────────

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            others = (c for c in self.connections if isinstance(c, Connection) and c is not self)
            idle = [one for one in others if one.waits and not one.transport.is_closing()]
            if idle:
                min(idle, key=lambda one: one.since).transport.abort()
            else:
                self._refuse("503 Service Unavailable", "The server is full.", "Retry-After: 1\r\n")
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the limits."""
        for timer in (self._timer, self._answer_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if not self.transport.is_closing():
            super().data_received(data)
            self._expect()

    def on_response_complete(self) -> None:
        """Wait for the next request, and for the client to take the answer."""
        self.since = self.loop.time()
        super().on_response_complete()
        self._expect()
        self._watch_answer()

    def pause_writing(self) -> None:
        """Watch a client that takes its answer slowly."""
        super().pause_writing()
        self._watch_answer()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Hand the connection over."""
        super().handle_websocket_upgrade(event)
        self._owed = ("web socket", None)
        if self._timer is not None:
            self._timer.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; nothing more is said where an answer has begun."""
        if not self.waits:
            self.cycle.disconnected = True  # whoever reads the body hears that no more comes
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection on which nothing came."""
        self.transport.close()

    def shutdown(self) -> None:
        """Close, at once or after the answer that is under way."""
        if self.waits:
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    def _should_upgrade(self) -> bool:
        # Without web sockets the request is an ordinary one, and no line in the log.
        return self.ws_protocol_class is not None and bool(super()._should_upgrade())

    # ── what the client owes ──────────────────────────────────────────────────────────────────

    def _owes(self) -> tuple[str, float]:
        if not self.waits or self._owed[0] == "web socket":
            return "", 0  # bodies have a pace of their own
        if self.conn.their_state is h11.SEND_BODY:
            return "rest", REST_SECONDS
        return ("head", HEAD_SECONDS) if self.conn.trailing_data[0] else ("request", IDLE_SECONDS)

    def _expect(self) -> None:
        """Start the time for what the client owes now, where that is something new."""
        what, seconds = self._owes()
        if (what, self.cycle) == self._owed or self._owed[0] == "web socket":
            return
        if self._timer is not None:
            self._timer.cancel()
        self._owed = (what, self.cycle)
        self._timer = self.loop.call_later(seconds, self._too_slow) if what else None

    def _too_slow(self) -> None:
        if self._owed[0] == "head" and self.conn.our_state is h11.IDLE:
            said = f"The head of the request was not whole after {HEAD_SECONDS:.0f} seconds."
            self._refuse("408 Request Timeout", said)
        elif self._owed[0] == "rest":
            self.transport.abort()
        else:
            self.transport.close()

    def _refuse(self, status: str, said: str, head: str = "") -> None:
        body = f'{{"error":"{said}"}}'
        self.transport.write(_REFUSAL.format(status, len(body), head, body).encode())
        self.transport.close()
        self._watch_answer()

    def _watch_answer(self, before: float = math.inf) -> None:
        """Look now and then whether the client takes what waits to be sent, and drop it if not."""
        left = self.transport.get_write_buffer_size()
        if before == math.inf and self._answer_timer is not None:
            return  # somebody looks already
        self._answer_timer = None
        if left >= before:
            self.transport.abort()
        elif left:
            again = self.loop.call_later(ANSWER_SECONDS, self._watch_answer, left)
            self._answer_timer = again


def of_at_most(connections: int) -> type[Connection]:
    """Return the class of the connections of a server that takes so many at once."""
    return type("Connection", (Connection,), {"most": connections})
