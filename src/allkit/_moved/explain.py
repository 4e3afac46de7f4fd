"""Moved to `allkit.model.explain`."""

from allkit._moved import forward

__getattr__ = forward(
    __name__,
    {
        "Explanation": "allkit.model.explain.Explanation",
        "Faithfulness": "allkit.model.explain.Faithfulness",
        "METHODS": "allkit.model.explain.METHODS",
        "Mapper": "allkit.model.explain.Mapper",
    },
)
