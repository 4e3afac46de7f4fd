"""The network: a backbone's features, pooled over an image's inputs, and one or more heads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from torch import nn

from allkit.config.own import is_own
from allkit.errors import CheckpointError, PluginError
from allkit.network.around import ordinary
from allkit.network.calls import Maker, made_by, maker_of, run
from allkit.plugins import calling
from allkit.records import Backbone, Bag, InputSpec, Weights

__all__ = [
    "Branches",
    "Head",
    "Network",
    "Oriented",
    "Plain",
    "build_backbone",
    "cut",
    "fingerprint",
    "joined",
    "measure_width",
    "named",
    "numbers_of",
    "other_numbers",
    "pool",
    "signed_sqrt",
]

FIELD_SHARE = 0.5
"""How much the features of the field count beside those of its cells, which other slides change less."""
ORIENTATIONS = 8
"""Four quarter turns, each mirrored or not: the ways in which a square field can lie."""


class Head(nn.Module):
    """Features `(N, D)` → logits `(N, K)`: signed square root, standardisation, dropout, linear.

    Pooled activations have long tails; their square root is what a linear layer separates best
    (power normalisation, Perronnin et al. 2010). Mean and deviation are those of the training
    features and are part of the saved model.
    """

    def __init__(self, width: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.mean: torch.Tensor
        self.scale: torch.Tensor
        self.dropout = dropout
        self.linear = nn.Linear(width, classes)

    @torch.no_grad()
    def fit_scale(self, blocks: Iterable[torch.Tensor], bag: Bag = "field") -> None:
        """Take mean and deviation from the training features, blocks of `(n, D)` float32.

        Where these are of the field and its cells side by side, those of the field are halved.
        """
        count, sums, squares = 0, torch.zeros(()), torch.zeros(())
        for block in blocks:
            roots = signed_sqrt(block).double()
            count += len(roots)
            sums = sums + roots.sum(dim=0)
            squares = squares + roots.square().sum(dim=0)
        mean = sums / count
        deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
        self.mean.copy_(mean)
        # A feature that never changes must not be blown up when it once does.
        self.scale.copy_(1.0 / deviation.clamp(min=1e-3 * float(deviation.max()) + 1e-8))
        if bag == "both":
            self.scale[: len(self.scale) // 2] *= FIELD_SHARE

    def forward(self, features: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """Map `(N, D)` float32 to logits `(N, K)` float32.

        `keep` is `(N, D)` float32, the dropout mask of a training step: 0, or 1 / (1 - dropout).
        It is given rather than drawn here, so that several processes drop what one would drop.
        """
        normalised = self.standardised(features)
        if keep is not None:
            normalised = normalised * keep
        return cast(torch.Tensor, self.linear(normalised))

    def standardised(self, features: torch.Tensor) -> torch.Tensor:
        """Return `(N, D)` float32, what the linear layer sees of features without dropout.

        Raises `CheckpointError` where a description that is not the head's own led to other features.
        """
        if features.shape[1] != len(self.mean):
            raise CheckpointError(
                f"The head takes {len(self.mean)} features, and the backbone gives {features.shape[1]} with "
                f"the model's backbone.width and backbone.bag. Copy the model again, or train again."
            )
        return (signed_sqrt(features) - self.mean) * self.scale


def signed_sqrt(features: torch.Tensor) -> torch.Tensor:
    """Return sign(x) · √|x|, elementwise."""
    return features.sign() * features.abs().sqrt()


class Branches(nn.Module):
    """One frozen trunk, and on it the last stages of every member of an ensemble.

    Maps `(N, 3, S, S)` to the features of all members side by side, `(N, M · D)`.
    """

    def __init__(self, trunk: nn.Module, tails: list[nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.tails = nn.ModuleList(tails)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map `(N, 3, S, S)` float32 to `(N, M · D)`."""
        shared = run(self.trunk, inputs)
        return torch.cat([run(tail, shared) for tail in self.tails], dim=1)


class Oriented(nn.Module):
    """Test-time augmentation: the mean of a backbone's features over the eight orientations."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map square inputs `(N, 3, S, S)` to `(N, D)`, one orientation at a time."""
        return over_orientations(self.backbone, inputs)


