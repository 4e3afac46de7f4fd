"""Moved to `allkit.model`."""

from allkit._moved import forward

__getattr__ = forward(
    __name__,
    {
        "Explanation": "allkit.model.explanation.Explanation",
        "Faithfulness": "allkit.model.explanation.Faithfulness",
        "METHODS": "allkit.model.maps.METHODS",
        "Mapper": "allkit.model.maps.Mapper",
    },
)
