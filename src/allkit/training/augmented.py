"""Images as the augmentations of a training change them, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from allkit.data.overview import batch_sheet
from allkit.features import AugmentedCopy
from allkit.training.own import taken

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from allkit.data.dataset import Dataset

__all__ = ["augmented_sheet"]

SHOWN = 6
"""Images that are drawn, each as it is and below as it becomes."""


def augmented_sheet(data: Dataset, augment: Sequence[Any] | Any, *, seed: int) -> Figure:
    """Return a figure of images of a set, and below each its augmented copy.

    `augment` is what the setting of that name takes. Raises `PluginError` for an unknown name, and
    `ImageError` for an unreadable image.
    """
    settings, own = taken({"augment": augment})
    given = settings["augment"]
    names = (given,) if isinstance(given, str) else tuple(given)
    records, marks = own.augmentations(names)
    copy = AugmentedCopy(1, records, marks, seed)
    rng = np.random.default_rng(seed)
    places = np.sort(rng.permutation(len(data))[:SHOWN])
    frames = [data.passes.frame(int(place)) for place in places]
    pixels = [frame.pixels for frame in frames] + [copy.of(frame) for frame in frames]
    shown = [data.samples[int(place)].image for place in places]
    return batch_sheet(pixels, [*shown, *(f"{name} (augmented)" for name in shown)])
