"""How a slide is cut.

The fields of the training had 224 pixels a side, and a red cell of about 7.5 micrometres had 15
pixels: that is half a micrometre for a pixel, what scanners call 20x.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Tiling"]


class Tiling(BaseModel):
    """At which scale a slide is cut, and which tiles are taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    micrometres_per_pixel: float = Field(0.5, ge=0.05, le=4, description="the scale of the tiles")
    side: int = Field(224, ge=64, le=4096, description="pixels of a tile's side")
    least_tissue: float = Field(
        0.5, ge=0, le=1, description="the share of a tile that is not bare glass, at least"
    )
    most_tiles: int | None = Field(
        None, ge=1, description="take at most so many tiles, evenly spread over those with tissue"
    )
    stated_micrometres_per_pixel: float | None = Field(
        None, ge=0.05, le=4, description="the scale of the slide, where its file does not say it"
    )
