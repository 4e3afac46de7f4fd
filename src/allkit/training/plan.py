"""The plan of one phase of a training, and its place in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import nn

__all__ = ["ENDED", "Epoch", "History", "Place", "Plan", "Recorder"]

History = list[dict[str, float]]
ENDED = "ended_by_callback"
"""What the last entry of a phase holds besides, if a callback ended it."""


class Recorder(Protocol):
    """Takes the metrics of every epoch, for a log."""

    def log(self, values: Mapping[str, float | int | str]) -> None:
        """Take one line of metrics."""


@dataclass(frozen=True)
class Epoch:
    """What a callback is told after an epoch.

    `member` counts from 0, over all divisions; `phase` is `head`, `last`, `full` or `lora`; `epoch` is
    the one that ended, from 1, of at most `epochs` of this phase. `metrics` holds `train_loss`,
    `train_accuracy`, `val_loss` and `val_accuracy`; the last two are NaN without a validation part.
    """

    member: int
    phase: str
    epoch: int
    epochs: int
    metrics: Mapping[str, float]

    @classmethod
    def of(
        cls, entry: Mapping[str, float], *, member: int, phase: str, place: tuple[int, int]
    ) -> Epoch:
        """Return the record of an entry of the history; `place` is the epoch and how many there are."""
        unknown = {"val_loss": math.nan, "val_accuracy": math.nan}
        metrics = unknown | {name: value for name, value in entry.items() if name != "epoch"}
        return cls(member, phase, *place, metrics)


@dataclass(frozen=True)
class Plan:
    """The plan of one phase."""

    phase: str
    epochs: int
    batch_size: int
    learning_rate: float
    precision: str = "float32"
    clip: float = 0.0
    stages: tuple[nn.Module, ...] = ()
    """The stages that are trained beside the head, the last first."""
    progressive: bool = False
    """Unfreeze one stage after another in the first half of the epochs, instead of all at once."""
    choosing: bool = True
    """Whether the validation part may choose the epoch; in cross-validation it may not."""
    starts_good: bool = False
    """Whether the weights at the start are a candidate for the best."""
    offset: int = 0
    """Epochs of the phases before."""

    def unfrozen(self, epoch: int) -> int:
        """Return how many stages learn in epoch number `epoch`, counted from 0."""
        if not self.progressive:
            return len(self.stages)
        return min(len(self.stages), 1 + 2 * epoch * len(self.stages) // max(self.epochs, 1))


@dataclass
class Place:
    """The place within a phase, and its record: everything that is saved beside the weights."""

    epoch: int = 0
    step: int = 0
    updates: int = 0
    loss: float = 0.0
    hits: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0
    stopped: bool = False
    told: int = 0
    """Epochs after which the callbacks were called."""
    history: History = field(default_factory=list)
