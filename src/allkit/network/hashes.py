"""Hashes of tensors. Caches and models keep them, so what goes into them never changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import torch
from torch import nn

__all__ = ["arrays_hash", "tensor_bytes", "weights_hash"]


def tensor_bytes(tensor: torch.Tensor) -> bytes:
    """Return the values of a tensor in order, as they lie in memory."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def arrays_hash(arrays: Mapping[str, torch.Tensor]) -> str:
    """Return SHA-256 over the names, types, shapes and values of tensors."""
    return _hash(arrays, tensor_bytes)


def weights_hash(module: nn.Module) -> str:
    """Return SHA-256 over the names, types, shapes and values of a module's tensors.

    A single number, such as the counter of a normalisation, is taken as its text.
    """
    return _hash(
        module.state_dict(), lambda t: tensor_bytes(t) if t.ndim else str(t.item()).encode()
    )


def _hash(arrays: Mapping[str, torch.Tensor], values: Callable[[torch.Tensor], bytes]) -> str:
    total = hashlib.sha256()
    for name in sorted(arrays):
        tensor = arrays[name]
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(values(tensor))
    return total.hexdigest()
