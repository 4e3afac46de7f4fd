"""Moved to `allkit.trust.verdict`."""

from allkit._moved import forward

__getattr__ = forward(
    __name__,
    {
        "AMBIGUOUS": "allkit.trust.verdict.AMBIGUOUS",
        "BY_STAIN": "allkit.trust.verdict.BY_STAIN",
        "Decision": "allkit.trust.verdict.Decision",
        "EMPTY_SET": "allkit.trust.verdict.EMPTY_SET",
        "FEW_EXAMPLES": "allkit.trust.verdict.FEW_EXAMPLES",
        "LOW_CONFIDENCE": "allkit.trust.verdict.LOW_CONFIDENCE",
        "NEAREST": "allkit.trust.verdict.NEAREST",
        "NEIGHBOURS": "allkit.trust.verdict.NEIGHBOURS",
        "NOTHING_TO_SEE": "allkit.trust.verdict.NOTHING_TO_SEE",
        "NOT_A_SMEAR": "allkit.trust.verdict.NOT_A_SMEAR",
        "NOT_CALIBRATED": "allkit.trust.verdict.NOT_CALIBRATED",
        "NO_FAMILIARITY": "allkit.trust.verdict.NO_FAMILIARITY",
        "NO_LABELS": "allkit.trust.verdict.NO_LABELS",
        "Outputs": "allkit.trust.verdict.Outputs",
        "STRANGEST": "allkit.trust.verdict.STRANGEST",
        "Space": "allkit.trust.verdict.Space",
        "Trust": "allkit.trust.verdict.Trust",
        "UNFAMILIAR": "allkit.trust.verdict.UNFAMILIAR",
        "set_table": "allkit.trust.verdict.set_table",
        "signed_root": "allkit.trust.verdict.signed_root",
    },
)
