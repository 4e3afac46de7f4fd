"""Maps of where a network looked for an answer, and the check whether a map is faithful."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Sequence
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from allkit.errors import ConfigError, PluginError
from allkit.model.explanation import Faithfulness
from allkit.records import Cell
from allkit.types import Singles

__all__ = ["METHODS", "Mapper", "Method", "by_cells", "enlarge", "share_on"]

Method = Literal["hirescam", "gradcam", "occlusion", "cells"]
METHODS = ("auto", "hirescam", "gradcam", "occlusion", "cells")

GRID = 8  # positions of the occluding square on each axis
STEPS = 8  # of the deletion and insertion curves
RANDOM_ORDERS = 4


class MappedNetwork(Protocol):
    """A network that maps are made of: it finds the modules that a layer's name means."""

    def layers(self, name: str) -> list[nn.Module]:
        """Return the module `name`, one of each member where they differ in it."""

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map inputs `(N, 3, S, S)` to logits `(N, K)`."""


class Mapper:
    """Makes maps with one network; safe to share between threads.

    A hook is seen by every thread that runs the network. Each therefore listens only to the
    thread that set it, and one map is made at a time.
    """

    def __init__(self, network: MappedNetwork, layer: str | None) -> None:
        self.network, self.layer = network, layer
        self._lock = threading.Lock()

    def choose(self, method: str) -> Method:
        """Return the method to use; raise `ConfigError` when the backbone names no layer for it."""
        if method not in METHODS:
            raise ConfigError(f"Unknown method {method!r}. Choose one of: {', '.join(METHODS)}.")
        if method == "cells":
            raise ConfigError(
                "The method cells is for models that look at cells, and this one looks at whole "
                "fields. Use `auto`."
            )
        if method == "auto":
            return "hirescam" if self.layer else "occlusion"
        if method != "occlusion" and self.layer is None:
            raise ConfigError(
                f"This backbone names no layer for {method} maps. Take `occlusion`, or `auto`."
            )
        return cast(Method, method)

    def map(self, inputs: torch.Tensor, target: int, method: Method) -> Singles:
        """Return the map of class `target` for inputs `(1, 3, S, S)`: `(h, w)` float32 ≥ 0."""
        if method == "occlusion":
            return occlusion(self.network, inputs, target)
        with self._lock:
            return cam(self.network, self._layers(), inputs, target, method=method)

    def _layers(self) -> list[nn.Module]:
        try:
            return self.network.layers(str(self.layer))
        except AttributeError:
            raise PluginError(
                f"The backbone has no layer {self.layer!r}, which its record names for maps. Its "
                f"author has to fix `cam_layer`."
            ) from None

    def check(
        self, inputs: torch.Tensor, target: int, method: Method, strengths: Singles
    ) -> Faithfulness:
        """Measure whether a map is faithful; see `Faithfulness`.

        `strengths` `(h, w)` float32 are those of its places."""
        rng = np.random.default_rng(0)
        # Places of equal strength in random order: the image's own would favour its top.
        order = np.lexsort((rng.permutation(strengths.size), -strengths.ravel()))
        cover = _background(inputs)
        ends = _probability(self.network, torch.cat([inputs, cover.expand_as(inputs)]), target)
        deletion, insertion = self._curves(inputs, target, order.reshape(strengths.shape), ends)
        random_orders = [
            rng.permutation(strengths.size).reshape(strengths.shape) for _ in range(RANDOM_ORDERS)
        ]
        chance = [self._curves(inputs, target, random, ends) for random in random_orders]
        random_deletion = np.mean([c[0] for c in chance], axis=0)
        random_insertion = np.mean([c[1] for c in chance], axis=0)
        return Faithfulness(
            deletion=float(deletion.mean()),
            deletion_random=float(random_deletion.mean()),
            insertion=float(insertion.mean()),
            insertion_random=float(random_insertion.mean()),
            random_weights=self._random_weights(inputs, target, method, strengths),
            curves={
                "deletion": deletion.tolist(),
                "deletion, random order": random_deletion.tolist(),
                "insertion": insertion.tolist(),
                "insertion, random order": random_insertion.tolist(),
            },
        )

    def _curves(
        self,
        inputs: torch.Tensor,
        target: int,
        order: npt.NDArray[Any],
        ends: npt.NDArray[Any],
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return the curves of deletion and insertion, `(STEPS + 1,)` probabilities each.

        `order` `(h, w)` holds, read row by row, the places of the map in the order in which they are
        covered. `ends` `(2,)` are the probabilities of the whole field and of a covered one.
        """
        cover = _background(inputs)
        rank = np.empty(order.size, dtype=np.int64)
        rank[order.ravel()] = np.arange(order.size)
        places = torch.from_numpy(rank.reshape(order.shape)).to(inputs.device)
        places = nn.functional.interpolate(
            places[None, None].float(), inputs.shape[-2:], mode="nearest"
        )
        cuts = np.linspace(0, order.size, STEPS + 1)[1:-1]
        covered = [places < cut for cut in cuts]
        batch = torch.cat(
            [torch.where(mask, cover, inputs) for mask in covered]
            + [torch.where(mask, inputs, cover) for mask in covered]
        )
        falling, rising = np.split(_probability(self.network, batch, target), 2)
        whole, nothing = ends
        return np.array([whole, *falling, nothing]), np.array([nothing, *rising, whole])

    def _random_weights(
        self, inputs: torch.Tensor, target: int, method: Method, strengths: Singles
    ) -> float:
        # A copy, so that other threads go on answering with the real weights.
        shuffled = copy.deepcopy(self.network)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in cast(nn.Module, shuffled).parameters():
                flat = parameter.flatten()
                order = torch.randperm(flat.numel(), generator=generator).to(flat.device)
                parameter.copy_(flat[order].view_as(parameter))
        other = Mapper(shuffled, self.layer).map(inputs, target, method)
        a, b = strengths.ravel() - strengths.mean(), other.ravel() - other.mean()
        norm = float(np.linalg.norm(a) * np.linalg.norm(b))
        return float(a @ b / norm) if norm > 0 and np.isfinite(norm) else 0.0


