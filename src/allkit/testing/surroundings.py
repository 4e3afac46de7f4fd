"""What checks watch: the network and the state of the process."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import sys
import warnings
from collections.abc import Iterator
from typing import Any

__all__ = ["global_state", "no_network"]


class _Attempts(list[str]):
    """The hosts to which a connection was tried."""


@contextlib.contextmanager
def no_network() -> Iterator[list[str]]:
    """Refuse every connection to another machine inside the block; the list holds the attempts."""
    attempts: list[str] = _Attempts()
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex
    look_up = socket.getaddrinfo
    here = ("127.0.0.1", "::1", "localhost", "", None)

    def refuse(host: object) -> None:
        if host not in here:
            attempts.append(str(host))
            raise OSError(f"the network is blocked in this test: {host}")

    def guarded(original: Any) -> Any:
        def run(self: socket.socket, address: Any, *rest: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                refuse(address[0])
            return original(self, address, *rest)

        return run

    def guarded_look_up(host: Any, *rest: Any, **options: Any) -> Any:
        refuse(host)
        return look_up(host, *rest, **options)

    socket.socket.connect = guarded(connect)  # type: ignore[method-assign]  # put back
    socket.socket.connect_ex = guarded(connect_ex)  # type: ignore[method-assign]  # put back
    socket.getaddrinfo = guarded_look_up
    try:
        yield attempts
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]  # put back
        socket.socket.connect_ex = connect_ex  # type: ignore[method-assign]  # put back
        socket.getaddrinfo = look_up


def global_state() -> dict[str, Any]:
    """Return what a plugin must leave as it found it, by name."""
    import numpy as np

    state: dict[str, Any] = {
        "environment variables": dict(os.environ),
        "working directory": os.getcwd(),
        "sys.path": list(sys.path),
        "warning filters": list(warnings.filters),
        "root logger": (logging.getLogger().level, list(logging.getLogger().handlers)),
        "random": random.getstate(),
        "numpy.random": str(np.random.get_state()),
    }
    if "torch" in sys.modules:
        import torch

        state |= {
            "torch default dtype": torch.get_default_dtype(),
            "torch default device": torch.get_default_device(),
            "torch threads": torch.get_num_threads(),
            "torch grad mode": torch.is_grad_enabled(),
            "torch deterministic mode": torch.are_deterministic_algorithms_enabled(),
            "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        }
    return state


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the names of what differs."""
    return [name for name in before if name in after and before[name] != after[name]]
