"""The check and the audit as pages for a browser, with the images concerned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from allkit.data.dataset import Dataset
from allkit.errors import ImageError
from allkit.evaluation.shortcuts import threshold
from allkit.quality.audit import Audit
from allkit.quality.check import Check
from allkit.quality.groups import Suggestion
from allkit.quality.slides import HOW, SlideSuggestion
from allkit.report.pictures import thumbnail
from allkit.shown.html import bar, page, paragraph, picture, section, table

__all__ = ["audit_page", "check_page"]

_PAIRS = 60  # shown with pictures; all are in the table of names


def check_page(check: Check) -> str:
    """Return the check as one HTML page."""
    data = check.data
    place = {s.image: i for i, s in enumerate(data)}
    parts = [
        section(
            "To fix",
            *(
                [paragraph(line, "caution") for line in check.findings]
                or [paragraph("Nothing was found that has to be fixed.", "good")]
            ),
        ),
        section(
            "Images",
            table(
                ["class", "images", ""],
                [
                    (name, data.counts[name], bar(data.counts[name] / max(data.counts.values())))
                    for name in data.classes
                    if data.counts[name]
                ],
            ),
            paragraph("Sizes: " + ", ".join(f"{s} ({n:,})" for s, n in check.sizes.items())),
            paragraph(f"Not taken: {', '.join(data.left_out)}", "muted") if data.left_out else "",
        ),
    ]
    if check.unreadable:
        rows = check.unreadable.items()
        parts.append(section("Unreadable", table(["image", "why"], rows)))
    if check.colour_profiles:
        text = (
            "Their colour profile is not sRGB. It is not applied: the colours that a model sees are not "
            "quite those that were meant. Convert them to sRGB, all or none."
        )
        names = table(["image", "profile"], check.colour_profiles)
        parts.append(section("Colour profiles", paragraph(text), names))
    for title, pairs in (
        ("Byte-identical", check.duplicates),
        ("Near-duplicates (the same field)", check.near_duplicate_pairs),
        ("Overlapping fields", check.overlapping_pairs),
    ):
        if pairs:
            parts.append(_pairs(title, pairs, data, place))
    if check.label_suspects is None:
        text = "Not looked at. `allkit check --backbone NAME` compares labels with a classifier."
        parts.append(section("Labels that look wrong", paragraph(text, "muted")))
    else:
        shown = [
            _thumb(data, place[s["image"]], f"{s['image']}: {s['label']}, rather {s['suggested']}")
            for s in check.label_suspects[:_PAIRS]
        ]
        text = f"{len(check.label_suspects):,} found; a person has to look at each."
        parts.append(section("Labels that look wrong", paragraph(text), *shown))
    for mark in check.burnt_in:
        counts = ", ".join(f"{n} {c:,}" for n, c in check.bearers(mark).items())
        shown = [_thumb(data, i, data.samples[i].image) for i in mark.images[:4]]
        where = " – ".join(f"{v:.0%}" for v in mark.box)
        parts.append(
            section("Recurs at one place", paragraph(f"Box {where}. Images: {counts}."), *shown)
        )
    if check.suggestion is not None:
        parts.append(_groups(check.suggestion))
    if check.slide_suggestion is not None:
        parts.append(_slides(check.slide_suggestion))
    lead = f"{len(data) + len(check.unreadable):,} images. Nothing was changed."
    return page(f"Check of {data.name}", lead, parts)


def _groups(suggestion: Suggestion) -> str:
    text = (
        f"No groups are known. From light, stain and the order of the names there seem to be "
        f"{len(set(suggestion.series)):,} acquisitions and, in blocks of 25 consecutive images "
        f"joined where they show the same field, {len(set(suggestion.groups)):,} groups. This "
        f"is a guess; nothing uses it until you write it (`--suggest-groups FILE.csv`) and give it."
    )
    return section("Suggested groups", paragraph(text), _evidence(suggestion.evidence))


def _slides(suggestion: SlideSuggestion) -> str:
    text = (
        f"No slides are known. There seem to be {suggestion.number:,}, by {HOW}. This is a "
        f"suggestion; nothing uses it until you write it (`--write-slides FILE.csv`) and give it."
    )
    return section("Suggested slides", paragraph(text), _evidence(suggestion.evidence))


def _evidence(evidence: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [v if isinstance(v, (int, float)) else str(v) for v in row.values()] for row in evidence
    ]
    return table(list(evidence[0]), rows)


def _pairs(
    title: str, pairs: Sequence[tuple[str, str]], data: Dataset, place: dict[str, int]
) -> str:
    shown = [
        "<div>" + _thumb(data, place[a], a) + _thumb(data, place[b], b) + "</div>"
        for a, b in pairs[:_PAIRS]
    ]
    more = len(pairs) - _PAIRS
    rest = []
    if more > 0:
        rest.append(paragraph(f"{more:,} more pairs without pictures:", "muted"))
        rest.append(table(["", ""], pairs[_PAIRS:]))
    return section(f"{title}: {len(pairs):,}", *shown, *rest)


def _thumb(data: Dataset, index: int, caption: str) -> str:
    try:
        return picture(thumbnail(data.read(index)), caption)
    except ImageError as error:  # it was there a moment ago
        return paragraph(str(error), "muted")


def audit_page(audit: Audit, name: str) -> str:
    """Return the audit as one HTML page."""
    kind = {"shortcut": "caution", "clear": "good"}.get(audit.verdict, "")
    groups = []
    for title, blind in (("Blind to cells", True), ("Coarse: cells only as colour", False)):
        rows = [
            (
                p.name,
                p.balanced_accuracy,
                f"{p.low:.3f}–{p.high:.3f}",
                bar(p.balanced_accuracy, strong=p.low >= threshold(p, audit.chance)),
            )
            for p in audit.probes
            if p.blind is blind
        ]
        if rows:
            groups.append(
                section(title, table(["probe", "balanced accuracy", "95 % interval", ""], rows))
            )
    beside = [("chance", audit.chance, "", bar(audit.chance))]
    if audit.model is not None:
        beside.append(("the model", audit.model, "", bar(audit.model)))
    if audit.left_out is not None:
        left = audit.left_out
        beside.append(
            (
                f"{audit.probes[0].name}, each {audit.column} left out in turn",
                left.balanced_accuracy,
                f"{left.low:.3f}–{left.high:.3f}",
                bar(left.balanced_accuracy),
            )
        )
    parts = [
        section("Verdict", paragraph(f"{audit.verdict}. {audit.message}", kind)),
        *groups,
        section("For comparison", table(["", "balanced accuracy", "95 % interval", ""], beside)),
    ]
    if audit.advice:
        parts.append(section("What can be done", *map(paragraph, audit.advice)))
    if audit.model_notes:
        notes = [paragraph(note, "caution") for note in audit.model_notes]
        parts.append(section("About the model's accuracy", *notes))
    lead = (
        f"{audit.images:,} images, {audit.groups:,} groups. Forests of extremely randomised trees, "
        f"stratified cross-validation with every {audit.unit} kept whole; intervals by resampling them."
    )
    return page(f"Audit of {name}", lead, parts)
