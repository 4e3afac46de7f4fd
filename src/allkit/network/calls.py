"""A module of a plugin, called: whatever goes wrong in it is named with its package.

The module itself carries who made it, so that it may be copied, cut and sent to another process.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import nn

from allkit.errors import PluginError
from allkit.plugins import calling

__all__ = ["Maker", "made_by", "maker_of", "run"]

_ATTRIBUTE = "allkit_maker"


@dataclass(frozen=True)
class Maker:
    """Who made a module: package with version, kind and name of the record.

    `width` is D where the module gives `(N, D)`, once it was measured.
    """

    origin: str
    kind: str
    name: str
    width: int | None = None

    @property
    def named(self) -> str:
        """The beginning of a sentence about it."""
        return f"{self.origin}: the {self.kind} {self.name!r}"


def made_by(module: nn.Module, maker: Maker | None) -> nn.Module:
    """Return `module` itself, which knows from now on who made it."""
    if maker is not None:
        with contextlib.suppress(Exception):  # a module that takes no attributes is called as it is
            setattr(module, _ATTRIBUTE, maker)
    return module


def maker_of(module: nn.Module, *, whole: bool = True) -> Maker | None:
    """Return who made a module; `None` where that is not known, as of a user's own.

    Not `whole`, it is for a part of the module, whose outputs are of another width.
    """
    maker = getattr(module, _ATTRIBUTE, None)
    if not isinstance(maker, Maker):
        return None
    return maker if whole else replace(maker, width=None)


def run(module: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
    """Return `module(*inputs)`, a row for each of the inputs.

    Raises `PluginError` that names package, record and `forward` when the module of a plugin raises
    anything but a lack of memory, or returns something else.
    """
    # A graph that is traced holds what a plugin computes, and nothing else.
    maker = None if torch.compiler.is_exporting() else maker_of(module)
    if maker is None:
        return cast(torch.Tensor, module(*inputs))
    with calling(maker.origin, maker.kind, maker.name, "forward"):
        output = module(*inputs)
    count = len(inputs[0])
    if not isinstance(output, torch.Tensor):
        raise PluginError(
            f"{maker.named} returned a {type(output).__name__} in `forward` for {count} images; it must "
            f"return a tensor."
        )
    wanted = ("…",) if maker.width is None else (maker.width,)
    if output.shape[:1] != (count,) or (maker.width is not None and output.shape[1:] != wanted):
        shown = ", ".join(map(str, (count, *wanted)))
        raise PluginError(
            f"{maker.named} returned {tuple(output.shape)} in `forward` for {count} images; it must return "
            f"({shown}), a row for each image."
        )
    return output
