"""The types that many modules speak of. Shapes and ranges stand where they are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Bytes", "Doubles", "Floats", "Indices", "Ints", "Mask", "Pixels", "Progress", "Singles"]

Floats = npt.NDArray[np.floating[Any]]
Singles = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Indices = Ints
"""Positions of images in a set."""
Bytes = npt.NDArray[np.uint8]
Pixels = Bytes
"""An image `(H, W, 3)`, RGB, or several of one shape `(N, H, W, 3)`."""
Mask = Bytes
"""A picture `(H, W)` that is not 0 where something is."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""
