"""Answers without torch: from probabilities to `Prediction`s, and from an exported file."""

from allkit._moved import also_in

__path__ = also_in("runtime", __path__)
