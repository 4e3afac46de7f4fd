"""Run the server until it is told to stop, and lose nothing then."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import types

import uvicorn
from fastapi import FastAPI

from allkit.errors import ConfigError
from allkit.serving.connections import MOST, of_at_most
from allkit.serving.messages import CONFIG

__all__ = ["handles", "listen", "serve"]

DRAIN = 1.0
"""Seconds between the order to stop and the end of listening.

In it every answer says `Connection: close`, and readiness is gone, so that clients with open
connections and balancers go elsewhere; what they still send is answered.
"""
LINGER = 0.5
"""Seconds from the end of listening in which those who connected just before may still ask."""
BACKLOG = 2048
SPARE = 128
"""Open files that are not connections."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound, so that a port in use is reported before anything is loaded.

    Port 0 takes a free one. Raises `ConfigError`.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"The port is {port}; it must be between 0 and 65535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small answers at once only on sockets that are TCP by name, and so do theirs.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"Port {port} on {host} cannot be used ({error.strerror or error}). Close what uses "
            f"it, or choose another with --port."
        ) from None
    return bound


def handles() -> int:
    """Return how many connections there may be: the process gets as many open files as it is allowed."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return MOST
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + SPARE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST if soft == resource.RLIM_INFINITY else max(16, min(MOST, soft - SPARE))


class _Server(uvicorn.Server):
    """Goes on a moment after the order to stop; a second order stops at once."""

    cut_off = False

    def handle_exit(self, sig: int, frame: types.FrameType | None) -> None:
        app: FastAPI = self.config.app  # type: ignore[assignment]  # uvicorn: anything
        if app.state.draining:
            self.should_exit = self.force_exit = self.cut_off = True
            return
        app.state.draining = True
        self._loop.call_soon_threadsafe(self._loop.call_later, DRAIN, self._stop_listening)

    def _stop_listening(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Otherwise connections that wait to be let in, or whose request is on its way, are reset.
        await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        for listening in sockets or ():
            listening.close()
        if not self.force_exit:
            await asyncio.sleep(LINGER)
        await super().shutdown(sockets)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)


def serve(app: FastAPI, bound: socket.socket) -> bool:
    """Answer on a bound socket until SIGTERM or Ctrl-C, then finish what was begun.

    Returns whether it could: a second signal cuts off what is inside.
    The log names no request: an address may hold a patient's name. The metrics count them.
    """
    config = uvicorn.Config(
        app,
        http=of_at_most(handles()),
        ws="none",
        access_log=False,
        log_config=CONFIG,
        log_level="warning",
        backlog=BACKLOG,
        server_header=False,
        timeout_keep_alive=10,
        # A client that does not take its answer holds up the end no longer.
        timeout_graceful_shutdown=60,
        lifespan="on",
    )
    server = _Server(config)
    server.run(sockets=[bound])
    return not server.cut_off
