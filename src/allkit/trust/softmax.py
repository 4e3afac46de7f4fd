"""From logits to probabilities, in numpy: for answers, and for what is fitted to them."""

from __future__ import annotations

import numpy as np

from allkit.types import Floats

__all__ = ["log_softmax", "log_sum_exp", "softmax"]


def softmax(logits: Floats) -> Floats:
    """Return the probabilities `(N, K)` of logits `(N, K)`; each row sums to 1."""
    powers = np.exp(_lowered(logits))
    result: Floats = powers / powers.sum(axis=1, keepdims=True)
    return result


def log_softmax(logits: Floats) -> Floats:
    """Return the logarithms of the probabilities `(N, K)` of logits `(N, K)`."""
    lowered = _lowered(logits)
    result: Floats = lowered - np.log(np.exp(lowered).sum(axis=1, keepdims=True))
    return result


def log_sum_exp(logits: Floats) -> Floats:
    """Return the logarithm of the sum of the powers `(N,)` of logits `(N, K)`."""
    result: Floats = logits.max(axis=1) + np.log(np.exp(_lowered(logits)).sum(axis=1))
    return result


def _lowered(logits: Floats) -> Floats:
    """Return each row less its largest value, so that no power is too large."""
    result: Floats = logits - logits.max(axis=1, keepdims=True)
    return result
