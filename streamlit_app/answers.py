"""Answers for uploaded fields: what is shown, what is said, what is downloaded. No Streamlit."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

import allkit

SHOWN_SIDE = 1024
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
NOT_CALIBRATED = "not_calibrated"
UNFAMILIAR = "unfamiliar_slide"
GROUP_UNCERTAIN = "group_uncertain"
NO_LIMITS = "not_calibrated_for_slides"
SUBTYPE = "subtype_unknown"
VERDICTS = {
    "accepted": "Accepted",
    "review": "For review",
    "refused": "Refused",
    "unreadable": "Unreadable",
}


@dataclass(frozen=True)
class Field:
    """One uploaded file with its answer, and a JPEG of the field to look at."""

    name: str
    answer: allkit.Prediction
    picture: bytes | None


def answer_fields(
    classifier: allkit.Classifier, names: Sequence[str], contents: Iterator[bytes]
) -> Iterator[Field]:
    """Yield one field per file, in order; few files are in memory at a time."""
    pictures: list[bytes | None] = []

    def taken() -> Iterator[bytes]:
        for name, content in zip(names, contents, strict=True):
            pictures.append(_picture(content, name))
            yield content

    for position, (name, answer) in enumerate(zip(names, classifier.stream(taken()), strict=True)):
        yield Field(name, _named(answer, name), pictures[position])


def too_large(name: str, megabytes: int) -> Field:
    """Return the field of a file that is larger than the app takes."""
    error = f"{name} is larger than {megabytes} MB. Use `allkit predict` for it."
    answer = allkit.Prediction(
        name, "unreadable", ("too large",), reason_codes=("too_large",), error=error
    )
    return Field(name, answer, None)


def _picture(content: bytes, name: str) -> bytes | None:
    """Return the field as a plain JPEG: pixels only, none of the file's other contents."""
    try:
        image = Image.fromarray(allkit.read_image(content, name=name))
    except allkit.AllkitError:
        return None  # the answer says why
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95, subsampling=0)
    return stream.getvalue()


def _named(answer: allkit.Prediction, name: str) -> allkit.Prediction:
    """Put the file's name where the library wrote `image 3`."""
    error = answer.error
    if error is not None and error.startswith(answer.image):
        error = name + error[len(answer.image) :]
    return replace(answer, image=name, error=error)


def to_csv(fields: Sequence[Field], classes: Sequence[str]) -> bytes:
    """Return one row per field, in order, with the columns of `allkit predict`.

    It starts with the mark by which spreadsheets know UTF-8, and no cell can be taken for a
    formula.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for position, field in enumerate(fields):
        row = field.answer.to_row(classes)
        if position == 0:
            writer.writerow(_cell(key) for key in row)
        writer.writerow(_cell(value) for value in row.values())
    return stream.getvalue().encode("utf-8-sig")


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = ";".join(value)
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value


def probability(value: float) -> str:
    """Return two decimals, but never certainty: an answer is not 1.00, and no class 0.00."""
    if value >= 0.995:
        return "> 0.99"
    return "< 0.01" if value < 0.005 else f"{value:.2f}"


def percent(value: float) -> str:
    """Return a share as a whole percentage, but never certainty."""
    return "> 99 %" if value >= 0.995 else f"{100 * value:.0f} %"


def group_is_accepted(answer: allkit.Prediction) -> bool:
    """Tell whether the group of classes, such as malignant, may be read as an answer."""
    return answer.coarse_verdict == "accepted" and GROUP_UNCERTAIN not in answer.reason_codes


def group_line(answer: allkit.Prediction) -> str:
    """Return the accepted group of classes in words; empty where none is accepted."""
    if not group_is_accepted(answer) or answer.coarse is None:
        return ""
    line = f"{answer.coarse.capitalize()}, {percent(answer.coarse_probability or 0.0)}: accepted"
    if answer.verdict != "accepted" and SUBTYPE in answer.reason_codes:
        line += "; which subtype cannot be said on this slide"
    return line


def measurements(answer: allkit.Prediction) -> str:
    """Return what was measured in the field; empty where the model does not look at cells."""
    if answer.white_cells is None:
        return ""
    line = f"White cells in the field: {answer.white_cells}."
    if answer.nucleus_ratio is not None:
        line += f" Nucleus over red cell: {answer.nucleus_ratio:.1f} (diameters)."
    return line


def slide_line(fields: Sequence[Field], classifier: allkit.Classifier) -> str:
    """Return what all uploaded fields say together, if they are of one slide.

    Empty for a single field, and for a model whose classes are in no groups.
    """
    answers = [field.answer for field in fields if field.answer.verdict != "unreadable"]
    if len(answers) < 2:
        return ""
    slide = allkit.combine(answers, trust=classifier.trust)
    count = slide.fields - len(slide.refused)
    if slide.coarse_verdict is None:
        return ""
    if not count:
        return "The slide: no answer, every field was refused."
    if slide.coarse_verdict == "accepted" and slide.coarse is not None:
        shown = f"{slide.coarse}, {percent(slide.coarse_probability or 0.0)}"
        line = f"The slide: {shown}, on {count} field{'s' if count > 1 else ''}."
        if slide.verdict == "accepted" and slide.label is not None:
            name = classifier.info.display_names.get(slide.label, slide.label)
            return f"{line} Class: {name}."
        if any(answer.verdict == "accepted" for answer in answers):
            return f"{line} Its fields do not settle which subtype."
        return f"{line} Which subtype cannot be said on this slide."
    line = "The slide: not settled"
    if NO_LIMITS in slide.reason_codes:
        return f"{line}. How sure the model is on slides that it has not seen was never measured."
    if len({answer.coarse for answer in answers if answer.coarse_verdict == "accepted"}) > 1:
        return f"{line}. The fields disagree: are they of one slide?"
    if slide.fields_needed is None:
        return f"{line}, and more fields like these would not settle it."
    return f"{line}: about {slide.fields_needed} more fields."


def reasons_in_words(answer: allkit.Prediction) -> str:
    """Return the reasons of an answer as sentences."""
    pairs = zip(answer.reason_codes, answer.reasons, strict=True)
    return " ".join(
        # Of the class, not of the group, which is accepted on slides that the model does not know.
        "The slide is not one that the model knows."
        if code == UNFAMILIAR and group_is_accepted(answer)
        else allkit.reason_sentence(code, reason)
        for code, reason in pairs
    )


def may_be_shown(answer: allkit.Prediction) -> bool:
    """Tell whether class and probabilities may be seen: not on what the model does not know.

    A name with a high probability is believed, whatever stands above it.
    """
    return answer.verdict != "refused" and UNFAMILIAR not in answer.reason_codes


def is_uncalibrated(fields: Sequence[Field]) -> bool:
    """Tell whether anything on the page is uncalibrated; a page without answers counts as such."""
    answered = [field.answer for field in fields if field.answer.verdict != "unreadable"]
    return not answered or any(NOT_CALIBRATED in answer.reason_codes for answer in answered)


def plain(text: str) -> str:
    """Return Markdown that shows `text` as it is: a file's name may hold links and pictures."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|<>~:$&^=])", r"\\\1", text)


def sentence(text: str) -> str:
    """Return Markdown for a message of allkit: commands between backticks stay as they are."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else plain(part) for part in parts if part)
