"""Maps of one network: what a layer's output adds to a class, and what covering a place takes from it."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch

from allkit.errors import PluginError
from allkit.network.covering import background, probability
from allkit.records import MapRequest
from allkit.types import Singles

__all__ = ["cam", "occlusion"]

GRID = 8  # positions of the occluding square on each axis


def cam(request: MapRequest, *, by_channel: bool = False) -> Singles:
    """Return a class activation map `(h, w)` from the output of one layer, or one of each member.

    HiResCAM (Draelos & Carin 2020): the positive part of Σ_c activation · gradient, which for a
    linear head on averaged features is what each place adds to the logit. `by_channel` is Grad-CAM
    (Selvaraju et al. 2017): each channel weighted by its mean gradient.
    """
    outputs: list[torch.Tensor] = []

    def keep(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        outputs.append(output)

    handles = [layer.register_forward_hook(keep) for layer in request.layers]
    try:
        logits = request.network(request.inputs.detach().clone().requires_grad_(True))
        if not outputs or not all(isinstance(output, torch.Tensor) for output in outputs):
            raise PluginError("The layer for maps gave no tensor; a map needs one.")
        gradients = torch.autograd.grad(logits[0, request.target], outputs)
    finally:
        for handle in handles:
            handle.remove()
    parts = []
    for output, slope in zip(outputs, gradients, strict=True):
        activation, gradient = _as_planes(output.detach()), _as_planes(slope)
        if by_channel:
            gradient = gradient.mean(dim=(2, 3), keepdim=True)
        parts.append((activation * gradient).sum(dim=1)[0])
    return cast(Singles, torch.stack(parts).sum(dim=0).clamp(min=0).float().cpu().numpy())


def _as_planes(values: torch.Tensor) -> torch.Tensor:
    """Return `(1, C, h, w)`; tokens `(1, L, C)` are laid out as the square that they came from."""
    if values.ndim == 4:
        return values
    if values.ndim == 3:
        side = int(values.shape[1] ** 0.5)
        tokens = values[:, values.shape[1] - side * side :]
        return tokens.transpose(1, 2).reshape(1, values.shape[2], side, side)
    raise PluginError(
        f"The layer for maps gives {tuple(values.shape)}; a map needs (1, C, h, w) or (1, L, C)."
    )


def occlusion(request: MapRequest) -> Singles:
    """Return how much the log-probability of the class falls when a square is covered, `(8, 8)`.

    Zeiler & Fergus 2014; the square is a quarter of the side and takes the background's colour.
    """
    network, inputs, target = request.network, request.inputs, request.target
    side = inputs.shape[-1]
    step, half = side / GRID, side / 8
    cover = background(inputs)
    covered = []
    for row in range(GRID):
        for column in range(GRID):
            y, x = (row + 0.5) * step, (column + 0.5) * step
            image = inputs.clone()
            rows = slice(max(0, round(y - half)), round(y + half))
            columns = slice(max(0, round(x - half)), round(x + half))
            image[..., rows, columns] = cover
            covered.append(image)
    whole = probability(network, inputs, target)[0]
    values = probability(network, torch.cat(covered), target)
    fall = np.log(max(whole, 1e-12)) - np.log(np.maximum(values, 1e-12))
    result: Singles = np.maximum(fall, 0).reshape(GRID, GRID).astype(np.float32)
    return result
