"""What maps are made and checked with: the colour that covers a place, and the answer to many inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt
import torch

__all__ = ["background", "probability"]

AT_ONCE = 16
"""Inputs that are in memory at once."""


def background(inputs: torch.Tensor) -> torch.Tensor:
    """Return the background's colour of `(1, 3, S, S)`, `(1, 3, 1, 1)`: each channel's 90 % quantile."""
    return torch.quantile(inputs.flatten(2).float(), 0.9, dim=2)[:, :, None, None].to(inputs.dtype)


def probability(
    network: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor, target: int
) -> npt.NDArray[Any]:
    """Return the probability of the class `target` for each of the inputs `(N, 3, S, S)`, `(N,)`."""
    rows = []
    with torch.inference_mode():
        for start in range(0, len(batch), AT_ONCE):
            part = batch[start : start + AT_ONCE]
            rows.append(torch.softmax(network(part).float(), dim=1)[:, target].cpu())
    values: npt.NDArray[Any] = torch.cat(rows).numpy()
    return values
