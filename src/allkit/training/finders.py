"""Finding a learning rate and a batch size by trying, on copies of everything."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from allkit.errors import AllkitError
from allkit.training.loop import Loop
from allkit.training.memory import free_bytes
from allkit.training.run import TrainingRun

__all__ = ["BatchSizes", "LearningRates", "batch_sizes", "learning_rates"]

LOWEST, HIGHEST = 1e-6, 1.0
SMOOTHING = 0.9
DIVERGED = 4.0
"""The search ends when the loss is so many times the best one."""
MEMORY_SHARE = 0.25
"""Share of the processor's free memory that a batch may take."""


@dataclass(frozen=True)
class LearningRates:
    """The loss, smoothed, at rising learning rates, and the rate to take."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float
    """A tenth of the rate at which the loss is lowest (Smith 2017): it is already rising there."""


@dataclass(frozen=True)
class BatchSizes:
    """How many images go through the network and back at once, and how fast."""

    sizes: tuple[int, ...]
    images_per_second: tuple[float, ...]
    largest: int
    """The largest of the tried sizes that fits."""
    fastest: int


def learning_rates(loop: Loop, *, steps: int = 100) -> LearningRates:
    """Train a copy of the member for `steps` steps at rates from 1e-6 to 1; nothing else changes.

    The loop's member, optimiser and place, and torch's generator, are left as they were.
    """
    rates = np.geomspace(LOWEST, HIGHEST, max(2, steps))
    losses: list[float] = []
    average, best = 0.0, math.inf
    for number, loss in enumerate(copied(loop).trial(rates)):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smooth = average / (1 - SMOOTHING ** (number + 1))
        if not math.isfinite(smooth) or (number > steps // 10 and smooth > DIVERGED * best):
            break
        best = min(best, smooth)
        losses.append(smooth)
    # The first few averages rest on one or two batches.
    settled = min(len(losses) - 1, steps // 10)
    lowest = settled + int(np.argmin(losses[settled:]))
    tried = tuple(float(rate) for rate in rates[: len(losses)])
    return LearningRates(tried, tuple(losses), float(f"{tried[lowest] / 10:.1e}"))


def batch_sizes(loop: Loop, *, most: int = 1024) -> BatchSizes:
    """Send 1, 2, 4, … images through a copy of the network and back, until they do not fit.

    It also ends when two doublings gave no more speed. On a processor, where a lack of memory
    ends the process, a size is not tried if it would take more than a quarter of the free memory,
    estimated from what the smaller sizes kept for the backward pass.
    """
    trial = copied(loop)
    sizes: list[int] = []
    speeds: list[float] = []
    size = 1
    while size <= most:
        with _counted() as kept:
            if not trial.fits(size):
                break
        start = time.perf_counter()
        trial.fits(size)
        speeds.append(size / (time.perf_counter() - start))
        sizes.append(size)
        # The gradients of the backward pass take about as much again.
        if trial.device.type == "cpu" and 4 * kept[0] > MEMORY_SHARE * free_bytes():
            break
        if max(speeds[-2:]) < 1.02 * max(speeds[:-2], default=0.0):
            break
        size *= 2
    if not sizes:
        raise AllkitError(
            f"Not even one image fits into the memory of {loop.device}: use a smaller backbone, or "
            f"another device."
        )
    fastest = sizes[int(np.argmax(speeds))]
    return BatchSizes(tuple(sizes), tuple(speeds), sizes[-1], fastest)


def copied(loop: Loop) -> Loop:
    """Return a loop over a copy of the member, with an optimiser of its own and no run folder."""
    member, stages = copy.deepcopy((loop.member, loop.plan.stages))
    plan = replace(loop.plan, stages=stages)
    return replace(loop, member=member, plan=plan, run=TrainingRun(), recorder=None)


@contextlib.contextmanager
def _counted() -> Iterator[list[int]]:
    """Count the bytes that are kept for the backward pass, in the one element of a list."""
    kept = [0]

    def count(tensor: torch.Tensor) -> torch.Tensor:
        kept[0] += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        yield kept
