"""A member: the last stages of a backbone and a head, which are trained together."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator

import torch
from torch import nn

from allkit.config import TrainConfig
from allkit.errors import ConfigError, PluginError
from allkit.network.calls import run
from allkit.network.modules import Head
from allkit.records import Backbone
from allkit.telemetry import import_silent

__all__ = ["Member", "cut_index", "stages_in", "with_adapters", "without_adapters"]


class Member(nn.Module):
    """The tail of a backbone and its head. The head alone has `nn.Identity()` for a tail.

    Batch normalisation keeps the statistics of the pretrained weights: those of a small batch of
    smears are worse, and would depend on how the batch is divided between processes.
    """

    def __init__(self, tail: nn.Module, head: Head) -> None:
        super().__init__()
        self.tail = tail
        self.head = head

    def forward(self, inputs: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """Map activations at the cut `(N, …)` to logits `(N, K)` float32; `keep` as for `Head`."""
        logits: torch.Tensor = self.head(run(self.tail, inputs).float(), keep)
        return logits

    def train(self, mode: bool = True) -> Member:
        """Switch dropout layers, but not batch normalisation, to training."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


def cut_index(backbone: nn.Module, record: Backbone, config: TrainConfig) -> int:
    """Return i such that `net[:i]` stays frozen and `net[i:]` is trained.

    Raises `ConfigError` when the backbone has no stages, or fewer than the settings need, and
    `PluginError` when it does not have the stages that it declares.
    """
    wanted = config.unfreeze or (1 if config.strategy == "last" else 0)
    names = [name for name, _ in backbone.named_children()]
    if record.stages and (
        not isinstance(backbone, nn.Sequential) or not set(record.stages) <= set(names)
    ):
        lacking = sorted(set(record.stages) - set(names))
        raise PluginError(
            f"The backbone {record.name!r} declares the stages {', '.join(record.stages)}, but "
            + (f"has no child named {lacking[0]!r}." if lacking else "is no nn.Sequential of them.")
        )
    if not wanted:
        return 0
    if not record.stages:
        raise ConfigError(
            f"The backbone {record.name!r} declares no stages, so it cannot be cut. Use the "
            f"strategy head, or full with unfreeze = 0."
        )
    if wanted > len(record.stages):
        raise ConfigError(
            f"unfreeze = {wanted}, but {record.name!r} has {len(record.stages)} stages: "
            f"{', '.join(record.stages)}."
        )
    return names.index(record.stages[-wanted]) if wanted < len(record.stages) else 0


def stages_in(tail: nn.Module, record: Backbone) -> list[nn.Module]:
    """Return the modules of `tail` that are unfrozen one after another, the last stage first.

    A child that is not a declared stage belongs to the stage before it.
    """
    if not isinstance(tail, nn.Sequential) or not record.stages:
        return [tail]
    groups: list[list[nn.Module]] = []
    for name, child in tail.named_children():
        if name in record.stages or not groups:
            groups.append([])
        groups[-1].append(child)
    return [nn.ModuleList(group) for group in reversed(groups)]


def with_adapters(tail: nn.Module, rank: int, seed: int) -> nn.Module:
    """Return `tail` with low-rank adapters (LoRA, Hu et al. 2022) beside its layers, through peft.

    Linear layers and ungrouped convolutions get one; everything else stays as it is, frozen.
    Raises `ConfigError` when peft is not installed or no layer fits.
    """
    try:
        peft = import_silent("peft")
    except ImportError:
        raise ConfigError(
            "The strategy lora needs peft. Type: pip install 'allkit[lora]'"
        ) from None
    names = [name for name, _ in _adaptable(tail)]
    if not names:
        raise ConfigError(
            "The trained part of the backbone has no linear layer and no convolution for adapters. "
            "Use the strategy last or full."
        )
    tail = copy.deepcopy(tail).requires_grad_(False)
    settings = peft.LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=names)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.random.manual_seed(seed)
        adapted: nn.Module = peft.inject_adapter_in_model(settings, tail)
        return adapted


def without_adapters(tail: nn.Module) -> nn.Module:
    """Return the plain module into which the adapters of `with_adapters` are merged."""
    layers = import_silent("peft.tuners.lora")
    for name, module in list(tail.named_modules()):
        if isinstance(module, layers.LoraLayer):
            module.merge()
            parent = tail.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())
    return tail.requires_grad_(False)


def _adaptable(tail: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in tail.named_modules():
        plain = isinstance(module, nn.Conv2d) and module.groups == 1
        if name and (plain or isinstance(module, nn.Linear)):
            yield name, module
