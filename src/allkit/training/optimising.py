"""What takes the steps of a phase: groups of parameters, the optimiser, the learning rate of each step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from allkit.config import TrainConfig
from allkit.training.member import Member
from allkit.training.own import OwnParts
from allkit.training.plan import Plan

__all__ = ["Schedule", "optimiser_of"]


def optimiser_of(
    member: Member, plan: Plan, config: TrainConfig, own: OwnParts
) -> torch.optim.Optimizer:
    """Return AdamW, or the user's own, over the head and stage after stage, each slower than the one before.

    Every group holds its own learning rate under `base`, and its stage, if it is one, under `stage`.
    """
    groups = list(_groups(member, plan, config))
    optimiser = own.optimiser(groups, plan.learning_rate)
    if optimiser is None:
        return torch.optim.AdamW(groups, lr=plan.learning_rate)
    for group, wanted in zip(optimiser.param_groups, groups, strict=True):
        slower = wanted["base"] / plan.learning_rate
        group |= {name: wanted[name] for name in ("stage",) if name in wanted}
        group["base"] = float(group["lr"]) * slower
        group["lr"] = group["base"]
    return optimiser


def _groups(member: Member, plan: Plan, config: TrainConfig) -> Iterator[dict[str, Any]]:
    rate = plan.learning_rate
    decay = config.weight_decay if plan.stages else config.head_decay
    yield {"params": list(member.head.linear.parameters()), "base": rate, "weight_decay": decay}
    for depth, stage in enumerate(plan.stages):
        trained = [p for p in stage.parameters() if p.requires_grad]
        for params, decay in (
            ([p for p in trained if p.ndim > 1], config.weight_decay),
            ([p for p in trained if p.ndim <= 1], 0.0),  # biases and norms are not shrunk
        ):
            if params:
                slower = rate * config.layer_decay**depth
                yield {"params": params, "base": slower, "weight_decay": decay, "stage": depth}


@dataclass
class Schedule:
    """Sets the learning rate of each of `steps` steps.

    Without an own scheduler it warms up linearly, then falls to zero as a cosine: a function of how
    many steps were taken. An own one is asked for each step again when a training is taken up.
    """

    optimiser: torch.optim.Optimizer
    config: TrainConfig
    own: OwnParts
    steps: int
    fixed: float | None = field(default=None, init=False)
    """A share of each group's learning rate in place of the schedule's: for the finders."""

    def __post_init__(self) -> None:
        self._after = self.own.schedule(self.optimiser, self.steps)

    def take_up(self, done: int) -> None:
        """Bring an own scheduler to where it was after `done` steps."""
        if self._after is None:
            return
        with warnings.catch_warnings():
            # torch expects a step of the optimiser before each.
            warnings.simplefilter("ignore", UserWarning)
            for _ in range(done):
                self._after()

    def before(self, done: int) -> None:
        """Set the learning rates for the step after `done` ones."""
        if self.fixed is None and self._after is not None:
            return
        factor = self.fixed if self.fixed is not None else self._factor(done)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * factor

    def after(self) -> None:
        """Tell an own scheduler that a step was taken."""
        if self.fixed is None and self._after is not None:
            self._after()

    def _factor(self, done: int) -> float:
        warm = round(self.config.warmup * self.steps)
        if done < warm:
            return (done + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (done - warm) / max(1, self.steps - warm)))
