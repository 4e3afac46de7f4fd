"""From the description in a model folder to the network that answers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from allkit.errors import PluginError
from allkit.model.info import ModelInfo
from allkit.network.modules import Branches, Head, Network, cut, fingerprint
from allkit.plugins import registry
from allkit.records import Backbone, InputSpec

__all__ = ["backbone_of", "empty_network", "layer_for_maps", "under", "warn_of_another_version"]


def empty_network(backbone: torch.nn.Module, info: ModelInfo) -> Network:
    """Return the network that the arrays of a model folder fit."""
    parts = info.backbone
    if parts.cut is not None:
        trunk, tail = cut(backbone, parts.cut)
        backbone = Branches(trunk, [copy.deepcopy(tail) for _ in range(parts.members)])
    heads = [Head(parts.width, len(info.classes)) for _ in range(parts.members)]
    return Network(backbone, heads, orientations=parts.orientations)


def layer_for_maps(backbone: str) -> str | None:
    """Return the name of the layer that maps are made of; `None` where the backbone names none."""
    record: Backbone = registry().get("backbone", backbone)
    return record.cam_layer


def under(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays whose names begin with `prefix`, without it."""
    return {n.removeprefix(prefix): t for n, t in arrays.items() if n.startswith(prefix)}


def warn_of_another_version(info: ModelInfo, backbone: torch.nn.Module) -> None:
    """Warn when a plugin of another version computes other features from the same weights."""
    saved = info.backbone
    now = registry().provider("backbone", saved.name)
    if (now.distribution, now.version) == (saved.distribution, saved.version):
        return
    if not saved.fingerprint:
        return
    mark = fingerprint(backbone, InputSpec(saved.size, saved.mean, saved.std))
    norm = abs(mark[0] - saved.fingerprint[0]) / (saved.fingerprint[0] or 1.0)
    rest = zip(mark[1:], saved.fingerprint[1:], strict=True)
    if max(norm, *(abs(a - b) for a, b in rest)) > 1e-3:
        warnings.warn(
            f"This model was made with {saved.distribution} {saved.version}; {now.origin} computes "
            f"other features from the same weights, so its figures no longer hold. Install "
            f"{saved.distribution}=={saved.version}, or train again.",
            stacklevel=3,
        )


def backbone_of(info: ModelInfo) -> Backbone:
    """Return the backbone's record; `PluginError` says what to install when it is not there."""
    try:
        record: Backbone = registry().get("backbone", info.backbone.name)
    except PluginError as error:
        if info.backbone.distribution == "allkit":
            raise
        raise PluginError(
            f"This model needs the backbone {info.backbone.name!r} of the plugin "
            f"{info.backbone.distribution} {info.backbone.version}, which is not there: install "
            f"{info.backbone.distribution}=={info.backbone.version}. ({error})"
        ) from None
    return record
