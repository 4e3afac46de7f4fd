"""What fields, slides, jobs, models and refused files are called in sentences. No Streamlit.

Which part of an answer may be shown is decided in `telling`; here it is only said. The slide comes first:
benign or malignant, on how many fields, and how many more would settle it; then the subtype.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from allkit.clinic.models import knows_no_other_slides
from allkit.clinic.records import ModelIdentity
from allkit.records import CasePrediction, Prediction
from workplace.limits import limit_words
from workplace.telling import (
    Shown,
    band_of,
    band_words,
    display_of,
    group_of,
    groups_apart,
    percent,
    reason_words,
    reasons_of,
    shown_of,
    sure_of,
    tone_of,
)
from workplace.texts import Texts

__all__ = [
    "FieldWords",
    "JobWords",
    "ModelWords",
    "SlideWords",
    "calibration_of",
    "display_of",
    "field_words",
    "job_words",
    "model_words",
    "percent",
    "reason_words",
    "refusal_words",
    "slide_words",
    "unread_words",
]

Display = Callable[[str], str]


@dataclass(frozen=True)
class FieldWords:
    """One field in words. `label` is `None`, and `band` and `percent` are empty, where no class or
    probability may be shown. `tone` is `accepted` for a class that is neither benign nor malignant."""

    state: str
    group: str
    headline: str
    sentence: str
    tone: str
    band: str = ""
    band_words: str = ""
    percent: str = ""
    label: str | None = None
    needs_why: bool = False
    not_excluded: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    measured: str = ""


@dataclass(frozen=True)
class SlideWords:
    """The slide in words. `tone` is benign, malignant, accepted, open, waiting or hidden."""

    tone: str
    headline: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobWords:
    """How far the model is: none, queued, running, failed or done."""

    state: str
    done: int = 0
    total: int = 0
    words: str = ""


@dataclass(frozen=True)
class ModelWords:
    """The model in words; `limits` are what its maker wrote about where it fails."""

    name: str
    version: str
    short_hash: str
    calibrated_words: str
    limits: tuple[str, ...] = ()


# ── one field ──────────────────────────────────────────────────────────────────────────────────


def field_words(
    say: Texts, answer: Prediction | None, *, hidden: bool, display: Display
) -> FieldWords:
    """Return a field in words: `answer` is the model's, `None` where there is none yet.

    Where it is `hidden`, nothing of the answer is in the words. `display` names a class.
    """
    if hidden or answer is None:
        state: str = "hidden" if hidden else "waiting"
        headline, sentence = say(f"field.{state}.headline"), say(f"field.{state}.sentence")
        return FieldWords(state, state, headline, sentence, tone=state)
    shown = shown_of(answer)
    state = answer.verdict
    if state == "accepted" and not shown.accepted:
        state = "review"
    sure = sure_of(answer, shown)
    any_shown = shown.label is not None or shown.group is not None
    apart = any_shown and len(answer.prediction_set) > 1 and shown.label is not None
    band = band_of(sure)
    return FieldWords(
        state=state,
        group=str(shown.label) if shown.accepted else state,
        headline=_headline(say, state, shown, display),
        sentence=_sentence(say, state, shown, display, alone=answer.coarse_verdict == "review"),
        tone=_tone(state, shown),
        band=band,
        band_words=band_words(say, band, calibrated=shown.calibrated) if any_shown else "",
        percent="" if sure is None else percent(say, sure),
        label=shown.label,
        # By the verdict alone, as the clinic asks for the reason.
        needs_why=answer.verdict == "accepted" and answer.label is not None,
        not_excluded=tuple(display(name) for name in answer.prediction_set) if apart else (),
        reasons=reasons_of(say, answer, shown),
        measured=_measured(say, answer),
    )


def _tone(state: str, shown: Shown) -> str:
    if shown.accepted or shown.group is not None:
        return tone_of(shown.label, shown.group)
    return "review" if state == "review" else "refused"


def _headline(say: Texts, state: str, shown: Shown, display: Display) -> str:
    if shown.accepted:
        return say("field.accepted.headline", display=display(str(shown.label)))
    if shown.group is not None:
        return say("field.group.headline", group=group_of(say, shown.group))
    return say(f"field.{state}.headline")


def _sentence(say: Texts, state: str, shown: Shown, display: Display, *, alone: bool) -> str:
    """`alone` says that the class is accepted and its group is not."""
    if state == "accepted" and alone:
        return say("field.accepted_alone.sentence")
    if state != "review":
        return say(f"field.{state}.sentence")
    likely = "" if shown.label is None else display(shown.label)
    if shown.group is not None:
        key = "field.group_likely.sentence" if likely else "field.group.sentence"
        return say(key, group=group_of(say, shown.group), display=likely)
    if not likely:
        return say("field.review.sentence")
    key = "field.review_likely.sentence" if shown.calibrated else "field.score.sentence"
    return say(key, display=likely)


def _measured(say: Texts, answer: Prediction) -> str:
    """Return what was measured in the field; empty where the model does not look at cells."""
    if answer.white_cells is None:
        return ""
    told = [say("field.cells", n=answer.white_cells)]
    if answer.nucleus_ratio is not None:
        told.append(say("field.ratio", ratio=say.number(answer.nucleus_ratio)))
    if answer.red_cell is not None:
        told.append(say("field.red_cell", diameter=say.number(answer.red_cell, 0)))
    return " ".join(told)


def unread_words(say: Texts, unread: int, *, read: bool) -> str:
    """Return how many fields a reader still has to look at; `read` is whether a reader has read any."""
    if unread:
        return say("field.unread", n=unread)
    return say("field.read_all" if read else "field.none_to_read")


# ── the slide ──────────────────────────────────────────────────────────────────────────────────


def slide_words(
    say: Texts,
    slide: CasePrediction | None,
    *,
    job: JobWords | None,
    hidden: bool,
    fields: int,
    display: Display,
    signed: bool = False,
) -> SlideWords:
    """Return the slide in words: its answer first, what is open, then what took no part.

    `fields` is how many fields the case has now, `signed` whether a reader's result stands. How far
    the model is says the job, and the slide does not repeat it.
    """
    if hidden:
        return SlideWords("hidden", say("slide.hidden"), (say("slide.hidden_line"),))
    if slide is None or not slide.fields:
        return _no_slide(say, job, fields)
    shown = shown_of(slide)
    used = slide.fields - len(slide.refused) - len(slide.unreadable)
    group = shown.group
    # Where the model has groups, a class is said only within an accepted one.
    settled = group is not None or (shown.accepted and slide.coarse_verdict is None)
    if not used or slide.verdict in ("refused", "unreadable"):
        tone, headline = "open", say("slide.nothing")
        lines = [say("slide.nothing_line")]
    elif settled:
        tone = tone_of(shown.label, group)
        named = group_of(say, group) if group is not None else display(str(shown.label))
        headline = say("slide.answer", n=used, answer=named)
        lines = [*_settled(say, slide, shown, display)]
        lines.append(say("slide.confirmed" if signed else "slide.confirm"))
    else:
        tone, headline = "open", say("slide.open", n=used)
        lines = [*_open(say, slide)]
    lines += _apart(say, slide, fields)
    return SlideWords(tone, headline, tuple(dict.fromkeys(line for line in lines if line)))


def _no_slide(say: Texts, job: JobWords | None, fields: int) -> SlideWords:
    if not fields:
        return SlideWords("waiting", say("slide.no_fields"), (say("slide.no_fields_line"),))
    if job is not None and job.state == "failed":
        return SlideWords("open", say("slide.failed"))
    return SlideWords("waiting", say("slide.waiting"), (say("slide.waiting_line"),))


def _settled(say: Texts, slide: CasePrediction, shown: Shown, display: Display) -> Iterator[str]:
    group = shown.group
    sure = slide.probability if group is None else slide.coarse_probability
    band = band_of(sure)
    if band:
        yield say("slide.settled", band=band_words(say, band, calibrated=True))
    else:
        yield say("slide.settled_plain")
    if group is not None and shown.accepted and groups_apart(shown.label, group):
        yield say("slide.class_accepted", display=display(str(shown.label)))
    if group is not None and not shown.accepted:
        few = {"fields_disagree", "few_accepted"}.intersection(slide.reason_codes)
        yield say("slide.class_open" if few else "slide.class_unknown")


def _open(say: Texts, slide: CasePrediction) -> Iterator[str]:
    codes = slide.reason_codes
    if slide.verdict == "accepted":
        yield say("slide.group_open")
    if "fields_disagree" in codes:
        yield say("slide.disagree")
    elif slide.fields_needed:
        yield say("slide.more", n=slide.fields_needed)
    elif "group_uncertain" in codes:
        yield say("slide.no_more")
    nothing = Shown(None, accepted=False, group=None, calibrated=True)
    told = reasons_of(say, slide, nothing)
    yield from (line for line in told if line != reason_words(say, "fields_disagree"))


def _apart(say: Texts, slide: CasePrediction, fields: int) -> Iterator[str]:
    """Say what took no part, and whether the answer is for fewer fields than there are."""
    if slide.fields != fields:
        yield say("slide.behind", n=slide.fields, fields=fields)
    if slide.refused:
        yield say("slide.refused", n=len(slide.refused))
    if slide.unreadable:
        yield say("slide.unreadable", n=len(slide.unreadable))


# ── job, model, files ────────────────────────────────────────────────────────────────────


def job_words(say: Texts, job: Mapping[str, Any] | None, rate: float | None) -> JobWords:
    """Return a job in words; `rate` is how many fields are answered in a second, where it is known."""
    state = "none" if job is None else str(job["state"])
    if job is None or state not in ("queued", "running", "failed", "done"):
        return JobWords("none")
    done, total = int(job["done"] or 0), int(job["total"] or 0)
    if state == "running":
        words = _running(say, done, total, rate)
    elif state == "failed":
        words = _failed(say, str(job.get("error") or ""))
    else:
        words = say("job.done", n=total) if state == "done" else say("job.queued")
    return JobWords(state, done, total, words)


def _failed(say: Texts, error: str) -> str:
    """Say why there is no answer. Where a model lies on the server is nothing that readers need."""
    found = re.search(r"^The model's file or folder .+ (is gone|was changed) ?(?:\.|since)", error)
    if found is not None:
        return say("job.gone" if found[1] == "is gone" else "job.altered")
    return say("job.failed_because", error=error) if error else say("job.failed")


def _running(say: Texts, done: int, total: int, rate: float | None) -> str:
    if not total:
        return say("job.running_begins")
    words = say("job.running", done=done, total=total)
    if not rate or done >= total:
        return words
    seconds = (total - done) / rate
    if seconds < 60:
        return say("job.left_seconds", words=words)
    return say("job.left", n=math.ceil(seconds / 60), words=words)


def model_words(say: Texts, identity: ModelIdentity | None) -> ModelWords:
    """Return the model in words; without one its name says so and the rest is empty."""
    if identity is None:
        return ModelWords(say("model.none"), "", "", "")
    told = calibration_of(identity.calibrated, identity.limits)
    short, limits = identity.sha256[:8], tuple(limit_words(say, one) for one in identity.limits)
    return ModelWords(identity.name, identity.version, short, say(f"model.{told}"), limits)


def calibration_of(calibrated: bool, limits: Sequence[str]) -> str:
    """Return what a model's probabilities are worth: `calibrated`, `calibrated_known` where nothing was
    measured on slides that it does not know, or `not_calibrated`. The texts of these names say it."""
    if not calibrated:
        return "not_calibrated"
    return "calibrated_known" if knows_no_other_slides(limits) else "calibrated"


_KIND = re.compile(r" is an? (.+?) file, which is not read\.")
_SORTS = {
    " is a DICOM of a whole slide": "whole_slide",
    " is a DICOM of a kind": "dicom_kind",
    " is a folder.": "folder",
    " is not a regular file.": "irregular",
}
"""What the library's message says of a file that is no image → the text for it."""


def refusal_words(say: Texts, code: str, message: str, name: str) -> tuple[str, str]:
    """Return what a refused file is, and what to do instead.

    `code` and `message` are those of `allkit.clinic.intake.incoming.Refused`, or of an `ImageError`.
    """
    said = message.removeprefix(name)
    if code == "not_an_image":
        code = next((sort for start, sort in _SORTS.items() if said.startswith(start)), code)
        found = _KIND.match(said)
        kind = "refusals.kind." + found[1].lower().replace(" ", "_") if found else ""
        if say.has(kind):
            what = say("refusals.of_kind.what", name=name, kind=say(kind))
            return what, say("refusals.of_kind.todo")
    if not say.has(f"refusals.{code}.what"):
        code = "unknown"
    what = say(f"refusals.{code}.what", name=name, message=said.lstrip(": "))
    return what, say(f"refusals.{code}.todo")
