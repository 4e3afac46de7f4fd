"""The device that computes: by its name, or the best that this machine has; and float32 on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from allkit.errors import ConfigError
from allkit.network.around import Shared

__all__ = ["choose_device", "full_float32"]

KNOWN = ("cpu", "cuda", "mps", "xpu")
"""Kinds of device that compute. torch has others, such as `meta`, on which nothing is computed."""


def choose_device(name: str | torch.device) -> torch.device:
    """Return the named device; for `auto` a graphics card, or the processor where there is none.

    Raises `ConfigError` that says what is missing when this machine has no such device.
    """
    name = str(name)
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in KNOWN:
        raise ConfigError(f"{name!r} is no device. Give auto, cpu, cuda, cuda:1 or mps.")
    lacking = _lacking(device)
    if not lacking:
        try:
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for it
            lacking = str(error).strip().partition("\n")[0].rstrip(".")
    if lacking:
        raise ConfigError(
            f"The device {name!r} cannot be used: {lacking}. `auto` takes the best that works here, "
            f"`cpu` the processor."
        )
    return device


def _lacking(device: torch.device) -> str:
    """Say what this machine lacks for `device`, where it is known without a try."""
    if device.type != "cuda":
        return ""
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"this PyTorch ({torch.__version__}) was built without support for graphics cards; "
            f"install one that has it (pytorch.org/get-started)"
        )
    if not torch.cuda.is_available():
        return "PyTorch finds no graphics card; `nvidia-smi` says whether the driver sees one"
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        return f"this machine has {count}, from cuda:0 to cuda:{count - 1}"
    return ""


@contextlib.contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Have convolutions in float32 computed as such for a while, and not in TF32, torch's default.

    TF32 has the 10 bits of float16: answers would differ between a graphics card and the processor.
    The setting is one of the process, so of several threads the last to leave puts it back.
    """
    with _in_full() if device.type == "cuda" else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _convolutions_in_full() -> Iterator[None]:
    convolutions: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # set at run time
    before, convolutions.fp32_precision = convolutions.fp32_precision, "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before


_in_full = Shared(_convolutions_in_full)
