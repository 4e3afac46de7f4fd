"""The one standardisation: from uint8 pixels to what a backbone is given.

It is written in torch operations only, so that it runs in training and prediction and is part of
every exported graph: nothing has to be implemented again on the other side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from allkit.batches import by_shape
from allkit.records import SCALE_BAR, InputSpec

__all__ = ["Haematoxylin", "Standardise", "to_batches"]


class Standardise(nn.Module):
    """Resize the whole image to S × S, scale to 0–1, take the view, subtract the mean, divide.

    The whole image is kept: nothing is cropped, since a crop may cut away the cell that matters;
    an image that is not square changes its proportions. The resize is an antialiased bilinear
    one, written as two matrix products with triangle-filter weights (the filter of Pillow's and
    torch's antialiased resize), because that form is exact in every export.
    """

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.size = spec.size
        self.view = Haematoxylin(spec.size) if spec.view == "haematoxylin" else nn.Identity()
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)
        self.mean: torch.Tensor
        self.std: torch.Tensor

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map `(N, H, W, 3)` uint8 RGB to `(N, 3, S, S)` float32."""
        image = pixels.permute(0, 3, 1, 2).to(torch.float32)
        if not torch.compiler.is_exporting() and image.shape[2:] == (self.size, self.size):
            return self._seen(image)  # the weights would be the identity
        rows = _resize_weights(image.shape[2], self.size, image.device)  # (S, H)
        columns = _resize_weights(image.shape[3], self.size, image.device)  # (S, W)
        return self._seen(rows @ image @ columns.T)

    def _seen(self, image: torch.Tensor) -> torch.Tensor:
        return (cast(torch.Tensor, self.view(image / 255.0)) - self.mean) / self.std


class Haematoxylin(nn.Module):
    """How much nuclear stain is where, on a scale of the image's own: what colour does not reach.

    Colour deconvolution (Ruifrok & Johnston 2001, with their vectors of haematoxylin, eosin and
    the residual) of the optical density gives the share of the stain that nuclei take up. Its
    lowest 1 % become white and its highest 0.5 % black, so that neither the strength of the stain
    nor the light of the microscope is seen. The lower right corner, where microscopes burn in a
    scale bar, is white.
    """

    LOW, HIGH = 0.01, 0.005

    def __init__(self, size: int) -> None:
        super().__init__()
        stains = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
        stains = stains / stains.norm(dim=1, keepdim=True)
        share = torch.linalg.inv(stains)[:, 0].view(1, 3, 1, 1)
        shown = torch.ones(1, 1, size, size)
        shown[..., int(SCALE_BAR[0] * size) :, int(SCALE_BAR[1] * size) :] = 0.0
        self.low, self.high = (max(1, round(part * size * size)) for part in (self.LOW, self.HIGH))
        self.register_buffer("share", share, persistent=False)
        self.register_buffer("shown", shown, persistent=False)
        self.share: torch.Tensor
        self.shown: torch.Tensor

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map `(N, 3, S, S)` in 0–1 to `(N, 3, S, S)` in 0–1, the three channels alike."""
        density = -torch.log((image * 255.0 + 1.0) / 256.0)
        stain = (density * self.share).sum(dim=1, keepdim=True)
        # What is not shown is as pale as the middle of the image while the ends are sought.
        middle = stain.mean(dim=(2, 3), keepdim=True)
        inside = (stain * self.shown + middle * (1 - self.shown)).flatten(1)
        # By the largest values, because every export knows them, which quantiles it may not.
        high = inside.topk(self.high, dim=1).values[:, -1].view(-1, 1, 1, 1)
        low = -(-inside).topk(self.low, dim=1).values[:, -1].view(-1, 1, 1, 1)
        scaled = ((stain - low) / (high - low).clamp(min=FLAT)).clamp(0.0, 1.0)
        return (1.0 - scaled * self.shown).expand(-1, 3, -1, -1)


FLAT = 0.02
"""Optical density; an image whose stain varies less is empty, and its noise is not blown up."""


def _resize_weights(length: int, size: int, device: torch.device) -> torch.Tensor:
    """Return the `(size, length)` weights that resample `length` pixels to `size`.

    A triangle filter whose half-width is one output pixel when shrinking and one input pixel
    when enlarging; the identity when nothing changes.
    """
    output = torch.arange(size, dtype=torch.float32, device=device)
    source = torch.arange(length, dtype=torch.float32, device=device)
    # A tensor, not a Python number: the length may be symbolic while a graph is exported.
    scale = source.new_ones(()) * length / size
    support = torch.clamp(scale, min=1.0)
    centre = (output + 0.5) * scale - 0.5
    weights = torch.clamp(1.0 - (source[None, :] - centre[:, None]).abs() / support, min=0.0)
    return weights / weights.sum(dim=1, keepdim=True)


def to_batches(
    images: Sequence[npt.NDArray[np.uint8]],
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Yield (positions in `images`, `(n, H, W, 3)` uint8) for each shape there is."""
    for indices, pixels in by_shape(images):
        yield indices, torch.from_numpy(pixels)
