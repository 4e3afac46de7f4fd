"""Moved to `allkit.model.classifier`."""

from allkit._moved import forward

_HOMES = {
    "Classifier": "allkit.model.classifier.Classifier",
}
__all__ = list(_HOMES)
__getattr__ = forward(__name__, _HOMES)
