"""Augmentations as they were written for allkit 0.2.0: parameters by `partial`, in names of their own."""

from collections.abc import Iterable
from functools import partial

import numpy as np

from allkit import Augmentation, hookimpl

api_version = 1


def strength(low, high, image, rng):
    """All light by one factor."""
    return np.clip(image * rng.uniform(low, high), 0, 255).astype(np.uint8)


@hookimpl
def allkit_augmentations() -> Iterable[Augmentation]:
    return [
        Augmentation("saved-light", partial(strength, 0.9, 1.1), "light by ±10 %"),
        Augmentation("saved-strong", partial(strength, 0.5, 1.5), "light by ±50 %"),
    ]
