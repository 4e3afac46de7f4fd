"""Explanation maps by Captum: integrated gradients and gradient SHAP.

Both say of each pixel how much it adds to a class, compared with a field that has nothing to show (the
baseline). A single pixel says little, so what the pixels of a square add is summed; what is left below
zero speaks against the class, and is 0 in the map. Every random number comes from a seed that is a
setting, so the same image has the same map. At most `AT_ONCE` inputs are in memory at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from allkit import Explainer, MapRequest, hookimpl
from allkit.telemetry import import_silent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

api_version = 2

AT_ONCE = 16
"""Inputs that the network is given at once."""
Baseline = Literal["background", "mean", "blurred"]


class _Shared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    baseline: Baseline = Field(
        "background",
        description="what the field is compared with: its background (the 90 % quantile of each colour), "
        "its mean colour, or itself so blurred that no cell is left",
    )
    grid: int = Field(
        28,
        ge=1,
        le=512,
        description="squares a side of the map; what a square's pixels add is summed",
    )
    noise: float = Field(
        0.1,
        ge=0,
        le=1,
        description="deviation of the noise on each sample, as a share of the range of the input",
    )
    seed: int = Field(0, ge=0, description="of the noise; another one shows how much chance does")


class IntegratedGradients(_Shared):
    """The settings of `integrated-gradients`."""

    steps: int = Field(
        32, ge=2, le=512, description="points on the way from the baseline to the field"
    )
    samples: int = Field(
        4,
        ge=1,
        le=64,
        description="noisy copies over which the map is averaged (SmoothGrad); 1: the field as it is",
    )


class GradientShap(_Shared):
    """The settings of `gradient-shap`."""

    samples: int = Field(
        64,
        ge=1,
        le=2048,
        description="noisy copies, each at a random point of its way to the field",
    )


def integrated_gradients(
    request: MapRequest, *, settings: IntegratedGradients
) -> npt.NDArray[np.float32]:
    """Return the mean gradient on the way from the baseline, times the way (Sundararajan et al. 2017).

    With several samples it is the mean over noisy copies of the field (Smilkov et al. 2017).
    """
    attr = import_silent("captum.attr")
    base = baseline(request.inputs, settings.baseline)
    copies = noisy(request.inputs, settings.samples, settings)
    found = attr.IntegratedGradients(request.network).attribute(
        copies,
        baselines=base.expand_as(copies),
        target=request.target,
        n_steps=settings.steps,
        internal_batch_size=AT_ONCE,
    )
    return summed(found, settings.grid)


def gradient_shap(request: MapRequest, *, settings: GradientShap) -> npt.NDArray[np.float32]:
    """Return the expected gradient times the way (Lundberg & Lee 2017; Erion et al. 2021).

    Each noisy copy of the field is looked at once, at a random point of the way from the baseline.
    """
    import torch

    # Captum's own GradientShap draws from the global generators of NumPy and torch, which belong to the
    # program; its gradients are used, with random numbers from a generator of this call.
    saliency = import_silent("captum.attr").Saliency(request.network)
    way = noisy(request.inputs, settings.samples, settings) - baseline(
        request.inputs, settings.baseline
    )
    generator = torch.Generator().manual_seed(settings.seed + 1)
    places = torch.rand(len(way), 1, 1, 1, generator=generator).to(way)
    points = baseline(request.inputs, settings.baseline) + places * way
    slopes = [
        saliency.attribute(part.requires_grad_(True), target=request.target, abs=False)
        for part in points.split(AT_ONCE)
    ]
    return summed(way * torch.cat(slopes), settings.grid)


def baseline(inputs: torch.Tensor, kind: Baseline) -> torch.Tensor:
    """Return what `inputs` `(1, 3, S, S)` are compared with, of the same shape."""
    import torch
    from torch.nn import functional

    if kind == "blurred":
        small = functional.adaptive_avg_pool2d(inputs, 4)
        return functional.interpolate(
            small, inputs.shape[-2:], mode="bilinear", align_corners=False
        )
    pixels = inputs.flatten(2)
    colour = pixels.mean(dim=2) if kind == "mean" else torch.quantile(pixels, 0.9, dim=2)
    return colour[:, :, None, None].expand_as(inputs)


def noisy(inputs: torch.Tensor, count: int, settings: _Shared) -> torch.Tensor:
    """Return `count` copies `(count, 3, S, S)` of `inputs` with noise; one alone has none."""
    import torch

    copies = inputs.expand(count, -1, -1, -1).clone()
    if count == 1 or settings.noise == 0:
        return copies
    generator = torch.Generator().manual_seed(settings.seed)
    noise = torch.randn(copies.shape, generator=generator).to(inputs)
    return copies + settings.noise * (inputs.amax() - inputs.amin()) * noise


def summed(found: torch.Tensor, grid: int) -> npt.NDArray[np.float32]:
    """Return the map `(g, g)` of what pixels add, `(count, 3, S, S)`: g = `grid`, S at most."""
    from torch.nn import functional

    pixels = found.detach().float().mean(dim=0).sum(dim=0)[None, None]
    squares = functional.adaptive_avg_pool2d(pixels, min(grid, *pixels.shape[-2:]))[0, 0]
    strengths: npt.NDArray[np.float32] = squares.clamp(min=0).cpu().numpy()
    return strengths


@hookimpl
def allkit_explainers() -> Iterable[Explainer]:
    """Offer two ways to explain an answer by gradients, which need no layer of the network."""
    return [
        Explainer(
            "integrated-gradients",
            integrated_gradients,
            title="integrated gradients",
            summary="what each place adds, along the way from a field without cells",
            settings=IntegratedGradients,
        ),
        Explainer(
            "gradient-shap",
            gradient_shap,
            title="gradient SHAP",
            summary="the same from random points of that way, under noise: an estimate of SHAP values",
            settings=GradientShap,
        ),
    ]
