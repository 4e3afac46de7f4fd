"""Records of what a network is, and of what it is shown: backbones, views, the input."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from allkit.errors import PluginError
from allkit.records.naming import require_callable, require_name, require_settings

if TYPE_CHECKING:
    import torch
    from pydantic import BaseModel

__all__ = [
    "CELL_SPAN",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "RED_CELL",
    "SCALE_BAR",
    "Backbone",
    "BackboneFamily",
    "Bag",
    "InputSpec",
    "View",
    "Weights",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Weights = Path | Literal["default", "none"]

SCALE_BAR = (0.86, 0.81)
"""Share of the rows and columns from which on microscopes burn in a scale bar."""

RED_CELL = 15.0
"""Pixels across a red cell at the scale at which white cells are sought and shown."""
CELL_SPAN = 40.0
"""Pixels a side, at that scale, of the square about a white cell that a network is shown."""

Bag = Literal["field", "cells", "both"]
"""What an answer is made of: the whole field, its white cells, or both."""


@dataclass(frozen=True)
class InputSpec:
    """What a backbone wants to be given: the side of its square input and its normalisation.

    An image is resized to `size` × `size` pixels, scaled to 0–1, and each channel (red, green,
    blue) becomes `(value - mean) / std`. `view` names the `View` that the network is shown in place of
    the colours, and `bag` of what inputs an image is made: the field, its white cells, or both. Of a cell
    the network is shown a picture of `cell_size` × `cell_size` pixels, of at most `max_cells` in a
    tile of the field: the largest ones, or, with `spread`, evenly from the largest to the smallest.
    A backbone says `size`, `mean`, `std`, and `cell_size` if it is slow; the rest is chosen by the
    settings of a training.
    """

    size: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    view: str = "rgb"
    bag: Bag = "field"
    # What models were shown before there was a choice; their hashes are made of the other fields.
    cell_size: int = field(default=96, repr=False)
    max_cells: int = field(default=24, repr=False)
    spread: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 2048:
            raise PluginError(
                f"InputSpec.size is {self.size}; it must be between 8 and 2048 pixels."
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise PluginError(
                f"InputSpec needs three means and three positive deviations, "
                f"not {self.mean!r} and {self.std!r}."
            )

    @property
    def of_cells(self) -> tuple[int, int, bool] | tuple[()]:
        """What the network is shown of cells; empty where that is what models always were shown."""
        chosen = (self.cell_size, self.max_cells, self.spread)
        return () if chosen == (96, 24, False) else chosen


@dataclass(frozen=True)
class Backbone:
    """A network that turns images into features, offered by a plugin.

    `build(weights)` returns an `nn.Module` that maps `(N, 3, S, S)` float32 to `(N, D)` float32;
    D is measured, not declared. `weights` is `"default"` (the pretrained ones), `"none"`
    (random: the weights are about to be loaded) or the `Path` of a local file. A tensor that is
    missing in that file is an error. Heavy imports belong inside `build`.

    `cam_layer` names the module whose output explains an answer (explanation maps). `stages`
    names, in order, the children of the returned `nn.Sequential` at which it may be cut for
    caching and unfreezing; empty when it cannot be cut. `license` is that of the weights.

    With `settings`, a class of pydantic, `build` is called with `settings=`, an instance of it.
    """

    name: str
    build: Callable[..., torch.nn.Module]
    input: InputSpec = field(default_factory=InputSpec)
    cam_layer: str | None = None
    stages: tuple[str, ...] = ()
    license: str = "unknown"
    summary: str = ""
    settings: type[BaseModel] | None = field(default=None, kw_only=True)
    chosen: Any = field(default=None, kw_only=True, repr=False)
    """The settings that it was asked for with; filled by allkit."""

    def __post_init__(self) -> None:
        require_name("backbone", self.name)
        require_callable("backbone", self.name, "build", self.build)
        require_settings("backbone", self.name, self.settings)


@dataclass(frozen=True)
class BackboneFamily:
    """Many backbones behind one prefix, made when they are asked for: `PREFIX:NAME`.

    `get(name)` returns the `Backbone` for the part behind the colon, whose own name is the whole
    `PREFIX:NAME`, or raises `PluginError` with the nearest known name. `names()` lists what is
    there; it may import heavy libraries and is only called to show a list. `example` is the name
    of a small member, on which the conformance checks are run.
    """

    prefix: str
    get: Callable[[str], Backbone]
    names: Callable[[], Iterable[str]]
    license: str = "unknown"
    summary: str = ""
    example: str = ""

    def __post_init__(self) -> None:
        require_name("backbone family", self.prefix)
        require_callable("backbone family", self.prefix, "get", self.get)
        require_callable("backbone family", self.prefix, "names", self.names)

    @property
    def name(self) -> str:
        """The name it is listed under: the prefix with a placeholder."""
        return f"{self.prefix}:NAME"


@dataclass(frozen=True)
class View:
    """What a network is shown of an image in place of its colours, such as one normalised stain.

    `build(size)` returns an `nn.Module` that maps `(image, whole)` to the view. `image` is
    `(N, 3, H, W)` float32 RGB from 0 to 1 and `whole` `(N, 3, S, S)`, S = `size`, the whole image
    resized, from which the view takes its scale; the view is `(N, 1 or 3, H, W)` float32 from 0 to 1,
    light where there is no stain. It holds no weights that are learnt, and is written in operations of
    torch that ONNX has, since it is part of every exported file.

    With `settings`, a class of pydantic, `build` is called with `settings=`, an instance of it.
    """

    name: str
    build: Callable[..., torch.nn.Module]
    summary: str = ""
    settings: type[BaseModel] | None = field(default=None, kw_only=True)
    chosen: Any = field(default=None, kw_only=True, repr=False)
    """The settings that it was asked for with; filled by allkit."""

    def __post_init__(self) -> None:
        require_name("view", self.name)
        require_callable("view", self.name, "build", self.build)
        require_settings("view", self.name, self.settings)
