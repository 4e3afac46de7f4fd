"""PyTorch and NumPy as allkit needs them, whatever the program around it has set, and as they were after.

A program may compute in float64, on another device, without gradients, in half precision, or let NumPy
raise where numbers vanish: its own affair, and no answer of a model depends on it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["ordinary"]

_LOCK = threading.Lock()
_inside = 0  # how many threads need the settings of the process
_before: tuple[torch.dtype, str] = (torch.float32, "highest")
USUAL = (torch.float32, "highest")


@contextlib.contextmanager
def ordinary() -> Iterator[None]:
    """Compute as in a program that has set nothing: a context, or a decorator of a function.

    Gradients are on, as for learning. The number of threads stays as the program has set it, and so
    does what only forbids operations (`torch.use_deterministic_algorithms`).
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        stack.enter_context(_of_the_process())
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
def _of_the_process() -> Iterator[None]:
    """Have the settings that all threads share; of several threads the last to leave puts them back."""
    global _inside, _before
    with _LOCK:
        if not _inside:
            _before = torch.get_default_dtype(), torch.get_float32_matmul_precision()
            _set(_before, USUAL)
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if not _inside:
                _set(USUAL, _before)


def _set(now: tuple[torch.dtype, str], wanted: tuple[torch.dtype, str]) -> None:
    if now[0] != wanted[0]:
        torch.set_default_dtype(wanted[0])
    if now[1] != wanted[1]:
        torch.set_float32_matmul_precision(wanted[1])
