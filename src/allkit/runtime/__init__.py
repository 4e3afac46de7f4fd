"""Answers without torch: from probabilities to `Prediction`s, and from an exported file."""
