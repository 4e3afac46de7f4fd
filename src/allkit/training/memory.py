"""How much memory is free and was used, and whether it ran out."""

from __future__ import annotations

import torch

from allkit.plugins.guard import no_memory
from allkit.runtime import memory

__all__ = ["free_bytes", "out_of_memory", "peak_bytes"]


def peak_bytes(device: torch.device) -> int:
    """Return the peak memory since the start; 0 if the system does not report it."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return memory.peak_bytes()


def free_bytes() -> int:
    """Return the processor's free memory."""
    import psutil

    return int(psutil.virtual_memory().available)


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that the device has no memory left."""
    return no_memory(error)