def over_orientations(backbone: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return the mean of `backbone` over the eight orientations of `inputs` `(N, 3, S, S)`."""
    total = run(backbone, inputs) / ORIENTATIONS
    for number in range(1, ORIENTATIONS):
        total = total + run(backbone, oriented(inputs, number)) / ORIENTATIONS
    return total


def oriented(inputs: torch.Tensor, number: int) -> torch.Tensor:
    """Return square `inputs` `(N, C, S, S)` in orientation 0 to 7; 0 is as they are."""
    # Flips and a transposition only: every export knows them.
    if number & 1:
        inputs = inputs.flip(3)
    if number & 2:
        inputs = inputs.flip(2)
    return inputs.transpose(2, 3) if number & 4 else inputs


def cut(backbone: nn.Module, index: int) -> tuple[nn.Module, nn.Module]:
    """Return the trunk `net[:index]` and the tail `net[index:]`; they share the modules.

    A backbone that is no `nn.Sequential` is all tail, and `index` must be 0.
    """
    if index == 0:
        return nn.Identity(), backbone
    if not isinstance(backbone, nn.Sequential):
        raise ValueError("only an nn.Sequential can be cut")
    maker = maker_of(backbone, whole=False)
    return made_by(backbone[:index], maker), made_by(backbone[index:], maker)


def joined(trunk: nn.Module, tail: nn.Module) -> nn.Module:
    """Return the backbone again that `cut` divided, with the names of its children."""
    if isinstance(trunk, nn.Identity):
        return tail
    children = [*trunk.named_children(), *tail.named_children()]
    return made_by(nn.Sequential(OrderedDict(children)), maker_of(tail))


class Network(nn.Module):
    """Backbone and heads; the logits are the mean over the heads (the members of an ensemble).

    An image gives a *bag* of inputs: the whole field, its white cells, or both. The features of
    its cells are averaged (`pool`), and stand beside those of the field. Where the backbone
    is `Branches`, each head sees the features of its own branch. With `orientations` the features
    are the mean over the eight orientations of each input.
    """

    def __init__(
        self, backbone: nn.Module, heads: list[Head], *, orientations: bool = False
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleList(heads)
        self.orientations = orientations

    def embedding(self) -> nn.Module:
        """Return the module that makes the features which `classify` takes, orientations included."""
        return Oriented(self.backbone) if self.orientations else self.backbone

    def layers(self, name: str) -> list[nn.Module]:
        """Return the backbone's module `name`, one of each member where they differ in it."""
        if not isinstance(self.backbone, Branches):
            return [self.backbone.get_submodule(name)]
        try:
            return [self.backbone.trunk.get_submodule(name)]
        except AttributeError:
            return [tail.get_submodule(name) for tail in self.backbone.tails]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map inputs `(N, 3, S, S)` float32, each an image of its own, to logits `(N, K)`."""
        return self.classify(self.features(inputs))

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map inputs `(M, 3, S, S)` float32 to features `(M, D)`, orientations included."""
        if self.orientations:
            return over_orientations(self.backbone, inputs)
        return run(self.backbone, inputs)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Map pooled features `(N, D)`, or `(N, M · D)` of branches, float32 to logits `(N, K)`."""
        if isinstance(self.backbone, Branches):
            parts = features.chunk(len(self.heads), dim=1)
        else:
            parts = (features,) * len(self.heads)
        logits = [head(part) for head, part in zip(self.heads, parts, strict=True)]
        return torch.stack(logits).mean(dim=0)


def pool(features: torch.Tensor, owners: torch.Tensor, count: int | torch.SymInt) -> torch.Tensor:
    """Average the features `(M, D)` of each bag: `(N, D)` float32.

    `owners` `(M,)` is the bag of each, below 0 for none; `count` is N. An empty bag gives zeros.
    """
    # One product of matrices, because every export knows it.
    numbers = torch.arange(count, device=features.device)
    share = (owners[None, :] == numbers[:, None]).to(features.dtype)
    return (share / share.sum(dim=1, keepdim=True).clamp(min=1.0)) @ features


class Plain(nn.Module):
    """The network without test-time augmentation, one input an image: what maps are made of."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def layers(self, name: str) -> list[nn.Module]:
        """Return the module `name`, one of each member where they differ in it."""
        return self.network.layers(name)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map inputs `(N, 3, S, S)` float32 to logits `(N, K)`, with gradients that are finite."""
        features = run(self.network.backbone, inputs)
        if features.requires_grad:
            # The head's square root has an infinite slope where a feature is zero; it adds zero there.
            finite = partial(torch.nan_to_num, nan=0.0, posinf=0.0, neginf=0.0)
            features.register_hook(finite)  # type: ignore[no-untyped-call]  # torch gives it no types
        return self.network.classify(features)


@ordinary()
def build_backbone(record: Backbone, weights: Weights, origin: str) -> nn.Module:
    """Return a backbone in evaluation mode; raise `PluginError`, naming `origin`, when it fails."""
    # Random weights come from the global generator, which is put back.
    with (
        calling(origin, "backbone", record.name, "build"),
        torch.random.fork_rng(devices=[]),
    ):
        torch.random.manual_seed(0)
        module = record.build(weights)
        if not isinstance(module, nn.Module):
            raise PluginError(
                f"{origin}: the backbone {record.name!r} returned {module!r:.200} in `build`; it must "
                f"return an nn.Module."
            )
        return module.eval() if is_own(record.name) else named(module.eval(), record.name, origin)


def named(backbone: nn.Module, name: str, origin: str) -> nn.Module:
    """Return a backbone, whose failures from now on are named after the record and its package."""
    return made_by(backbone, Maker(origin, "backbone", name))


def measure_width(
    backbone: nn.Module, spec: InputSpec, name: str, *, batches: Sequence[int] = (1,)
) -> int:
    """Return D, by running the backbone on black images, in batches of these sizes.

    Raises `PluginError` when it is no backbone: it must give `(N, D)` finite numbers, the same D for
    every N.
    """
    maker = maker_of(backbone)
    whose = maker.named if maker else f"The backbone {name!r}"
    widths = []
    for count in batches:
        with torch.inference_mode():
            output = run(backbone.eval(), torch.zeros(count, 3, spec.size, spec.size))
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        if not isinstance(output, torch.Tensor) or output.ndim != 2 or output.shape[0] != count:
            raise PluginError(
                f"{whose} returned {shape} for {count} image{'s' if count > 1 else ''}; it must return "
                f"({count}, D). Its author has to pool the features."
            )
        if not bool(torch.isfinite(output).all()):
            raise PluginError(
                f"{whose} gave features that are no numbers for a black image. Its weights may be damaged."
            )
        widths.append(int(output.shape[1]))
    if len(set(widths)) > 1:
        told = ", ".join(f"({n}, {d})" for n, d in zip(batches, widths, strict=True))
        raise PluginError(
            f"{whose} returned {told} in `forward` for batches of {', '.join(map(str, batches))} images; D "
            f"must be the same for every batch."
        )
    if maker is not None:
        made_by(backbone, replace(maker, width=widths[0]))
    return widths[0]


def fingerprint(backbone: nn.Module, spec: InputSpec) -> tuple[float, ...]:
    """Return nine numbers that say what `backbone` computes: its features of a fixed input.

    The norm of the features `(1, D)`, and eight projections of them divided by it. Rounding moves
    them by far less than 0.001; other features do not.
    """
    parameter = next(iter(backbone.parameters()), torch.zeros(()))
    steps = torch.arange(3 * spec.size * spec.size, dtype=torch.float64)
    pattern = torch.sin(0.37 * steps) + torch.sin(0.0123 * steps)
    inputs = pattern.float().view(1, 3, spec.size, spec.size).to(parameter.device)
    with torch.inference_mode():
        features = run(backbone.eval(), inputs)[0]
    return numbers_of(features)


def numbers_of(values: torch.Tensor) -> tuple[float, ...]:
    """Return the norm of values `(D,)`, and eight projections of them divided by it."""
    values = values.double().cpu()
    norm = float(values.norm())
    places = torch.arange(1, len(values) + 1, dtype=torch.float64)
    shares = [float((values * torch.cos(places * k)).sum()) / (norm or 1.0) for k in range(1, 9)]
    return (norm, *shares)


def other_numbers(before: Sequence[float], today: Sequence[float]) -> bool:
    """Say whether two fingerprints differ by more than rounding moves them."""
    if len(before) != len(today):
        return True
    norm = abs(today[0] - before[0]) / (before[0] or 1.0)
    return max(norm, *(abs(a - b) for a, b in zip(today[1:], before[1:], strict=True))) > 1e-3
