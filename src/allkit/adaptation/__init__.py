"""Adapts a model to the slides of a laboratory, and measures whether that helped."""

from allkit._moved import forward

__getattr__ = forward(__name__, {"Adaptation": "allkit.model.adaptation.Adaptation"})
