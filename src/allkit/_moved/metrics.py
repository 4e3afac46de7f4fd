"""Moved to `allkit.evaluation`."""

from allkit._moved import forward

_HOMES = {
    "Comparison": "allkit.evaluation.compare.Comparison",
    "Evaluation": "allkit.evaluation.result.Evaluation",
    "by_fold": "allkit.evaluation.result.by_fold",
    "compare": "allkit.evaluation.compare.compare",
    "evaluate": "allkit.evaluation.result.evaluate",
}
__all__ = list(_HOMES)
__getattr__ = forward(__name__, _HOMES)
