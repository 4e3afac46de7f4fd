"""The one standardisation: from uint8 pixels to what a backbone is given.

It is written in torch operations only, so that it runs in training and prediction and is part of
every exported graph: nothing has to be implemented again on the other side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from allkit.batches import by_shape
from allkit.records import InputSpec

__all__ = ["Standardise", "to_batches"]


class Standardise(nn.Module):
    """Resize the whole image to S × S, scale to 0–1, subtract the mean, divide by the deviation.

    The whole image is kept: nothing is cropped, since a crop may cut away the cell that matters;
    an image that is not square changes its proportions. The resize is an antialiased bilinear
    one, written as two matrix products with triangle-filter weights (the filter of Pillow's and
    torch's antialiased resize), because that form is exact in every export.
    """

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.size = spec.size
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)
        self.mean: torch.Tensor
        self.std: torch.Tensor

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map `(N, H, W, 3)` uint8 RGB to `(N, 3, S, S)` float32."""
        image = pixels.permute(0, 3, 1, 2).to(torch.float32)
        if not torch.compiler.is_exporting() and image.shape[2:] == (self.size, self.size):
            return (image / 255.0 - self.mean) / self.std  # the weights would be the identity
        rows = _resize_weights(image.shape[2], self.size, image.device)  # (S, H)
        columns = _resize_weights(image.shape[3], self.size, image.device)  # (S, W)
        image = rows @ image @ columns.T
        return (image / 255.0 - self.mean) / self.std


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
