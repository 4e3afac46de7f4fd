"""The names of the metrics as they are shown, and what each says."""

from __future__ import annotations

__all__ = ["MEANINGS", "METRIC_NAMES", "SAME_NAMES"]

_METRICS = {
    "accuracy": ("accuracy", "share of all answers that are right"),
    "balanced_accuracy": (
        "balanced accuracy",
        "the same, every class counted alike: mean of the recalls",
    ),
    "macro_f1": ("macro F1", "mean of F1 over the classes"),
    "macro_specificity": ("macro specificity", "mean of specificity over the classes"),
    "macro_roc_auc": (
        "area under ROC, mean over classes",
        "how well each class is ranked before all others; 0.5 is chance",
    ),
    "macro_average_precision": (
        "average precision, mean over classes",
        "the same for rare classes, which lower it",
    ),
    "malignant_roc_auc": (
        "malignant against Benign: area under ROC",
        "how well everything but Benign is ranked before Benign",
    ),
    "malignant_average_precision": (
        "malignant against Benign: average precision",
        "the same as average precision",
    ),
    "malignant_sensitivity_at_specificity": (
        "malignant: sensitivity at 95 % specificity",
        "share of the malignant that is found when 5 % of Benign raise an alarm",
    ),
    "ece": (
        "calibration error (ECE, adaptive bins)",
        "how far the probability of an answer is from how often it is right",
    ),
    "classwise_ece": (
        "calibration error, mean over classes",
        "the same for the probability of every class, not only the answered one",
    ),
    "brier": ("Brier score", "squared error of the probabilities; 0 is best"),
    "log_loss": ("log loss", "punishes being sure and wrong; 0 is best"),
    "area_risk_coverage": (
        "area under risk–coverage",
        "errors over all ways to answer only the surest; 0 is best",
    ),
    "accepted_share": ("share accepted", "share of all answers that were accepted"),
    "accepted_accuracy": (
        "accuracy of the accepted",
        "share of the accepted answers that are right",
    ),
    "silent_error_rate": (
        "silent errors (accepted and wrong)",
        "share of all answers that nobody would have looked at, and that are wrong",
    ),
    "set_coverage": (
        "prediction sets that hold the true class",
        "to compare with the coverage that was promised",
    ),
    "set_size": ("mean size of the prediction sets", "classes that cannot be ruled out"),
    "empty_sets": ("empty prediction sets", "share of images that fit no class"),
}
METRIC_NAMES = {key: name for key, (name, _) in _METRICS.items()}
"""Names of the metrics as they are shown."""
MEANINGS = {key: meaning for key, (_, meaning) in _METRICS.items()}
"""What each metric says, in a few words."""
SAME_NAMES = (
    "Sensitivity and recall are one thing, and so are positive predictive value and precision. The "
    "calibration error stands here twice: for the answered class, and as the mean over all classes."
)
"""For the caption of a table that holds all metrics."""
