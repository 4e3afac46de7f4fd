"""Messages for a training that failed: what to lower, what still fits, and what is kept."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import torch

from allkit.config.spelling import setting
from allkit.errors import AllkitError, PluginError
from allkit.training.memory import out_of_memory
from allkit.training.plan import Plan

__all__ = ["NotANumber", "explained", "memory_advice"]


class NotANumber(Exception):
    """The loss or the gradient of a step is infinite or no number; its text says which."""


def explained(
    error: Exception, *, plan: Plan, backbone: str, here: str, kept: str, advice: Callable[[], str]
) -> Exception:
    """Return the error to raise for one that ended a step; a bug is returned as it is.

    `here` names epoch and step, `kept` says what can be continued; `advice` is called when memory
    ran out.
    """
    if isinstance(error, NotANumber):
        rate = "learning_rate" if plan.phase == "head" else "finetune_learning_rate"
        return AllkitError(
            f"The {error} is no longer a number {here}. Lower {rate} (now "
            f"{plan.learning_rate:g}) or check the backbone's features. {kept}"
        )
    if out_of_memory(error):
        # What the failed step computed is held by its frames; the advice has to try without it.
        traceback.clear_frames(error.__traceback__)
        return AllkitError(f"{advice()} It happened {here}. {kept}")
    if isinstance(error, PluginError):
        return PluginError(f"{error} It happened {here}. {kept}")
    if plan.stages:
        return PluginError(
            f"The backbone {backbone!r} failed {here}: {type(error).__name__}: "
            f"{str(error)[:300]}. {kept}"
        )
    return error


def memory_advice(
    at_once: int, *, accumulation: int, device: torch.device, fits: Callable[[int], bool]
) -> str:
    """Return how to train with less memory: the largest half, quarter, … of `at_once` that fits."""
    lack = f"Out of memory with {at_once} images at once on {device}."
    size = at_once
    while size > 1:
        size = -(-size // 2)
        if fits(size):
            parts = accumulation * -(-at_once // size)
            return f"{lack} {size} fit: give {setting('accumulation', parts)}, for the same result."
    return f"{lack} Not even one fits: use a smaller backbone, or another device."
