"""Macenko's normalisation of the stain (Macenko et al. 2009) in operations that every export knows.

The optical densities of stained pixels lie in a plane, between the directions of the two dyes. The plane
is found from their second moments, whose eigenvectors come from squaring the matrix; the dyes are where the
outermost per cent of the pixels begin; the amounts of both are brought to the strength of a reference,
and shown in its colours. An image without stain, or with one dye only, says nothing about the dyes:
the fewer stained pixels there are, and the more alike their colours, the more the reference's are taken.

Two things are as blood smears need them. A pixel is stained by its mean density, since their nuclei let blue
light through; and the nuclear dye is the one that takes up less blue, since red cells do not let it
through, while either may take up more red.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from allkit_stain import Macenko

LIGHT = 256.0
"""Grey level, and one, of white; no density is below zero."""
GLASS = 0.1
"""Share of the pixels that are lighter than the background is taken to be."""
STRONGEST = 0.01
"""Share of the pixels above the amount of a dye that is brought to the reference's."""
ENOUGH = 0.01
"""Share of stained pixels from which on an image's own dyes are taken."""
APART = 0.15
"""Tangent of the angle between the two dyes from which on they are taken."""
LEAST = 0.15
"""Amount of a dye, as a share of the reference's, that is the least to be brought to it: noise is not."""
SQUARINGS = 6
CORNER = (0.86, 0.81)
"""Share of rows and columns behind which scale bars are burnt in."""


class Normalised(nn.Module):
    """An image `(N, 3, H, W)` in 0–1 with its whole `(N, 3, S, S)` becomes `(N, 3, H, W)` in 0–1."""

    def __init__(self, size: int, settings: Macenko) -> None:
        super().__init__()
        self.size, self.settings = size, settings
        reference = torch.tensor([settings.haematoxylin, settings.eosin])
        self.register_buffer("reference", reference, persistent=False)
        self.register_buffer("strongest", torch.tensor(settings.strongest), persistent=False)
        self.reference: torch.Tensor
        self.strongest: torch.Tensor

    def forward(self, image: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        """Return the image in the colours of the reference."""
        shown = self._shown(whole).flatten()
        glass = self._glass(_density(whole).flatten(2), shown)
        of_whole = (_density(whole).flatten(2) - glass).clamp(min=0.0)
        dyes = self._dyes(of_whole, shown)
        pixels = of_whole.shape[2] * torch.ones_like(of_whole[:, 0, 0])
        amounts = _amounts(of_whole, dyes) * shown
        strongest = torch.stack([self._top(a, pixels, STRONGEST) for a in amounts.unbind(1)], dim=1)
        factors = self.strongest / strongest.maximum(LEAST * self.strongest)
        of_image = (_density(image).flatten(2) - glass).clamp(min=0.0)
        planes = _amounts(of_image, dyes) * factors[:, :, None]
        light = (LIGHT * torch.exp(-(self.reference.T @ planes)) - 1.0) / 255.0
        return 1.0 - (1.0 - light.view(image.shape).clamp(0.0, 1.0)) * self._shown(image)

    def _glass(self, densities: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        """Return the density `(N, 3, 1)` of the background in densities `(N, 3, P)`: their 10 % quantile."""
        if not self.settings.clear_glass:
            return torch.zeros_like(densities[:, :, :1])
        count = shown.sum() * torch.ones_like(densities[:, 0, 0])
        hidden = -1e4 * (1.0 - shown)
        planes = [-self._top(-d * shown + hidden, count, GLASS) for d in densities.unbind(1)]
        return torch.stack(planes, dim=1)[:, :, None]

    def _dyes(self, densities: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        """Return the directions `(N, 2, 3)` of both dyes in densities `(N, 3, P)`, the nuclear one first."""
        stained = (densities.mean(dim=1) >= self.settings.beta).to(densities.dtype) * shown
        count = stained.sum(dim=1)
        kept = densities * stained[:, None]
        first = _main_direction(kept)
        along = (first[:, None] @ kept)[:, 0]  # (N, P)
        second = _main_direction(kept - first[:, :, None] * along[:, None])
        across = (second[:, None] @ kept)[:, 0]
        # Densities are not below zero, and so neither is `along`: the tangent grows with the angle.
        tangents = across / along.clamp(min=1e-6)
        share, outside = self.settings.alpha / 100.0, -1e4 * (1.0 - stained)
        high = self._top(tangents * stained + outside, count, share)[:, None]
        low = -self._top(-tangents * stained + outside, count, share)[:, None]
        one, other = (_unit((first + t * second).clamp(min=0.0)) for t in (low, high))
        nuclear = one[:, 2:] < other[:, 2:]
        found = torch.stack(
            [torch.where(nuclear, one, other), torch.where(nuclear, other, one)], dim=1
        )
        enough = (count / (ENOUGH * shown.sum())).clamp(max=1.0)
        apart = ((high - low)[:, 0] / APART).clamp(0.0, 1.0)
        trust = (enough * apart)[:, None, None]
        return _unit(trust * found + (1.0 - trust) * _unit(self.reference))

    def _top(self, values: torch.Tensor, count: torch.Tensor, share: float) -> torch.Tensor:
        """Return the value `(N,)` above which a share of the `count` largest of `(N, P)` lies."""
        # By the largest values, because every export knows them, which quantiles it may not.
        most = min(self.size**2, int(share * (self.size**2 - 1)) + 2)
        top = values.topk(most, dim=1).values
        place = (share * (count - 1.0)).clamp(0.0, most - 1.0)
        before = place.floor()
        after = (before + 1.0).clamp(max=most - 1.0)
        a, b = (top.gather(1, index.long()[:, None])[:, 0] for index in (before, after))
        return a + (place - before) * (b - a)

    def _shown(self, image: torch.Tensor) -> torch.Tensor:
        """Return `(H, W)` float32 that is 0 in the corner of the scale bar, else 1."""
        row, column = (
            torch.arange(length, dtype=torch.float32, device=image.device) + 1.0 > share * length
            for length, share in zip(image.shape[2:], CORNER, strict=True)
        )
        corner = row.float()[:, None] * column.float()[None, :]
        return 1.0 - corner * float(self.settings.mask_corner)


def _density(image: torch.Tensor) -> torch.Tensor:
    return -torch.log((image * 255.0 + 1.0) / LIGHT)


def _amounts(densities: torch.Tensor, dyes: torch.Tensor) -> torch.Tensor:
    """Return how much of both dyes `(N, 2, 3)` of length 1 is in `(N, 3, P)`, `(N, 2, P)`.

    By least squares.
    """
    alike = (dyes[:, :1] * dyes[:, 1:]).sum(dim=2, keepdim=True)  # (N, 1, 1)
    share = dyes @ densities
    return (share - alike * share.flip(1)) / (1.0 - alike**2).clamp(min=1e-4)


def _main_direction(densities: torch.Tensor) -> torch.Tensor:
    """Return the eigenvector `(N, 3)` of the largest second moment of `(N, 3, P)`."""
    moments = densities @ densities.transpose(1, 2)
    for _ in range(SQUARINGS):
        trace = moments.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
        moments = moments / trace.clamp(min=1e-12)
        moments = moments @ moments
    # Every column points there; the longest does so most exactly.
    longest = moments.diagonal(dim1=1, dim2=2).argmax(dim=1)
    column = moments.gather(2, longest[:, None, None].expand(-1, 3, 1))[:, :, 0]
    return _unit(column)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / vectors.square().sum(dim=-1, keepdim=True).sqrt().clamp(min=1e-12)
