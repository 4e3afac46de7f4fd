"""PyTorch and NumPy as allkit needs them, whatever the program around it has set, and as they were after.

A program may compute in float64, on another device, without gradients, in half precision, or let NumPy
raise where numbers vanish: its own affair, and no answer of a model depends on it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

import numpy as np
import torch

__all__ = ["Shared", "ordinary"]

_PROCESS = os.getpid()
USUAL = (torch.float32, "highest")


class Shared:
    """A setting of the process, of which several threads are in need: the last to leave puts it back.

    `setting` is a context that changes it. Called, it gives the context for one thread.
    """

    def __init__(self, setting: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        self._setting = setting
        self._lock = threading.Lock()
        self._threads = 0
        self._changed = contextlib.ExitStack()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Have the setting for a while."""
        with self._lock:
            if not self._threads:
                self._changed.enter_context(self._setting())
            self._threads += 1
        try:
            yield
        finally:
            with self._lock:
                self._threads -= 1
                if not self._threads:
                    self._changed.close()


@contextlib.contextmanager
def ordinary() -> Iterator[None]:
    """Compute as in a program that has set nothing: a context, or a decorator of a function.

    Gradients are on, as for learning. The number of threads stays as the program has set it, and so
    does what only forbids operations (`torch.use_deterministic_algorithms`). In a forked process, which
    has none of the threads that PyTorch waits for, it computes in one.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        stack.enter_context(_of_the_process())
        if os.getpid() != _PROCESS and torch.get_num_threads() > 1:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


@contextlib.contextmanager
def _usual() -> Iterator[None]:
    """Have the settings that all threads of the process share."""
    before = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    _set(before, USUAL)
    try:
        yield
    finally:
        _set(USUAL, before)


_of_the_process = Shared(_usual)


def _set(now: tuple[torch.dtype, str], wanted: tuple[torch.dtype, str]) -> None:
    if now[0] != wanted[0]:
        torch.set_default_dtype(wanted[0])
    if now[1] != wanted[1]:
        torch.set_float32_matmul_precision(wanted[1])
