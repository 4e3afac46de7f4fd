"""The sentences, counts and orders that every format shows alike."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from allkit.clinic.records import CaseReport, FieldResult, Identifier, PersonName, SlideResult
from allkit.errors import AllkitError

__all__ = [
    "GROUP_OPEN",
    "INADEQUATE",
    "MARROW",
    "PRELIMINARY_AI",
    "RESEARCH_USE",
    "UNREAD",
    "Count",
    "basis_sentence",
    "counts",
    "display",
    "field_model",
    "field_reader",
    "identifier",
    "kind_words",
    "known_group",
    "made",
    "model_words",
    "moment",
    "person",
    "probability",
    "result_sentence",
    "result_words",
    "slide_headline",
    "slide_sentence",
    "standing",
    "thumbnail_order",
]

RESEARCH_USE = "Research use; not a diagnosis"
PRELIMINARY_AI = "Preliminary AI answer"
MARROW = (
    "allkit was measured on peripheral blood only: on marrow nothing is known of the answers of a model that "
    "was not trained on marrow."
)
GROUP_OPEN = (
    "Benign or malignant is for review, although the fields' classes were accepted: treat the slide as for "
    "review."
)
"""Said where a class is accepted and its group is not, as of a model without known slides."""
INADEQUATE = "inadequate"
UNREAD = "not confirmed"
"""A field for which no reader gave a class."""

_DISPLAY = {"Early": "Early pre-B", "Pre": "Pre-B", "Pro": "Pro-B"}
"""The classes of this task as the screen calls them; formats for machines keep the codes."""

_NO_CLASS = {
    "review": "needs review",
    "refused": "refused",
    "unreadable": "unreadable",
    None: "no answer",
}
"""What the model says of a field where it does not stand by a class, by verdict."""

_SPECIMEN = {"blood": "Blood smear", "marrow": "Bone marrow smear"}


def display(label: str) -> str:
    """Return the name of a class as people read it: `Pro` is printed as `Pro-B`."""
    return _DISPLAY.get(label, label)


class Count(NamedTuple):
    """Fields of one class: by the model, by the reader, and changed *to* this class by the reader."""

    name: str
    model: int
    reader: int
    changed: int


def kind_words(report: CaseReport) -> str:
    """Return the standing of the report in capitals: `PRELIMINARY`, `FINAL`, `CORRECTED version 2`."""
    words = report.kind.upper()
    return f"{words} version {report.version}" if report.kind == "corrected" else words


def standing(report: CaseReport) -> str:
    """Return a sentence about what this version is worth; `""` for the first signed version."""
    before = f"version {report.replaces}" if report.replaces is not None else "the version before"
    reason = f" Reason: {report.reason}" if report.reason else ""
    return {
        "preliminary": "Not signed. This report may still change.",
        "final": "",
        "corrected": f"This report replaces {before}.{reason}",
        "withdrawn": f"Withdrawn: do not use this report, nor {before}.{reason}",
    }[report.kind]


def result_sentence(report: CaseReport) -> str:
    """Return the *reader's* result, never the model's, and what it rests on."""
    basis = basis_sentence(report)
    return f"{result_words(report)} {basis}" if basis else result_words(report)


def basis_sentence(report: CaseReport) -> str:
    """Return how many fields a person has read, and how many only the model answered.

    `""` where there is no signed result, or no field. Who signs answers for the case, and has not
    read each of its fields: where the model's answers were left as they are, that is said.
    """
    if report.signer is None or report.result is None or not report.fields:
        return ""
    unread = [field for field in report.fields if field.reader is None]
    accepted = sum(field.verdict == "accepted" for field in unread)
    count = len(report.fields) - len(unread)
    said = [f"{_fields(count)} read by a person"]
    if accepted:
        said.append(f"{accepted} accepted by the model and not read by a person")
    if len(unread) > accepted:
        said.append(f"{len(unread) - accepted} neither read nor accepted")
    return f"{', '.join(said)}."


def _fields(count: int) -> str:
    return "1 field" if count == 1 else f"{count} fields"


def result_words(report: CaseReport) -> str:
    """Return the reader's result in one sentence, and who signed it."""
    result = report.result
    if result is None:
        said = "No result: no reader has given one yet"
    elif result == INADEQUATE:
        said = f"{_SPECIMEN[report.specimen.kind]} inadequate for an assessment"
    else:
        said = f"{_SPECIMEN[report.specimen.kind]}: {display(result)}"
    by = f", signed by {report.signer.display}" if report.signer and result is not None else ""
    before = "Withdrawn, do not use: " if report.kind == "withdrawn" else ""
    return f"{before}{said}{by}."


