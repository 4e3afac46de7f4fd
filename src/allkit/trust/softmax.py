"""From logits to probabilities, in numpy only."""

from __future__ import annotations

import numpy as np

from allkit.types import Floats

__all__ = ["log_sum_exp", "softmax"]

# What is fitted takes scipy.special. These are for answers: an exported file is asked without
# scipy, which is no dependency of the core.


def softmax(logits: Floats) -> Floats:
    """Return the probabilities `(N, K)` of logits `(N, K)`; each row sums to 1."""
    powers = np.exp(_lowered(logits))
    result: Floats = powers / powers.sum(axis=1, keepdims=True)
    return result


def log_sum_exp(logits: Floats) -> Floats:
    """Return the logarithm of the sum of the powers `(N,)` of logits `(N, K)`."""
    result: Floats = logits.max(axis=1) + np.log(np.exp(_lowered(logits)).sum(axis=1))
    return result


def _lowered(logits: Floats) -> Floats:
    """Return each row less its largest value, so that no power is too large."""
    result: Floats = logits - logits.max(axis=1, keepdims=True)
    return result
