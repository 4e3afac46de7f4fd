"""A wavelet scattering network (Bruna & Mallat 2013) as a backbone that is not timm's.

Morlet wavelets of several directions and scales, absolute value, average: twice. The filters are
calculated, so nothing is trained and nothing is downloaded; texture and the size of structures
are described, places and single pixels are not.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from allkit import Backbone, InputSpec, hookimpl

if TYPE_CHECKING:
    import torch
    from torch import nn

api_version = 2

SIDE = 7  # pixels of a wavelet
NOISE = 0.01  # of optical density: less than 8 bits show, and what engines round differently
STAGES = ("density", "scattering", "pool")


class Settings(BaseModel):
    """The settings of `scattering`; with the defaults it has 399 features."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scales: int = Field(
        4,
        ge=1,
        le=5,
        description="sizes of structures, each twice the one before: 4 is up to 8 pixels",
    )
    directions: int = Field(6, ge=2, le=16, description="directions in which structures lie")


def build(weights: str | Path, *, settings: Settings) -> nn.Module:
    """Return the network, `(N, 3, 224, 224)` → `(N, D)`, cut behind the wavelets."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Density(nn.Module):
        """From pixels in 0–1 to optical density, in which the dye is linear."""

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return -torch.log10(pixels.clamp(1 / 255, 1.0))

    class Scattering(nn.Module):
        """Channels `(N, 3, S, S)` → `(N, D, S / 2ⁿ, S / 2ⁿ)`, n = scales: averages of 1, |ψ| and ||ψ|ψ|."""

        def __init__(self) -> None:
            super().__init__()
            real, imaginary = _morlets(settings.directions)
            self.register_buffer("real", real)
            self.register_buffer("imaginary", imaginary)

        def wavelets(self, maps: torch.Tensor) -> torch.Tensor:
            n, c, h, w = maps.shape
            alone = maps.reshape(n * c, 1, h, w)
            real = functional.conv2d(alone, self.real, padding=SIDE // 2)
            imaginary = functional.conv2d(alone, self.imaginary, padding=SIDE // 2)
            return torch.sqrt(real**2 + imaginary**2 + NOISE**2).reshape(n, -1, h, w)

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            kept = []
            first: list[torch.Tensor] = []
            for scale in range(settings.scales):
                # What came out of finer scales is looked at again at this one.
                kept += [self._shrunk(self.wavelets(finer), scale) for finer in first[-1:]]
                first.append(self.wavelets(maps))
                kept.append(self._shrunk(first[-1], scale))
                maps = functional.avg_pool2d(maps, 2)
                first = [functional.avg_pool2d(each, 2) for each in first]
            return torch.cat([maps, *kept], dim=1)

        @staticmethod
        def _shrunk(maps: torch.Tensor, scale: int) -> torch.Tensor:
            return functional.avg_pool2d(maps, 2 ** (settings.scales - scale))

    class Pool(nn.Module):
        """The average over the field: `(N, C, h, w)` → `(N, C)`."""

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return maps.mean(dim=(2, 3))

    net = nn.Sequential(OrderedDict(zip(STAGES, [Density(), Scattering(), Pool()], strict=True)))
    if isinstance(weights, Path):
        from allkit import load_weights

        load_weights(net, weights)
    return net


def _morlets(directions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return real and imaginary part of the wavelets, each `(directions, 1, 7, 7)`, of zero mean."""
    import torch as t

    half = SIDE // 2
    y, x = t.meshgrid(
        t.arange(-half, half + 1, dtype=t.float32),
        t.arange(-half, half + 1, dtype=t.float32),
        indexing="ij",
    )
    envelope = t.exp(-(x**2 + y**2) / (2 * 1.6**2))
    rows = []
    for direction in range(directions):
        angle = math.pi * direction / directions
        phase = 0.75 * math.pi * (x * math.cos(angle) + y * math.sin(angle))
        wave = t.complex(t.cos(phase), t.sin(phase))
        wave = (wave - (wave * envelope).sum() / envelope.sum()) * envelope
        rows.append(wave / wave.abs().sum())
    waves = t.stack(rows)[:, None]
    return waves.real.contiguous(), waves.imag.contiguous()


@hookimpl
def allkit_backbones() -> Iterable[Backbone]:
    """Offer `scattering`."""
    return [
        Backbone(
            "scattering",
            build,
            input=InputSpec(224, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
            cam_layer="scattering",
            stages=STAGES,
            license="none",
            summary="wavelet scattering: texture and sizes, nothing trained, no download",
            settings=Settings,
        )
    ]
