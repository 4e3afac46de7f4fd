"""Maps of where a network looked for an answer, and the check whether a map is faithful."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from allkit.errors import ConfigError, PluginError, did_you_mean
from allkit.model.explanation import Faithfulness
from allkit.network.covering import background, probability
from allkit.plugins import registry
from allkit.records import Cell, Explainer, MapRequest, Reference
from allkit.types import Singles

__all__ = ["Mapper", "by_cells", "enlarge", "share_on"]

STEPS = 8  # of the deletion and insertion curves
RANDOM_ORDERS = 4
LARGEST = 4096  # places a side of a map


class MappedNetwork(Protocol):
    """A network that maps are made of: it finds the modules that a layer's name means."""

    def layers(self, name: str) -> list[nn.Module]:
        """Return the module `name`, one of each member where they differ in it."""

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map inputs `(N, 3, S, S)` to logits `(N, K)`."""


class Mapper:
    """Makes maps with one network; safe to share between threads.

    An explainer is given modules of its own: the hooks that it sets, the modes and the gradients concern
    nobody who answers with the network meanwhile. Those of allkit share the weights of the network; a
    plugin's has a copy of them, so that nothing that it writes changes an answer.
    """

    def __init__(self, network: MappedNetwork, layer: str | None) -> None:
        self.network, self.layer = network, layer

    def choose(self, method: Any) -> Reference:
        """Return the explainer to use, in full; `method` is `auto`, or names one as in settings.

        Raises `ConfigError` when there is none of that name, or the backbone names no layer for it.
        """
        asked = Reference.of(method)
        if asked.text == "cells":
            raise ConfigError(
                "The method cells is for models that look at cells, and this one looks at whole "
                "fields. Use `auto`."
            )
        if asked.text == "auto":
            return Reference("hirescam" if self.layer else "occlusion", "allkit")
        known = registry().names("explainer")
        if asked.name not in known:
            known = ["auto", "cells", *known]
            raise ConfigError(
                f"Unknown method {asked.qualified!r}.{did_you_mean(asked.name, known)} "
                f"Choose one of: {', '.join(known)}."
            )
        record: Explainer = registry().get("explainer", asked)
        if record.needs_layer and self.layer is None:
            raise ConfigError(
                f"This backbone names no layer for {asked.name} maps. Take `occlusion`, or `auto`."
            )
        return registry().reference("explainer", asked)

    def map(self, inputs: torch.Tensor, target: int, method: Any) -> Singles:
        """Return the map of class `target` for inputs `(1, 3, S, S)`: `(h, w)` float32 ≥ 0.

        What an explainer says to speak against the class is 0. Raises `PluginError` that names it where
        it fails, or gives no map.
        """
        reference = Reference.of(method)
        plugin = registry().provider("explainer", reference)
        record: Explainer = registry().get("explainer", reference)
        with torch.inference_mode(False), torch.enable_grad():
            # Every write in place can be hidden from torch's count of them, so a copy it is.
            network = _sharing(self.network) if plugin.built_in else copy.deepcopy(self.network)
            layers = () if self.layer is None else tuple(self._layers(network))
            given = inputs.detach().clone()
            found = record.explain(MapRequest(cast(nn.Module, network), given, target, layers))
        return _checked(found, f"{plugin.origin}: the explainer {record.name!r}")

    def _layers(self, network: MappedNetwork) -> list[nn.Module]:
        try:
            return network.layers(str(self.layer))
        except AttributeError:
            raise PluginError(
                f"The backbone has no layer {self.layer!r}, which its record names for maps. Its "
                f"author has to fix `cam_layer`."
            ) from None

    def check(
        self, inputs: torch.Tensor, target: int, method: Any, strengths: Singles
    ) -> Faithfulness:
        """Measure whether a map is faithful; see `Faithfulness`.

        `strengths` `(h, w)` float32 are those of its places."""
        rng = np.random.default_rng(0)
        # Places of equal strength in random order: the image's own would favour its top.
        order = np.lexsort((rng.permutation(strengths.size), -strengths.ravel()))
        cover = background(inputs)
        ends = probability(self.network, torch.cat([inputs, cover.expand_as(inputs)]), target)
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
        cover = background(inputs)
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
        falling, rising = np.split(probability(self.network, batch, target), 2)
        whole, nothing = ends
        return np.array([whole, *falling, nothing]), np.array([nothing, *rising, whole])

    def _random_weights(
        self, inputs: torch.Tensor, target: int, method: Any, strengths: Singles
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


def _sharing(network: MappedNetwork) -> MappedNetwork:
    """Return a copy of a network's modules that has the weights of the original, not copies of them."""
    module = cast(nn.Module, network)
    shared: dict[int, Any] = {
        id(weights): nn.Parameter(weights.detach(), requires_grad=weights.requires_grad)
        for weights in module.parameters()
    }
    return cast(MappedNetwork, copy.deepcopy(module, shared))


def _checked(found: object, origin: str) -> Singles:
    """Return what an explainer gave as `(h, w)` float32 without negative values.

    Raises `PluginError` where it is no map.
    """
    if not isinstance(found, np.ndarray):
        raise PluginError(
            f"{origin} returned {type(found).__name__} in `explain`. It must return a NumPy array (h, w)."
        )
    if found.ndim != 2 or not 1 <= min(found.shape) <= max(found.shape) <= LARGEST:
        raise PluginError(
            f"{origin} returned an array {found.shape} in `explain`. It must return (h, w), with at most "
            f"{LARGEST} places a side."
        )
    if found.dtype.kind != "f":
        raise PluginError(
            f"{origin} returned an array of {found.dtype} in `explain`. It must return float32."
        )
    if not np.isfinite(found).all():
        raise PluginError(f"{origin} returned a map in `explain` that is not finite everywhere.")
    return np.maximum(found, 0).astype(np.float32)


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