def counts(report: CaseReport) -> tuple[Count, ...]:
    """Return the fields of each class, and of what is no class; each column adds up to the fields.

    The model's column counts accepted answers; what needs review, was refused, could not be read or has
    no answer stands in rows of its own. Where the reader gave no class, the field is `not confirmed`.
    """
    known = report.model.classes if report.model else ()
    said = [_model_class(field) for field in report.fields]
    read = [field.reader or UNREAD for field in report.fields]
    apart = (*_NO_CLASS.values(), INADEQUATE, UNREAD)
    classes = dict.fromkeys((*known, *(n for n in sorted({*said, *read}) if n not in apart)))
    names = [*classes, *(name for name in apart if name in said or name in read)]
    changed = [field.reader for field in report.fields if field.changed]
    return tuple(Count(n, said.count(n), read.count(n), changed.count(n)) for n in names)


def _model_class(field: FieldResult) -> str:
    if field.verdict == "accepted" and field.label:
        return field.label
    return _NO_CLASS.get(field.verdict, "no answer")


def thumbnail_order(fields: Iterable[FieldResult]) -> list[FieldResult]:
    """Return the fields with those that a reader of the report looks at first in front.

    Changed by the reader, then for review, then accepted, then those without an answer.
    """
    rank = {"review": 1, "accepted": 2}
    return sorted(
        fields, key=lambda f: (0 if f.changed else rank.get(f.verdict or "", 3), f.number)
    )


def field_model(field: FieldResult) -> str:
    """Return the model's part of a field in words: `Pro-B`, or `needs review (Pro-B)`."""
    if field.verdict == "accepted" and field.label:
        return display(field.label)
    said = _model_class(field)
    return f"{said} ({display(field.label)})" if field.label else said


def field_reader(field: FieldResult) -> str:
    """Return the reader's part of a field in words: the class, `(changed)` behind it, or `–`."""
    if field.reader is None:
        return "–"
    read = display(field.reader)
    return f"{read} (changed)" if field.changed else read


def probability(value: float | None) -> str:
    """Return a probability (0 to 1) with two places; nothing looks certain: `>0.99`, `<0.01`."""
    if value is None:
        return "–"
    if value > 0.99:
        return ">0.99"
    return "<0.01" if value < 0.01 else f"{value:.2f}"


def slide_headline(report: CaseReport) -> str:
    """Return the model's answer for the slide as the workplace says it: `Malignant on 8 fields`.

    Benign or malignant comes first; where that is for review the slide is not settled, whatever was
    accepted of its class. `""` where no model has answered for the slide.
    """
    slide = report.slide
    if slide is None:
        return ""
    usable = sum(field.verdict in ("accepted", "review") for field in report.fields)
    if not usable or slide.verdict in ("refused", "unreadable"):
        return "No answer: no field can be used"
    if group := known_group(slide):
        return f"{group[:1].upper()}{group[1:]} on {_fields(usable)}"
    if slide.verdict == "accepted" and slide.coarse_verdict is None:
        return f"{display(slide.label or '')} on {_fields(usable)}"
    return f"Not settled on {_fields(usable)}"


def known_group(slide: SlideResult) -> str | None:
    """Return the group of classes that is accepted for a slide; `None` where none is, or the class has none.

    A group of one class, as benign, is not accepted where that class is not: it would contradict itself.
    """
    if slide.coarse is None or slide.coarse_verdict != "accepted":
        return None
    same = (slide.label or "").casefold() == slide.coarse.casefold()
    return None if same and slide.verdict != "accepted" else slide.coarse


def slide_sentence(slide: SlideResult) -> str:
    """Return the model's class for the slide in one sentence, with what it rests on."""
    label = display(slide.label or "")
    answer = {"accepted": label or "no class", "review": "needs review"}.get(
        slide.verdict, slide.verdict
    )
    if slide.verdict == "review" and label:
        answer += f" (nearest class {label})"
    sure = (
        f", probability {probability(slide.probability)}" if slide.probability is not None else ""
    )
    return f"{answer}{sure}; rests on {slide.used} of {slide.fields} fields."


def model_words(report: CaseReport) -> str:
    """Return name and version of the model, or that there is none."""
    return f"{report.model.name} {report.model.version}".strip() if report.model else "none"


def person(who: PersonName | None) -> str:
    """Return how a person is printed: the name that is shown, and the one they sign in with."""
    if who is None:
        return "–"
    return who.display if who.display == who.name else f"{who.display} ({who.name})"


def identifier(one: Identifier | None) -> str:
    """Return a number and who gave it: `123 (issued by HOSPITAL)`."""
    if one is None:
        return "–"
    return f"{one.value} (issued by {one.issuer})" if one.issuer else one.value


def made(report: CaseReport) -> datetime:
    """Return when the report was made, with its zone. Raises `AllkitError` where it is no time."""
    try:
        time = datetime.fromisoformat(report.made_at)
    except ValueError as error:
        raise AllkitError(
            f"The report {report.id!r} has the time {report.made_at!r}; expected a time in UTC such as "
            "2026-01-31T09:15:00Z. Make the report again."
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def moment(time: str | None) -> str:
    """Return `2026-01-31 09:15 UTC` for `2026-01-31T09:15:00Z`; another text as it is."""
    if not time:
        return "–"
    return f"{time[:10]} {time[11:16]} UTC" if time[10:11] == "T" and time.endswith("Z") else time
