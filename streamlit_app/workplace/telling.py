"""Which part of a model's answer may be shown, and how sure it may look. No Streamlit.

A class is read first only where the answer was accepted. Where the model does not know the slide, or refuses
the field, neither a class nor a probability is shown: whoever has seen a name and a high probability has seen
a wrong answer, whatever stands below it. What an answer allows is decided once, in `shown_of`.
"""

from __future__ import annotations

from dataclasses import dataclass

import allkit
from allkit.records import CasePrediction, Prediction
from workplace.texts import Texts

__all__ = [
    "HIGH",
    "MODERATE",
    "Shown",
    "band_of",
    "band_words",
    "display_of",
    "group_of",
    "groups_apart",
    "percent",
    "reason_words",
    "reasons_of",
    "shown_of",
    "sure_of",
    "tone_of",
]

HIGH, MODERATE = 0.9, 0.7
"""The lowest probabilities of the bands high and moderate; below them it is low."""
CERTAIN, NEVER = 0.995, 0.005
NOT_CALIBRATED = "not_calibrated"
UNFAMILIAR = "unfamiliar_slide"
FOREIGN = ("nothing_to_see", "not_a_smear", "unlike_training", "parts_disagree")
"""With these a field shows no answer, neither a class nor a group of classes. Among the reasons of a slide
they are those of single fields."""
UNKNOWN_SLIDE = (UNFAMILIAR, "seen_without_labels", "subtype_unknown")
"""With these no class is shown; its group may be."""
GROUP_OPEN = (NOT_CALIBRATED, "not_calibrated_for_slides", "group_uncertain")
"""With these no group of classes is accepted."""
TONES = {"Benign": "benign", "Early": "malignant", "Pre": "malignant", "Pro": "malignant"}


@dataclass(frozen=True)
class Shown:
    """What of an answer may be shown: the class, whether it is accepted, and the accepted group."""

    label: str | None
    accepted: bool
    group: str | None
    calibrated: bool


def display_of(say: Texts, label: str) -> str:
    """Return a class in the user's language; a name that is not allkit's stays as it is."""
    return say(f"class.{label}") if say.has(f"class.{label}") else label


def group_of(say: Texts, group: str) -> str:
    """Return a group of classes in the user's language, as it begins a sentence."""
    return say(f"group.{group}") if say.has(f"group.{group}") else group[:1].upper() + group[1:]


def percent(say: Texts, value: float) -> str:
    """Return a share as a whole percentage, but never certainty."""
    if value >= CERTAIN:
        return say("band.certain")
    return say("band.never") if value < NEVER else say("band.percent", value=f"{100 * value:.0f}")


def band_of(value: float | None) -> str:
    """Return the band of a probability: `high`, `moderate`, `low`; `""` for none."""
    if value is None:
        return ""
    return "high" if value >= HIGH else "moderate" if value >= MODERATE else "low"


def band_words(say: Texts, band: str, *, calibrated: bool) -> str:
    """Return a band in words; of a model that is not calibrated that it has none."""
    if not calibrated:
        return say("band.not_calibrated")
    return say(f"band.{band}") if band else ""


def tone_of(label: str | None, group: str | None) -> str:
    """Return the tone of an accepted answer: `benign`, `malignant`, or `accepted` for other classes."""
    if group in ("benign", "malignant"):
        return str(group)
    return TONES.get(label or "", "accepted")


def groups_apart(label: str | None, group: str | None) -> bool:
    """Tell whether a group says something else than its class, as `malignant` does beside `Pro`."""
    return group is not None and (label or "").casefold() != group.casefold()


def shown_of(answer: Prediction | CasePrediction) -> Shown:
    """Return what of an answer, for a field or for a slide, may be shown."""
    codes = set(answer.reason_codes)
    calibrated = NOT_CALIBRATED not in codes
    foreign = isinstance(answer, Prediction) and codes.intersection(FOREIGN)
    if answer.verdict not in ("accepted", "review") or foreign:
        return Shown(None, accepted=False, group=None, calibrated=calibrated)
    label = None if codes.intersection(UNKNOWN_SLIDE) else answer.label
    # A model that is not calibrated, or in doubt about the group, accepts nothing, whatever it writes.
    doubt = codes.intersection((NOT_CALIBRATED, "group_uncertain"))
    accepted = answer.verdict == "accepted" and label is not None and not doubt
    group = None
    if answer.coarse_verdict == "accepted" and not codes.intersection(GROUP_OPEN):
        group = answer.coarse
    if not accepted and not groups_apart(answer.label, group):
        group = None  # "Benign is accepted, Benign is for review" would contradict itself
    return Shown(label, accepted=accepted, group=group, calibrated=calibrated)


def sure_of(answer: Prediction | CasePrediction, shown: Shown) -> float | None:
    """Return the probability that may be shown: that of the class, or of the accepted group beside
    a class that is open; `None` where no answer is shown, or its number is no probability."""
    if not shown.calibrated:
        return None
    if shown.group is not None and not shown.accepted:
        return answer.coarse_probability
    return None if shown.label is None else answer.probability


def reason_words(
    say: Texts, code: str, text: str = "", *, in_group: bool = False, of_slide: bool = False
) -> str:
    """Return a reason of a verdict as a sentence in the user's language.

    `text` is the library's, shown for what is not one of its own codes. `in_group` says that the
    group of classes is accepted: then only the class is in doubt. `of_slide` says that it is about all
    fields together, and not about one.
    """
    if in_group and say.has(f"reasons.{code}_group"):
        return say(f"reasons.{code}_group")
    if of_slide and say.has(f"reasons.{code}_slide"):
        return say(f"reasons.{code}_slide")
    if say.has(f"reasons.{code}") and (code != "other" or not text):
        return say(f"reasons.{code}")
    return say("reasons.foreign", text=allkit.reason_sentence(code, text))


def reasons_of(say: Texts, answer: Prediction | CasePrediction, shown: Shown) -> tuple[str, ...]:
    """Return every reason of an answer as a sentence, each once."""
    codes, words = answer.reason_codes, answer.reasons
    pairs: list[tuple[str, str]] = list(zip(codes, (*words, *[""] * len(codes)), strict=False))
    pairs += [("other", text) for text in words[len(codes) :]]
    marks = {"in_group": shown.group is not None, "of_slide": isinstance(answer, CasePrediction)}
    told = (reason_words(say, *pair, **marks) for pair in pairs)
    return tuple(dict.fromkeys(told))
