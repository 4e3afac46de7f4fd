"""Moved to `allkit.adaptation.adapt`."""

from allkit._moved import forward

_HOMES = {
    "adapt": "allkit.adaptation.adapt.adapt",
}
__all__ = list(_HOMES)
__getattr__ = forward(__name__, _HOMES)
