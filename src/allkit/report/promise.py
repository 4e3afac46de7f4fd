"""What is said of a model whose prediction sets promise nothing: on its card and in a notebook."""

from __future__ import annotations

from allkit.trust.calibration import examples_needed

__all__ = ["sets_without_promise"]


def sets_without_promise(coverage: float) -> str:
    """Return why no class is promised a coverage, and what follows from it, in words."""
    return (
        f"Prediction sets are not calibrated: no class has {examples_needed(coverage)} held-out images, "
        f"which {coverage:.0%} needs, so no class is ever ruled out: every answer that is not refused is for "
        f"review."
    )
