"""Moved to `allkit.trust`. Reasons are the texts that answers give; they have codes now."""

from __future__ import annotations

import importlib
from typing import Any

from allkit._moved import forward, warn_renamed

_REASONS = {
    "AMBIGUOUS": "AMBIGUOUS",
    "BY_STAIN": "BY_STAIN_ONLY",
    "EMPTY_SET": "EMPTY_SET",
    "FEW_EXAMPLES": "TOO_FEW_EXAMPLES",
    "LOW_CONFIDENCE": "LOW_CONFIDENCE",
    "NOTHING_TO_SEE": "NOTHING_TO_SEE",
    "NOT_A_SMEAR": "NOT_A_SMEAR",
    "NOT_CALIBRATED": "NOT_CALIBRATED",
    "NO_FAMILIARITY": "NO_OOD_DETECTION",
    "NO_LABELS": "SEEN_WITHOUT_LABELS",
    "UNFAMILIAR": "UNFAMILIAR_SLIDE",
}

_moved = forward(
    __name__,
    {
        "Decision": "allkit.trust.verdict.Decision",
        "NEAREST": "allkit.trust.space.NEAREST",
        "NEIGHBOURS": "allkit.trust.space.NEIGHBOURS",
        "Outputs": "allkit.trust.verdict.Outputs",
        "STRANGEST": "allkit.trust.space.HIGHEST_SCORE",
        "Space": "allkit.trust.space.Space",
        "Trust": "allkit.trust.verdict.Trust",
        "set_table": "allkit.trust.verdict.set_table",
        "signed_root": "allkit.trust.space.signed_sqrt",
    },
    stacklevel=4,  # through the function below
)


def __getattr__(name: str) -> Any:
    if name not in _REASONS:
        return _moved(name)
    warn_renamed(
        f"{__name__}.{name}", f"allkit.trust.reasons.{_REASONS[name]}, a code of `reason_codes`,"
    )
    reasons = importlib.import_module("allkit.trust.reasons")
    return reasons.TEXTS[getattr(reasons, _REASONS[name])]
