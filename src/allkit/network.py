"""The network: a backbone's features, pooled over an image's inputs, and one or more heads."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from allkit.errors import AllkitError, PluginError
from allkit.records import Backbone, InputSpec, Weights
from allkit.transforms import Standardise

__all__ = [
    "Head",
    "Network",
    "Pipeline",
    "build_backbone",
    "fingerprint",
    "measure_width",
]


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
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, classes)

    def fit_scale(self, features: torch.Tensor) -> None:
        """Take mean and deviation from the training features `(N, D)` float32."""
        roots = signed_root(features)
        self.mean.copy_(roots.mean(dim=0))
        # A feature that never changes must not be blown up when it once does.
        deviation = roots.std(dim=0, correction=0)
        self.scale.copy_(1.0 / deviation.clamp(min=1e-3 * float(deviation.max()) + 1e-8))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map `(N, D)` float32 to logits `(N, K)` float32."""
        normalised = (signed_root(features) - self.mean) * self.scale
        return cast(torch.Tensor, self.linear(self.dropout(normalised)))


def signed_root(features: torch.Tensor) -> torch.Tensor:
    """Return sign(x) · √|x|, elementwise."""
    return features.sign() * features.abs().sqrt()


class Network(nn.Module):
    """Backbone and heads; the logits are the mean over the heads (the members of an ensemble).

    An image gives a *bag* of one or more inputs (the whole field; later its cells); their
    features are averaged before the heads see them. A field is a bag of one.
    """

    def __init__(self, backbone: nn.Module, heads: list[Head]) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleList(heads)

    def forward(self, inputs: torch.Tensor, bags: torch.Tensor | None = None) -> torch.Tensor:
        """Map inputs `(M, 3, S, S)` float32 to logits `(N, K)`.

        `bags` is `(M,)` int64, the image of each input, ascending from 0; `None` when every input
        is an image of its own (M = N).
        """
        return self.classify(pool(self.backbone(inputs), bags))

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Map pooled features `(N, D)` float32 to logits `(N, K)`."""
        return torch.stack([head(features) for head in self.heads]).mean(dim=0)


def pool(features: torch.Tensor, bags: torch.Tensor | None) -> torch.Tensor:
    """Average the features `(M, D)` of each bag: `(N, D)`."""
    if bags is None:
        return features
    count = int(bags[-1]) + 1
    sums = features.new_zeros(count, features.shape[1]).index_add_(0, bags, features)
    sizes = torch.bincount(bags, minlength=count).to(features.dtype)
    return sums / sizes[:, None]


class Pipeline(nn.Module):
    """The whole way from uint8 pixels to probabilities, as one module: what exporters write."""

    def __init__(self, spec: InputSpec, network: Network) -> None:
        super().__init__()
        self.standardise = Standardise(spec)
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map `(N, H, W, 3)` uint8 RGB to probabilities `(N, K)` float32."""
        return torch.softmax(self.network(self.standardise(pixels)), dim=1)


def build_backbone(record: Backbone, weights: Weights, origin: str) -> nn.Module:
    """Return a backbone in evaluation mode; raise `PluginError`, naming `origin`, when it fails."""
    try:
        # Random weights come from the global generator, which is put back.
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(0)
            return record.build(weights).eval()
    except AllkitError:
        raise
    except Exception as error:
        raise PluginError(
            f"The backbone {record.name!r} of {origin} could not be built: "
            f"{type(error).__name__}: {str(error)[:300]}"
        ) from error


def measure_width(backbone: nn.Module, spec: InputSpec, name: str) -> int:
    """Return D, by running the backbone once; raise `PluginError` when it is no backbone."""
    with torch.inference_mode():
        output = backbone.eval()(torch.zeros(1, 3, spec.size, spec.size))
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if not isinstance(output, torch.Tensor) or output.ndim != 2 or output.shape[0] != 1:
        raise PluginError(
            f"The backbone {name!r} returned {shape} for one image; it must return (1, D). Its "
            f"author has to pool the features."
        )
    return int(output.shape[1])


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
        features = backbone.eval()(inputs)[0].double().cpu()
    norm = float(features.norm())
    places = torch.arange(1, len(features) + 1, dtype=torch.float64)
    shares = [float((features * torch.cos(places * k)).sum()) / (norm or 1.0) for k in range(1, 9)]
    return (norm, *shares)
