"""Why a verdict is what it is: stable codes, and the one table of what they say in words.

A program compares codes, which stay what they are; a person reads texts, which may become clearer.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "AMBIGUOUS",
    "BY_STAIN_ONLY",
    "COLOUR_PROFILE",
    "EMPTY_SET",
    "FEW_ACCEPTED",
    "FIELDS_DISAGREE",
    "GROUP_UNCERTAIN",
    "LOW_CONFIDENCE",
    "NOTHING_TO_SEE",
    "NOT_A_SMEAR",
    "NOT_CALIBRATED",
    "NOT_CALIBRATED_FOR_SLIDES",
    "NO_FIELD",
    "NO_OOD_DETECTION",
    "ONE_SLIDE_CLASS",
    "OTHER",
    "PARTS_DISAGREE",
    "SEEN_WITHOUT_LABELS",
    "SENTENCES",
    "SUBTYPE_UNKNOWN",
    "TEXTS",
    "TILE_OF_SLIDE",
    "TOO_FEW_EXAMPLES",
    "UNFAMILIAR_SLIDE",
    "UNKNOWN_MAGNIFICATION",
    "UNLIKE_TRAINING",
    "UNREADABLE",
    "UNUSUAL",
    "codes_of",
    "reason_sentence",
    "texts_of",
]

NOTHING_TO_SEE = "nothing_to_see"
NOT_A_SMEAR = "not_a_smear"
UNLIKE_TRAINING = "unlike_training"
NOT_CALIBRATED = "not_calibrated"
NOT_CALIBRATED_FOR_SLIDES = "not_calibrated_for_slides"
SUBTYPE_UNKNOWN = "subtype_unknown"
GROUP_UNCERTAIN = "group_uncertain"
ONE_SLIDE_CLASS = "one_slide_class"
NO_OOD_DETECTION = "no_ood_detection"
UNFAMILIAR_SLIDE = "unfamiliar_slide"
SEEN_WITHOUT_LABELS = "seen_without_labels"
BY_STAIN_ONLY = "by_stain_only"
EMPTY_SET = "empty_set"
AMBIGUOUS = "ambiguous"
TOO_FEW_EXAMPLES = "too_few_examples"
LOW_CONFIDENCE = "low_confidence"
UNREADABLE = "unreadable"
NO_FIELD = "no_field"
FIELDS_DISAGREE = "fields_disagree"
FEW_ACCEPTED = "few_accepted"
PARTS_DISAGREE = "parts_disagree"
COLOUR_PROFILE = "colour_profile"
UNKNOWN_MAGNIFICATION = "unknown_magnification"
TILE_OF_SLIDE = "tile_of_slide"
OTHER = "other"

UNUSUAL = {
    "background": "unusual_background",
    "middle": "unusual_exposure",
    "darkest": "unusual_exposure",
    "cells": "unusual_cell_colour",
    "rest": "unusual_red_cell_colour",
    "cell": "unusual_cell_amount",
    "stain": "unusual_stain",
    "edges": "unusual_contrast",
    "sharpness": "unusual_sharpness",
    "outline": "unusual_magnification",
}
"""The first word of the name of an image statistic → the code for a value that is unusual."""

TEXTS = {
    NOTHING_TO_SEE: "nothing to see",
    NOT_A_SMEAR: "not a smear",
    UNLIKE_TRAINING: "unlike what was learnt of any slide of the training",
    # What `allkit.images.cells` says of a field, which lies below this package.
    "no_white_cells": "no white cell found",
    UNKNOWN_MAGNIFICATION: "magnification unknown: no red cells to measure",
    NOT_CALIBRATED: "not calibrated",
    NO_OOD_DETECTION: "no out-of-distribution detection",
    UNFAMILIAR_SLIDE: "unfamiliar slide",
    "unusual_background": "unusual brightness or colour of the background",
    "unusual_exposure": "unusual exposure",
    "unusual_cell_colour": "unusual colour of the stained cells",
    "unusual_red_cell_colour": "unusual colour of the red cells and the background",
    "unusual_cell_amount": "unusual amount of stained cells",
    "unusual_stain": "unusual strength of the stain",
    "unusual_contrast": "unusual contrast",
    "unusual_sharpness": "unusual sharpness",
    "unusual_magnification": "unusual size of the cells (magnification)",
    SEEN_WITHOUT_LABELS: "like slides that were shown without labels",
    BY_STAIN_ONLY: "rests only on an adaptation without labels",
    EMPTY_SET: "empty prediction set",
    AMBIGUOUS: "ambiguous",
    TOO_FEW_EXAMPLES: "too few calibration examples",
    LOW_CONFIDENCE: "low confidence",
    SUBTYPE_UNKNOWN: "the subtype cannot be said on this slide",
    GROUP_UNCERTAIN: "the class group, such as malignant, is uncertain on an unseen slide",
    ONE_SLIDE_CLASS: "a class that was seen on one slide only",
    NOT_CALIBRATED_FOR_SLIDES: "not calibrated for unseen slides",
    UNREADABLE: "unreadable",
    "too_large": "too large",  # said by the app, of a file that it does not take
    NO_FIELD: "no field to answer from",
    FIELDS_DISAGREE: "fields disagree",
    FEW_ACCEPTED: "fewer than half of the fields accepted",
    PARTS_DISAGREE: "parts of the field disagree",
    COLOUR_PROFILE: "a colour profile that was not applied",  # changes no verdict
    TILE_OF_SLIDE: "a tile of a whole slide, not a field that a person chose",
    OTHER: "another reason",
}
"""The code of every reason → what it says in words."""

SENTENCES = {
    NOT_CALIBRATED: "The model is not calibrated: it cannot tell how sure it is, so a person has "
    "to look at this field.",
    NO_OOD_DETECTION: "The model does not know which slides it was trained on, so it cannot "
    "tell whether this one is like them.",
    UNFAMILIAR_SLIDE: "This field is not like the slides the model was trained on: which class it is "
    "cannot be accepted.",
    SEEN_WITHOUT_LABELS: "Slides like this one were shown to the model, "
    "but nobody told it what they are.",
    BY_STAIN_ONLY: "Only an adaptation without labels speaks for this answer.",
    NOT_A_SMEAR: "This is no blood smear of a kind that the model knows.",
    UNLIKE_TRAINING: "This image is unlike what the model learnt of any slide of its training.",
    PARTS_DISAGREE: "Parts of this large field speak for different answers.",
    SUBTYPE_UNKNOWN: "Which subtype it is cannot be said on a slide that the model does not know.",
    GROUP_UNCERTAIN: "The evidence does not reach what slides that were left out of the training "
    "needed for a safe answer.",
    ONE_SLIDE_CLASS: "The model saw this class on one slide only: how it looks on others is not known.",
    NOT_CALIBRATED_FOR_SLIDES: "How sure the model is on slides that it has not seen was never "
    "measured.",
    NOTHING_TO_SEE: "There are no stained cells to be seen.",
    AMBIGUOUS: "More than one class is possible.",
    EMPTY_SET: "No class fits this field well.",
    LOW_CONFIDENCE: "The probability is too low to accept the answer.",
    COLOUR_PROFILE: "The file has a colour profile other than sRGB, which was not applied: the "
    "colours are not quite those that were meant.",
    TILE_OF_SLIDE: "This is a tile of a whole slide that a program cut out. The model learnt from fields "
    "that people chose, and nothing was measured on tiles: no answer about one is accepted.",
    TOO_FEW_EXAMPLES: "The model had too few examples of a class to rule it out.",
}
"""The code of a reason → a sentence for clinicians, where its text needs one."""

_CODES = {text: code for code, text in TEXTS.items()} | {
    # As 0.1.0 said them.
    "no familiarity data": NO_OOD_DETECTION,
    # As they were said before it was clear of what they speak.
    "unlike any slide of the training": UNLIKE_TRAINING,
    "the group of classes is uncertain on an unseen slide": GROUP_UNCERTAIN,
    "accepted only because the head followed the stain": BY_STAIN_ONLY,
}


def texts_of(codes: Iterable[str]) -> tuple[str, ...]:
    """Return the reasons in words, in order; a code that is not allkit's stands for itself."""
    return tuple(TEXTS.get(code, code) for code in codes)


def codes_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the codes of reasons in words, in order; `other` for words that are not in the table.

    For predictions of an exporter that gives no codes.
    """
    return tuple(_CODES.get(text, OTHER) for text in texts)


def reason_sentence(code: str, text: str = "") -> str:
    """Return what a reason of a verdict means, as a sentence for clinicians.

    `code` is one of `Prediction.reason_codes`, `text` the same one of `reasons`: it is shown as it is
    where the code has no sentence of its own.
    """
    text = text or TEXTS.get(code, code)
    return SENTENCES.get(code, f"{text[:1].upper()}{text[1:]}.")
