"""Stain in optical-density space: augmentations that change it, and a view in which it is normalised.

Light that passes through dye is weakened by a factor for every unit of it (Beer and Lambert), so
the optical density -log10(I / 255) is linear in the amounts of the dyes. Two stainings of one
smear differ in these amounts, which a change of RGB or hue describes badly.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from allkit import Augmentation, View, hookimpl

if TYPE_CHECKING:
    from torch import nn

Image = npt.NDArray[np.uint8]
Vector = tuple[float, float, float]
api_version = 2

# Optical densities of haematoxylin, eosin and what is left, in red, green and blue
# (Ruifrok & Johnston 2001). Romanowsky stains have an azure B and eosin Y close to them.
HAEMATOXYLIN, EOSIN = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11)


def _stains() -> npt.NDArray[np.float64]:
    first, second = (np.asarray(s) / np.linalg.norm(s) for s in (HAEMATOXYLIN, EOSIN))
    third = np.cross(first, second)
    return np.stack([first, second, third / np.linalg.norm(third)])


STAINS = _stains()
TO_STAINS = np.linalg.inv(STAINS)


# ── settings ───────────────────────────────────────────────────────────────────────────────────


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Hed(_Settings):
    """The settings of `hed`; the defaults are as between two days of one laboratory."""

    sigma: float = Field(
        0.1, ge=0, le=1, description="each dye is multiplied by 1 ± as much: 0.1 is ±10 %"
    )
    shift: float = Field(0.01, ge=0, le=0.5, description="optical density added to each dye, ±")


class Strength(_Settings):
    """The settings of `strength`."""

    low: float = Field(0.6, gt=0, le=1, description="the least factor of all dye")
    high: float = Field(1.5, ge=1, le=5, description="the largest factor of all dye")


class Lamp(_Settings):
    """The settings of `lamp`."""

    shift: float = Field(
        0.06, ge=0, le=0.5, description="optical density added to each colour of the light, ±"
    )


class Macenko(_Settings):
    """The settings of the view `macenko`; the defaults are those that are usual for it."""

    haematoxylin: Vector = Field(
        (0.5626, 0.7201, 0.4062),
        description="what the nuclear dye becomes: its optical density in red, green and blue",
    )
    eosin: Vector = Field((0.2159, 0.8012, 0.5581), description="what the other dye becomes")
    strongest: tuple[float, float] = Field(
        (1.9705, 1.0308),
        description="amount of both dyes that the 99 % quantile of an image becomes",
    )
    alpha: float = Field(
        1.0, gt=0, le=10, description="per cent of the stained pixels beyond each of the two dyes"
    )
    beta: float = Field(
        0.15,
        gt=0,
        le=1,
        description="optical density (natural logarithm) from which a pixel is stained",
    )
    mask_corner: bool = Field(
        True,
        description="leave out the lower right corner, where microscopes burn in a scale bar: it is white",
    )
    clear_glass: bool = Field(
        True,
        description="take the colour of the background (the 10 % quantile of each density) off first",
    )

    @model_validator(mode="after")
    def _directions(self) -> Macenko:
        values = [*self.haematoxylin, *self.eosin, *self.strongest]
        if min(values) < 0 or min(self.strongest) <= 0:
            raise ValueError("optical densities must not be below zero")
        cross = np.cross(self.haematoxylin, self.eosin)
        if np.linalg.norm(cross) < 0.05:
            raise ValueError("the two dyes must have different colours")
        return self


# ── augmentations ──────────────────────────────────────────────────────────────────────────────


def density(image: Image) -> npt.NDArray[np.float32]:
    """Return the optical density `(H, W, 3)` float32 of `(H, W, 3)` uint8; 0 is clear glass."""
    return (-np.log10(np.maximum(image, 1).astype(np.float32) / 255.0)).astype(np.float32)


def to_image(densities: npt.NDArray[np.floating]) -> Image:
    """Return the image `(H, W, 3)` uint8 of optical densities."""
    return np.clip(np.rint(255.0 * 10.0 ** (-densities)), 0, 255).astype(np.uint8)


def hed(image: Image, rng: np.random.Generator, *, settings: Hed) -> Image:
    """Multiply each dye by 1 ± `sigma` and add ± `shift` of optical density (Tellez et al. 2018).

    Haematoxylin, eosin and the rest change independently of each other.
    """
    factors = rng.uniform(1 - settings.sigma, 1 + settings.sigma, 3)
    offsets = rng.uniform(-settings.shift, settings.shift, 3)
    amounts = density(image) @ TO_STAINS
    return to_image((amounts * factors + offsets) @ STAINS)


def strength(image: Image, rng: np.random.Generator, *, settings: Strength) -> Image:
    """Stain the whole field more weakly or more strongly: all densities times one factor."""
    return to_image(density(image) * rng.uniform(settings.low, settings.high))


def lamp(image: Image, rng: np.random.Generator, *, settings: Lamp) -> Image:
    """Tint and dim the light: an optical density of its own is added to each channel."""
    return to_image(density(image) + rng.uniform(-settings.shift, settings.shift, 3))


LIGHT, STRONG = Hed(), Hed(sigma=0.4, shift=0.05)


@hookimpl
def allkit_augmentations() -> Iterable[Augmentation]:
    """Offer three changes of the stain with settings, and those of them that had a name before."""
    return [
        Augmentation("hed", hed, "each dye by itself", settings=Hed),
        Augmentation("strength", strength, "all dye by one factor", settings=Strength),
        Augmentation("lamp", lamp, "colour and brightness of the light", settings=Lamp),
        Augmentation(
            "hed-light", partial(hed, settings=LIGHT), "each dye by ±10 %, as between two days"
        ),
        Augmentation(
            "hed-strong",
            partial(hed, settings=STRONG),
            "each dye by ±40 %, as between laboratories",
        ),
        Augmentation(
            "stain-strength",
            partial(strength, settings=Strength()),
            "all dye by a factor 0.6 to 1.5",
        ),
    ]


# ── the view ───────────────────────────────────────────────────────────────────────────────────


def normalised(size: int, *, settings: Macenko) -> nn.Module:
    """Return the view: the two dyes of an image, found by Macenko's method, as those of the settings."""
    from allkit_stain_macenko import Normalised

    return Normalised(size, settings)


@hookimpl
def allkit_views() -> Iterable[View]:
    """Offer the normalisation of the stain."""
    return [
        View(
            "macenko",
            normalised,
            "the two dyes of each image in one pair of colours (Macenko et al. 2009)",
            settings=Macenko,
        )
    ]
