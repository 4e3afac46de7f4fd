"""Stain augmentations: they change how much dye there is, in optical-density space.

Light that passes through dye is weakened by a factor for every unit of it (Beer and Lambert), so
the optical density -log10(I / 255) is linear in the amounts of the dyes. Two stainings of one
smear differ in these amounts, which a change of RGB or hue describes badly.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
import numpy.typing as npt

from allkit import Augmentation, hookimpl

Image = npt.NDArray[np.uint8]
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


def density(image: Image) -> npt.NDArray[np.float32]:
    """Return the optical density `(H, W, 3)` float32 of `(H, W, 3)` uint8; 0 is clear glass."""
    return (-np.log10(np.maximum(image, 1).astype(np.float32) / 255.0)).astype(np.float32)


def to_image(densities: npt.NDArray[np.floating]) -> Image:
    """Return the image `(H, W, 3)` uint8 of optical densities."""
    return np.clip(np.rint(255.0 * 10.0 ** (-densities)), 0, 255).astype(np.uint8)


def hed_jitter(scale: float, shift: float, image: Image, rng: np.random.Generator) -> Image:
    """Multiply each dye by 1 ± `scale` and add ± `shift` of optical density (Tellez et al. 2018).

    Haematoxylin, eosin and the rest change independently of each other.
    """
    factors = rng.uniform(1 - scale, 1 + scale, 3)
    offsets = rng.uniform(-shift, shift, 3)
    amounts = density(image) @ TO_STAINS
    return to_image((amounts * factors + offsets) @ STAINS)


def strength(low: float, high: float, image: Image, rng: np.random.Generator) -> Image:
    """Stain the whole field more weakly or more strongly: all densities times one factor."""
    return to_image(density(image) * rng.uniform(low, high))


def illumination(shift: float, image: Image, rng: np.random.Generator) -> Image:
    """Tint and dim the light: an optical density of its own is added to each channel."""
    return to_image(density(image) + rng.uniform(-shift, shift, 3))


@hookimpl
def allkit_augmentations() -> Iterable[Augmentation]:
    """Offer three changes of the stain, from gentle to further than laboratories differ."""
    return [
        Augmentation(
            "hed-light", partial(hed_jitter, 0.1, 0.01), "each dye by ±10 %, as between two days"
        ),
        Augmentation(
            "hed-strong",
            partial(hed_jitter, 0.4, 0.05),
            "each dye by ±40 %, as between laboratories",
        ),
        Augmentation(
            "stain-strength", partial(strength, 0.6, 1.5), "all dye by a factor 0.6 to 1.5"
        ),
        Augmentation("lamp", partial(illumination, 0.06), "colour and brightness of the light"),
    ]
