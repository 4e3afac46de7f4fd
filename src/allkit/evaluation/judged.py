"""The record of a model's answers on a set, before they are compared with its labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from allkit.trust.verdict import Decision

__all__ = ["Judged"]


class Judged(NamedTuple):
    """The answers of a model on N images: probabilities and prediction sets `(N, K)`, decisions.

    `sets` is `None` for a model without calibration.
    """

    probabilities: npt.NDArray[np.float32]
    decisions: list[Decision]
    sets: npt.NDArray[np.bool_] | None
