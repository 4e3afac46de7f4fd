"""From pixels to probabilities as one module: what exporters write."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from allkit.network.modules import Network, pool, signed_sqrt
from allkit.network.standardise import Standardise
from allkit.records import InputSpec
from allkit.trust.space import HIGHEST_SCORE, NEAREST, NEIGHBOURS
from allkit.trust.verdict import Trust

__all__ = ["Pipeline"]


class Calibrated(nn.Module):
    """From logits and features to probabilities, as `Trust.probabilities`, in torch operations."""

    def __init__(self, trust: Trust) -> None:
        super().__init__()
        self.temperature = trust.temperature or 1.0
        self.density_slope = trust.density_slope
        self.space = trust.content if trust.density_slope else None
        if self.space is not None:
            for name in ("mean", "projection"):
                self.register_buffer(name, torch.tensor(getattr(self.space, name)))
            self.buffers_of_classes: list[str | None] = []
            for index in range(len(trust.classes)):
                references = torch.tensor(self.space.references[self.space.owners == index])
                self.buffers_of_classes.append(f"references_{index}" if len(references) else None)
                self.register_buffer(f"references_{index}", references)

    def forward(self, logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Map logits `(N, K)` and features `(N, D)` to probabilities `(N, K)`."""
        if self.space is None:
            return torch.softmax(logits / self.temperature, dim=1)
        points = (signed_sqrt(features) - self.get_buffer("mean")) @ self.get_buffer("projection")
        distances = [self._distance(points, name) for name in self.buffers_of_classes]
        table = torch.stack(distances, dim=1)
        distance = table.gather(1, logits.argmax(dim=1, keepdim=True))
        score = (distance.clamp(min=NEAREST).log() - self.space.centre) / self.space.scale
        rise = torch.exp(self.density_slope * score.clamp(0.0, HIGHEST_SCORE))
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
    """The whole way from uint8 pixels to probabilities, as one module: what exporters write.

    Where the bag holds cells, they are found outside, by `allkit.images.cells`, and `places` says
    where they are. `tiled`, the pixels are those of tiles, and `shares` says of which images.
    """

    def __init__(
        self, spec: InputSpec, network: Network, trust: Trust, *, tiled: bool = False
    ) -> None:
        super().__init__()
        self.bag = spec.bag
        self.tiled = tiled and spec.bag != "field"
        self.standardise = Standardise(spec)
        self.network = network
        self.calibrated = Calibrated(trust)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the inputs, in order."""
        if self.bag == "field":
            return ("pixels",)
        return ("pixels", "places", "shares") if self.tiled else ("pixels", "places")

    def example(self) -> tuple[torch.Tensor, ...]:
        """Return inputs as they may be, to trace the module with."""
        # Of tiles there are more than images: sizes that are alike could be taken for one.
        pixels = torch.zeros(4 if self.tiled else 2, 224, 320, 3, dtype=torch.uint8)
        places = torch.tensor([[0.0, 60.0, 70.0], [1.0, 90.0, 20.0], [1.0, 150.0, 110.0]])
        shares = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1 / 3, 1 / 3, 1 / 3]])
        return (pixels, places, shares)[: len(self.names)]

    def dynamic_shapes(self) -> tuple[dict[int, Any], ...]:
        """Return which sizes of the inputs are free, for `torch.export`."""
        free = torch.export.Dim.DYNAMIC
        return ({0: free, 1: free, 2: free}, {0: free}, {0: free, 1: free})[: len(self.names)]

    def forward(
        self,
        pixels: torch.Tensor,
        places: torch.Tensor | None = None,
        shares: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Map `(T, H, W, 3)` uint8 RGB to probabilities, logits `(N, K)`, features `(N, D)`.

        `places` `(M, 3)` float32 is the position among these T, x and y of each cell. Without
        `shares` the T are the N images themselves. `shares` `(N, T)` float32 is how much each counts
        for each image: those of one image alike and 1 in all, those of others 0.
        """
        field, crops = None, None
        if places is None:
            field = self.standardise(pixels)
        elif self.bag == "cells":
            crops = self.standardise.cells(pixels, places)
        else:
            field, crops = self.standardise.both(pixels, places)
        parts = []
        if field is not None:
            of_tiles = self.network.features(field)
            parts.append(of_tiles if shares is None else shares @ of_tiles)
        if places is not None and crops is not None:
            owners = places[:, 0].round().long()
            count = pixels.shape[0]
            if shares is not None:
                image_of_tile = shares.argmax(dim=0)
                owners = torch.where(owners < 0, -1, image_of_tile[owners.clamp(min=0)])
                count = shares.shape[0]
            parts.append(pool(self.network.features(crops), owners, count))
        features = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        logits = self.network.classify(features)
        return self.calibrated(logits, features), logits, features
