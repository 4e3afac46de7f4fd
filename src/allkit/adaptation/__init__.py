"""Adapts a model to the slides of a laboratory, and says what that was worth."""

from allkit._moved import forward

__getattr__ = forward(__name__, {"Adaptation": "allkit.model.adaptation.Adaptation"})
