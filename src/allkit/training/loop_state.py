"""Everything that the next step of a training depends on, and how it is saved and restored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from allkit.errors import PluginError
from allkit.training.averaging import Average
from allkit.training.member import Member
from allkit.training.plan import History, Place
from allkit.training.run import Saved, taking_up

__all__ = ["LoopState"]


@dataclass
class LoopState:
    """The weights of a member, its optimiser and averages, and where its phase is."""

    member: Member
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: Average | None = None
    """The moving average of the weights, where there is one."""
    place: Place = field(default_factory=Place)
    best: dict[str, torch.Tensor] | None = None
    """The weights of the best epoch so far."""

    @property
    def judged(self) -> nn.Module:
        """The member that is judged: the average, where there is one."""
        return self.member if self.average is None else self.average.module

    def remember_best(self, loss: float, epoch: int) -> None:
        """Keep the weights if `loss` is the lowest so far."""
        if loss < self.place.best_loss:
            self.place.best_loss, self.place.best_epoch = loss, epoch
            self.best = {k: v.detach().clone() for k, v in self.judged.state_dict().items()}

    def keep(self, which: str) -> None:
        """Give the member its final weights of the phase: `best`, or the last ones."""
        if self.best is not None and which == "best":
            self.member.load_state_dict(self.best)
        elif self.average is not None:
            self.member.load_state_dict(self.average.module.state_dict())

    def saved(self, *, member: int, phase: str, earlier: History) -> Saved:
        """Return the state as tensors and facts, with the member and phase it belongs to."""
        tensors = {f"member.{k}": v for k, v in self.member.state_dict().items()}
        for index, parameter in enumerate(self._parameters()):
            for key, value in self.optimiser.state.get(parameter, {}).items():
                if value is not None:  # as the momentum of an SGD without
                    tensors[f"optimiser.{index}.{key}"] = _tensor(value, key)
        if self.average is not None:
            state = self.average.module.state_dict()
            tensors |= {f"average.{k}": v for k, v in state.items()}
        if self.best is not None:
            tensors |= {f"best.{k}": v for k, v in self.best.items()}
        # A copy of each: safetensors refuses tensors that share memory.
        tensors = {k: v.detach().to("cpu", copy=True) for k, v in tensors.items()}
        place = vars(self.place) | {"best_loss": str(self.place.best_loss)}
        facts = {"member": member, "phase": phase, "earlier": earlier}
        return Saved(tensors, facts | {"scaler": self.scaler.state_dict(), **place})

    def take_up(self, saved: Saved, device: torch.device) -> None:
        """Restore what was saved."""
        with taking_up():
            self.member.load_state_dict(saved.part("member"))
            parameters = list(self._parameters())
            for name, value in saved.part("optimiser").items():
                index, key = name.split(".", 1)
                parameter = parameters[int(index)]
                # AdamW keeps the count of steps on the CPU.
                target = value if key == "step" else value.to(device)
                if target.ndim == 4:
                    target = target.contiguous(memory_format=torch.channels_last)
                self.optimiser.state[parameter][key] = target
            if self.average is not None:
                self.average.module.load_state_dict(saved.part("average"))
            best = saved.part("best")
            self.best = {k: v.to(device) for k, v in best.items()} if best else None
            self.scaler.load_state_dict(saved.facts["scaler"])
            known = {k: saved.facts[k] for k in vars(self.place)}
            self.place = Place(**known | {"best_loss": float(known["best_loss"])})

    def _parameters(self) -> Iterator[torch.Tensor]:
        for group in self.optimiser.param_groups:
            yield from group["params"]


def _tensor(value: object, key: str) -> torch.Tensor:
    """Return a part of an optimiser's state as it is saved."""
    if isinstance(value, (torch.Tensor, int, float)):
        return torch.as_tensor(value)
    raise PluginError(
        f"The optimizer keeps a {type(value).__name__} ({key}), which cannot be saved. Train without `out`, "
        f"or give an optimizer that keeps tensors and numbers."
    )