def cam(
    network: MappedNetwork,
    layers: list[nn.Module],
    inputs: torch.Tensor,
    target: int,
    *,
    method: Method,
) -> Singles:
    """Return a class activation map from the output of one layer, or one of each member.

    HiResCAM (Draelos & Carin 2020): the positive part of Σ_c activation · gradient, which for a
    linear head on averaged features is what each place adds to the logit. Grad-CAM (Selvaraju et
    al. 2017): each channel weighted by its mean gradient.
    """
    mine = threading.get_ident()
    outputs: list[torch.Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if threading.get_ident() == mine:
            outputs.append(output)

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        with torch.enable_grad():
            logits = network(inputs.detach().clone().requires_grad_(True))
        if not outputs or not all(isinstance(output, torch.Tensor) for output in outputs):
            raise PluginError("The layer for maps gave no tensor; a map needs one.")
        gradients = torch.autograd.grad(logits[0, target], outputs)
    finally:
        for handle in handles:
            handle.remove()
    total: torch.Tensor | None = None
    for output, slope in zip(outputs, gradients, strict=True):
        activation, gradient = _as_planes(output.detach()), _as_planes(slope)
        # The head's square root has an infinite slope where a feature is zero; it adds zero there.
        gradient = torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
        if method == "gradcam":
            gradient = gradient.mean(dim=(2, 3), keepdim=True)
        part = (activation * gradient).sum(dim=1)[0]
        total = part if total is None else total + part
    if total is None:
        raise PluginError("The layer for maps was not run; a map needs its output.")
    return cast(Singles, total.clamp(min=0).float().cpu().numpy())


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


def occlusion(network: MappedNetwork, inputs: torch.Tensor, target: int) -> Singles:
    """Return how much the log-probability of `target` falls when a square is covered, `(8, 8)`.

    Zeiler & Fergus 2014; the square is a quarter of the side and takes the background's colour.
    """
    side = inputs.shape[-1]
    step, half = side / GRID, side / 8
    cover = _background(inputs)
    covered = []
    for row in range(GRID):
        for column in range(GRID):
            y, x = (row + 0.5) * step, (column + 0.5) * step
            image = inputs.clone()
            rows = slice(max(0, round(y - half)), round(y + half))
            columns = slice(max(0, round(x - half)), round(x + half))
            image[..., rows, columns] = cover
            covered.append(image)
    whole = _probability(network, inputs, target)[0]
    values = _probability(network, torch.cat(covered), target)
    fall = np.log(max(whole, 1e-12)) - np.log(np.maximum(values, 1e-12))
    result: Singles = np.maximum(fall, 0).reshape(GRID, GRID).astype(np.float32)
    return result


def by_cells(places: Sequence[Cell], falls: Singles, shape: tuple[int, int]) -> Singles:
    """Return a map `(H, W)` of what each cell adds: a disc on each, as strong as its fall.

    `falls` `(M,)` is how much the log-probability falls when the cell is left out.
    """
    result = np.zeros(shape, np.float32)
    for place, fall in zip(places, falls, strict=True):
        radius = place.diameter / 2
        near = tuple(
            slice(max(0, math.floor(middle - radius)), max(0, math.ceil(middle + radius) + 1))
            for middle in (place.y, place.x)
        )
        part = result[near]
        rows, columns = np.indices(part.shape, dtype=np.float32)
        dy, dx = rows + near[0].start - place.y, columns + near[1].start - place.x
        inside = dy**2 + dx**2 <= radius**2
        part[inside] = np.maximum(part[inside], max(0.0, float(fall)))
    return result


def _background(inputs: torch.Tensor) -> torch.Tensor:
    """Return the colour of the background, `(1, 3, 1, 1)`: the 90 % quantile of each channel."""
    return torch.quantile(inputs.flatten(2).float(), 0.9, dim=2)[:, :, None, None].to(inputs.dtype)


def _probability(network: MappedNetwork, batch: torch.Tensor, target: int) -> npt.NDArray[Any]:
    rows = []
    with torch.inference_mode():
        for start in range(0, len(batch), 16):
            part = batch[start : start + 16]
            rows.append(torch.softmax(network(part).float(), dim=1)[:, target].cpu())
    values: npt.NDArray[Any] = torch.cat(rows).numpy()
    return values


def enlarge(strengths: Singles, shape: tuple[int, int]) -> Singles:
    """Return a map at the size of the image, `(H, W)` float32, its strongest place 1."""
    values = torch.from_numpy(strengths)[None, None]
    large = nn.functional.interpolate(values, shape, mode="bilinear", align_corners=False)[0, 0]
    highest = float(large.max())
    return cast(Singles, (large / highest if highest > 0 else large).numpy())


def share_on(strengths: Singles, mask: npt.NDArray[np.bool_]) -> float | None:
    """Return the share of a map's sum inside a mask; `None` for a map that is zero."""
    total = float(strengths.sum())
    return float(strengths[mask].sum()) / total if total > 0 else None
