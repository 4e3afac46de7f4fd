"""Moved to `allkit.model.classifier`."""

from allkit._moved import forward

__getattr__ = forward(
    __name__,
    {
        "Classifier": "allkit.model.classifier.Classifier",
    },
)
