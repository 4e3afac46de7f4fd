"""Adapts a model to the slides of a laboratory, and says what that was worth."""
