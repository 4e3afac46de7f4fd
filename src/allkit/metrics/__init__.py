"""Figures of merit, from true classes, probabilities and verdicts; numpy only."""

from allkit.metrics.compare import Comparison, compare
from allkit.metrics.evaluation import Evaluation, by_fold, evaluate

__all__ = ["Comparison", "Evaluation", "by_fold", "compare", "evaluate"]
