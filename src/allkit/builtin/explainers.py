"""The ways to explain an answer that come with allkit: two by a layer's output, one by covering.

What a cell of a field adds (`cells`) is no explainer: it is asked of the cells, not of one input.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from allkit.hookspecs import hookimpl
from allkit.records import Explainer

if TYPE_CHECKING:
    from allkit.records import MapRequest
    from allkit.types import Singles

api_version = 2


def _hirescam(request: MapRequest) -> Singles:
    from allkit.builtin.maps import cam

    return cam(request)


def _gradcam(request: MapRequest) -> Singles:
    from allkit.builtin.maps import cam

    return cam(request, by_channel=True)


def _occlusion(request: MapRequest) -> Singles:
    from allkit.builtin.maps import occlusion

    return occlusion(request)


@hookimpl
def allkit_explainers() -> Iterable[Explainer]:
    """Offer the maps of where a network looks."""
    return [
        Explainer(
            "hirescam",
            _hirescam,
            title="HiResCAM",
            needs_layer=True,
            summary="what each place adds to the class",
        ),
        Explainer(
            "gradcam",
            _gradcam,
            title="Grad-CAM",
            needs_layer=True,
            summary="the older way: each channel weighted as a whole",
        ),
        Explainer(
            "occlusion",
            _occlusion,
            title="occlusion",
            summary="how much the probability falls when a square is covered",
        ),
    ]
