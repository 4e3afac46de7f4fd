"""The views that come with allkit: the colours, or how much of a stain is where."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from allkit.hookspecs import hookimpl
from allkit.records import View

if TYPE_CHECKING:
    from torch import nn

api_version = 2

_VIEWS = {
    "haematoxylin": "how much nuclear stain is where, without the colours",
    "eosin": "how much eosin is where, without the colours",
    "saturation": "how coloured each place is, without which colour",
    "rgb": "the colours as they are",
    "normalised": "each colour's density on a scale of the image's own",
    "masked": "the colours without the corner of the scale bar",
}


def _build(name: str, size: int) -> nn.Module:
    from allkit.network.standardise import Colours, Masked, Stain

    if name == "rgb":
        return Colours()
    return Masked() if name == "masked" else Stain(name, size)


@hookimpl
def allkit_views() -> Iterable[View]:
    """Offer the colours, the colours without a corner, and four measures of stain."""
    return [View(name, partial(_build, name), summary) for name, summary in _VIEWS.items()]
