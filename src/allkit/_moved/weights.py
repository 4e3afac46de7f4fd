"""Moved to `allkit.network.weights`."""

from allkit._moved import forward

_HOMES = {
    "load_weights": "allkit.network.weights.load_weights",
}
__all__ = list(_HOMES)
__getattr__ = forward(__name__, _HOMES)
