"""How a training runs: precision, processes, threads."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState

from allkit.errors import ConfigError
from allkit.features import HALF, native_bfloat16

__all__ = ["autocast", "choose_precision", "processes", "threads"]


def choose_precision(setting: str, device: torch.device) -> str:
    """Return `float32`, `bfloat16` or `float16` for the setting on this device."""
    if setting == "auto":
        return "bfloat16" if native_bfloat16(device) else "float32"
    if setting == "float16" and device.type == "cpu":
        raise ConfigError("float16 is for graphics cards. Use bfloat16 or auto on the processor.")
    return setting


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which layers compute in `precision`; weights stay float32."""
    return torch.autocast(
        device.type, HALF.get(precision, torch.bfloat16), enabled=precision in HALF
    )


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[Accelerator]:
    """Return accelerate's view of the processes that train together, usually one.

    `torchrun` and `accelerate launch` start several, each with a device of its own. allkit sets the
    precision itself (`autocast`), so that one process can use several, one after another.
    """
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    before = dict(PartialState._shared_state), dict(AcceleratorState._shared_state)
    variable = os.environ.get("ACCELERATE_TORCH_DEVICE")
    if alone:
        # accelerate keeps the first device for the life of the process; ours is per training.
        AcceleratorState._reset_state(reset_partial_state=True)
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    try:
        yield Accelerator(cpu=device.type == "cpu", mixed_precision="no")
    finally:
        if alone:
            PartialState._shared_state.clear()
            PartialState._shared_state.update(before[0])
            AcceleratorState._shared_state.clear()
            AcceleratorState._shared_state.update(before[1])
            if variable is None:
                del os.environ["ACCELERATE_TORCH_DEVICE"]
            else:
                os.environ["ACCELERATE_TORCH_DEVICE"] = variable


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute in `count` threads for a while; `None` changes nothing."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
