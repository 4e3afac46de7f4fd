"""Moved to `allkit.model`."""

from allkit._moved import forward

_HOMES = {
    "Explanation": "allkit.model.explanation.Explanation",
    "Faithfulness": "allkit.model.explanation.Faithfulness",
    "METHODS": "allkit.model.maps.METHODS",
    "Mapper": "allkit.model.maps.Mapper",
}
__all__ = list(_HOMES)
__getattr__ = forward(__name__, _HOMES)
