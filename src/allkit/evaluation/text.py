"""The main metrics of an evaluation as lines of text: for the terminal and for `print`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allkit.evaluation.coarse import coarse_lines
from allkit.evaluation.intervals import beside, ends, interval_of

__all__ = ["MAIN_METRICS", "accuracy_sentence", "counted", "evaluation_lines", "evaluation_text"]

MAIN_METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_roc_auc": "area under ROC",
    "malignant_sensitivity_at_specificity": "malignant at 95 % sp.",
    "ece": "calibration error",
    "set_coverage": "coverage of the sets",
    "accepted_accuracy": "right when accepted",
    "silent_error_rate": "silent errors",
}


def evaluation_text(evaluation: Mapping[str, Any]) -> str:
    """Return cautions, main metrics and verdicts of `Evaluation.to_dict` as one text."""
    return "\n".join(evaluation_lines(evaluation))


def evaluation_lines(evaluation: Mapping[str, Any]) -> list[str]:
    """Return the same line by line; cautions come first."""
    notes = evaluation["notes"]
    lines = [f"CAUTION  {note}" for note in notes] + ([""] if notes else [])
    lines += _coarse(evaluation.get("coarse"))
    for key, name in MAIN_METRICS.items():
        value, interval = evaluation.get(key), interval_of(evaluation, key)
        if value is not None and interval is not None:
            shown, words = "–".join(ends(*interval)), beside(evaluation, key)
            lines.append(f"{name:<22}{value:.3f}   ({shown}){f'  {words}' if words else ''}")
    fields = f" of {evaluation['fields']} fields" if "by" in evaluation else ""
    lines.append(
        f"{counted(evaluation):<22}{evaluation['n']}{fields}   "
        f"(95 % intervals by resampling {evaluation['interval_unit']}s)"
    )
    lines += _probe(evaluation.get("shortcut_probe"))
    if evaluation["verdicts"]:
        counts = " / ".join(
            str(evaluation["verdicts"][v]) for v in ("accepted", "review", "refused")
        )
        lines.append(f"accepted / review / refused: {counts}")
    return lines


def counted(evaluation: Mapping[str, Any]) -> str:
    """Return what an evaluation counts, in the plural: images, or slides or cases."""
    return f"{evaluation.get('by', 'image')}s"


def accuracy_sentence(evaluation: Mapping[str, Any]) -> str:
    """Return the accuracy with its interval, the number of images and the protocol."""
    low, high = interval_of(evaluation, "accuracy") or (0.0, 1.0)
    words = beside(evaluation, "accuracy")
    return (
        f"Accuracy {evaluation['accuracy']:.2f} (95 % interval {low:.2f}–{high:.2f}"
        f"{f': {words}' if words else ''}) on "
        f"{evaluation['n']:,} {counted(evaluation)}. {evaluation.get('protocol', 'Protocol not recorded')}."
    )


def _coarse(coarse: Mapping[str, Any] | None) -> list[str]:
    """Return the coarse answers, such as benign against malignant, before those by class."""
    return [*coarse_lines(coarse), "By class:"] if coarse else []


def _probe(probe: Mapping[str, Any] | None) -> list[str]:
    """Return the line that is shown with every accuracy: the strongest shortcut probe."""
    if probe is None:
        return []
    if probe["name"] is None:
        return [f"{'shortcut probe':<22}none: {probe['reason']}"]
    low, high = probe["interval"]
    return [
        f"{'strongest shortcut':<22}{probe['balanced_accuracy']:.3f}   ({low:.3f}–{high:.3f})  balanced "
        f"accuracy of {probe['name']} alone, chance {probe['chance']:.2f}"
    ]
