"""The main metrics of an evaluation as lines of text: for the terminal and for `print`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allkit.evaluation.coarse import coarse_lines
from allkit.evaluation.intervals import beside, interval_of, shown_interval
from allkit.evaluation.probe_words import probe_words
from allkit.shown.text import how_many

__all__ = [
    "MAIN_METRICS",
    "OF_CLASS",
    "accuracy_sentence",
    "cautions_of",
    "counted",
    "evaluation_lines",
    "evaluation_text",
    "in_units",
    "protocol_sentences",
]

FEW = 30
"""Groups below which a bootstrap over them is known to be too sure of itself (Cameron & Miller 2015)."""

OF_CLASS = "Class"
"""What verdicts on the class are called, beside those on benign or malignant."""

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


def cautions_of(evaluation: Mapping[str, Any]) -> list[str]:
    """Return what has to be said before any metric: the notes, and that few groups bear it all."""
    notes = list(evaluation["notes"])
    units, unit = evaluation.get("units", 0), evaluation["interval_unit"]
    if not 0 < units < FEW:
        return notes
    what = how_many(units, unit)
    if unit == "image":
        notes.append(f"All of this rests on {what}: too few to rely on. Test on more images.")
    else:
        notes.append(
            f"All of this rests on {what}, however many images they hold. Intervals from fewer than "
            f"{FEW} {unit}s are too narrow: test on more {'slides' if unit == 'group' else f'{unit}s'}."
        )
    return notes


def in_units(evaluation: Mapping[str, Any]) -> str:
    """Return how many images are counted, in how many groups: `50 images in 13 groups`."""
    unit, units = evaluation["interval_unit"], evaluation.get("units", 0)
    text = how_many(evaluation["n"], evaluation.get("by", "image"))
    if "by" in evaluation:
        text += f" of {how_many(evaluation['fields'], 'field')}"
    if unit == "image":
        return f"{text}, no groups known"
    if unit == evaluation.get("by"):
        return text
    return f"{text} in {how_many(units, unit)}"


def evaluation_lines(evaluation: Mapping[str, Any]) -> list[str]:
    """Return the same line by line; cautions come first."""
    notes = cautions_of(evaluation)
    lines = [f"CAUTION  {note}" for note in notes] + ([""] if notes else [])
    lines += _coarse(evaluation.get("coarse"))
    for key, name in MAIN_METRICS.items():
        value, interval = evaluation.get(key), interval_of(evaluation, key)
        if value is not None and interval is not None:
            shown, words = shown_interval(evaluation, key), beside(evaluation, key)
            after = [*([f"({shown})"] if shown else []), *([words] if words else [])]
            lines.append(f"{name:<22}{value:.3f}   {'  '.join(after)}")
    lines.append(
        f"{'counted':<22}{in_units(evaluation)}   (95 % intervals by resampling "
        f"{evaluation['interval_unit']}s)"
    )
    lines += _probe(evaluation.get("shortcut_probe"))
    if evaluation["verdicts"]:
        counts = " / ".join(
            str(evaluation["verdicts"][v]) for v in ("accepted", "review", "refused")
        )
        lines.append(f"{OF_CLASS}, accepted / review / refused: {counts}")
    return lines


def counted(evaluation: Mapping[str, Any]) -> str:
    """Return what an evaluation counts, in the plural: images, or slides or cases."""
    return f"{evaluation.get('by', 'image')}s"


def accuracy_sentence(evaluation: Mapping[str, Any]) -> str:
    """Return the accuracy with its interval, what it was measured on, and how, in short sentences."""
    low, high = interval_of(evaluation, "accuracy") or (0.0, 1.0)
    words = beside(evaluation, "accuracy")
    first = (
        f"Accuracy {evaluation['accuracy']:.2f} (95 % interval {low:.2f}–{high:.2f}"
        f"{f': {words}' if words else ''}) on {in_units(evaluation)}."
    )
    protocol = evaluation.get("protocol", "Protocol not recorded")
    how = protocol_sentences(protocol, grouped=evaluation["interval_unit"] != "image")
    return " ".join([first, *how])


def protocol_sentences(protocol: str, *, grouped: bool = True) -> list[str]:
    """Return how a model was judged in its training, one thing a sentence.

    `protocol` is that of `model.json`, where it is one long sentence. Without groups (`grouped`) a division
    by group keeps no more together than images of one field, which is said.
    """
    rest = protocol.rstrip(".")
    if not grouped:
        rest = rest.replace(" by group", " by image, since no groups are known", 1)
    rest, refit, _ = rest.partition(", before the head was trained again on all images")
    rest, stopping, _ = rest.partition(", also used to decide when to stop")
    sentences = [f"{rest.replace('Validation part, divided', 'Held out from training, divided')}."]
    if stopping:
        sentences.append("The same images decided when training stopped.")
    if refit:
        sentences.append("Afterwards the head was trained again on all images.")
    return sentences


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
        f"accuracy of the {probe_words(probe['name'])} alone, chance {probe['chance']:.2f}"
    ]
