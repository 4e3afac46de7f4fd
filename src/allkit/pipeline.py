"""From pixels to probabilities as one module: what exporters write."""

from __future__ import annotations

import torch
from torch import nn

from allkit.network import Network, signed_root
from allkit.records import InputSpec
from allkit.runtime.trust import NEAREST, NEIGHBOURS, STRANGEST, Trust
from allkit.transforms import Standardise

__all__ = ["Pipeline"]


class Calibrated(nn.Module):
    """From logits and features to probabilities, as `Trust.probabilities`, in torch operations."""

    def __init__(self, trust: Trust) -> None:
        super().__init__()
        self.temperature = trust.temperature or 1.0
        self.softening = trust.softening
        self.space = trust.content if trust.softening else None
        if self.space is not None:
            for name in ("mean", "projection"):
                self.register_buffer(name, torch.tensor(getattr(self.space, name)))
            self.owned: list[str | None] = []
            for index in range(len(trust.classes)):
                own = torch.tensor(self.space.references[self.space.owners == index])
                self.owned.append(f"references_{index}" if len(own) else None)
                self.register_buffer(f"references_{index}", own)

    def forward(self, logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Map logits `(N, K)` and features `(N, D)` to probabilities `(N, K)`."""
        if self.space is None:
            return torch.softmax(logits / self.temperature, dim=1)
        points = (signed_root(features) - self.get_buffer("mean")) @ self.get_buffer("projection")
        distances = [self._distance(points, name) for name in self.owned]
        table = torch.stack(distances, dim=1)
        distance = table.gather(1, logits.argmax(dim=1, keepdim=True))
        strange = (distance.clamp(min=NEAREST).log() - self.space.centre) / self.space.scale
        rise = torch.exp(self.softening * strange.clamp(0.0, STRANGEST))
        return torch.softmax(logits / (self.temperature * rise), dim=1)

    def _distance(self, points: torch.Tensor, name: str | None) -> torch.Tensor:
        if name is None:
            return torch.full_like(points[:, 0], float("inf"))
        references = self.get_buffer(name)
        squares = (
            (points**2).sum(dim=1, keepdim=True)
            + (references**2).sum(dim=1)
            - 2 * points @ references.T
        )
        count = min(NEIGHBOURS, len(references))
        nearest = torch.topk(squares.clamp(min=0.0), count, dim=1, largest=False).values
        return nearest.mean(dim=1).sqrt()


class Pipeline(nn.Module):
    """The whole way from uint8 pixels to probabilities, as one module: what exporters write."""

    def __init__(self, spec: InputSpec, network: Network, trust: Trust) -> None:
        super().__init__()
        self.standardise = Standardise(spec)
        self.network = network
        self.calibrated = Calibrated(trust)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Map `(N, H, W, 3)` uint8 RGB to probabilities, logits `(N, K)`, features `(N, D)`."""
        inputs = self.standardise(pixels)
        features = self.network.features(inputs)
        logits = self.network.classify(features)
        return self.calibrated(logits, features), logits, features
