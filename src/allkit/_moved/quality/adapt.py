"""Moved to `allkit.adaptation.adapt`."""

from allkit._moved import forward

__getattr__ = forward(
    __name__,
    {
        "adapt": "allkit.adaptation.adapt.adapt",
    },
)
