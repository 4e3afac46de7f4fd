"""Moved to `allkit.network.weights`."""

from allkit._moved import forward

__getattr__ = forward(
    __name__,
    {
        "load_weights": "allkit.network.weights.load_weights",
    },
)
