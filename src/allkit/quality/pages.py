"""The check and the audit as pages for a browser, with the images that they speak of."""

from __future__ import annotations

from collections.abc import Sequence

from allkit.data.dataset import Dataset
from allkit.errors import ImageError
from allkit.evaluation.shortcuts import threshold
from allkit.quality.audit import Audit
from allkit.quality.check import Check
from allkit.report.page import bar, page, paragraph, picture, section, table
from allkit.report.pictures import thumbnail

__all__ = ["audit_page", "check_page"]

_PAIRS = 60  # shown with pictures; all are in the table of names


def check_page(found: Check) -> str:
    """Return the check as one HTML page."""
    data = found.data
    place = {s.image: i for i, s in enumerate(data)}
    parts = [
        section(
            "To fix",
            *(
                [paragraph(line, "caution") for line in found.findings]
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
            paragraph("Sizes: " + ", ".join(f"{s} ({n:,})" for s, n in found.sizes.items())),
            paragraph(f"Not taken, no images by their names: {', '.join(data.left_out)}", "muted")
            if data.left_out
            else "",
        ),
    ]
    if found.unreadable:
        rows = found.unreadable.items()
        parts.append(section("Unreadable", table(["image", "why"], rows)))
    for title, pairs in (
        ("Byte-identical", found.duplicates),
        ("Near-duplicates (the same field)", found.near_duplicate_pairs),
        ("Overlapping fields", found.overlapping_pairs),
    ):
        if pairs:
            parts.append(_pairs(title, pairs, data, place))
    if found.label_suspects is None:
        text = "Not looked at. `allkit check --backbone NAME` compares labels with a classifier."
        parts.append(section("Labels that look wrong", paragraph(text, "muted")))
    else:
        shown = [
            _thumb(data, place[s["image"]], f"{s['image']}: {s['label']}, rather {s['suggested']}")
            for s in found.label_suspects[:_PAIRS]
        ]
        text = f"{len(found.label_suspects):,} found; a person has to look at each."
        parts.append(section("Labels that look wrong", paragraph(text), *shown))
    for mark in found.burnt_in:
        counts = ", ".join(f"{n} {c:,}" for n, c in found.bearers(mark).items())
        shown = [_thumb(data, i, data.samples[i].image) for i in mark.images[:4]]
        where = " – ".join(f"{v:.0%}" for v in mark.box)
        parts.append(
            section("Recurs at one place", paragraph(f"Box {where}. Images: {counts}."), *shown)
        )
    if found.suggestion is not None:
        parts.append(_groups(found))
    lead = f"{len(data) + len(found.unreadable):,} images. Nothing was changed."
    return page(f"Check of {data.name}", lead, parts)


def _groups(found: Check) -> str:
    assert found.suggestion is not None
    text = (
        f"No groups are known. From light, stain and the order of the names there seem to be "
        f"{len(set(found.suggestion.series)):,} acquisitions and, in blocks of 25 consecutive images "
        f"joined where they show the same field, {len(set(found.suggestion.groups)):,} groups. This "
        f"is a guess: nothing uses it until you do (`--suggest-groups FILE.csv`)."
    )
    keys = list(found.suggestion.evidence[0])
    rows = [
        [v if isinstance(v, (int, float)) else str(v) for v in row.values()]
        for row in found.suggestion.evidence
    ]
    return section("Suggested groups", paragraph(text), table(keys, rows))


def _pairs(
    title: str, pairs: Sequence[tuple[str, str]], data: Dataset, place: dict[str, int]
) -> str:
    shown = [
        "<div>" + _thumb(data, place[a], a) + _thumb(data, place[b], b) + "</div>"
        for a, b in pairs[:_PAIRS]
    ]
    more = len(pairs) - _PAIRS
    rest = [paragraph(f"{more:,} more pairs without pictures:", "muted"),
            table(["", ""], pairs[_PAIRS:])] if more > 0 else []  # fmt: skip
    return section(f"{title}: {len(pairs):,}", *shown, *rest)


def _thumb(data: Dataset, index: int, caption: str) -> str:
    try:
        return picture(thumbnail(data.read(index)), caption)
    except ImageError as error:  # it was there a moment ago
        return paragraph(str(error), "muted")


def audit_page(found: Audit, name: str) -> str:
    """Return the audit as one HTML page."""
    kind = {"shortcut": "caution", "clear": "good"}.get(found.verdict, "")
    groups = []
    for title, blind in (("Blind to cells", True), ("Coarse: cells only as colour", False)):
        rows = [
            (
                p.name,
                p.balanced_accuracy,
                f"{p.low:.3f}–{p.high:.3f}",
                bar(p.balanced_accuracy, strong=p.low >= threshold(p, found.chance)),
            )
            for p in found.probes
            if p.blind is blind
        ]
        if rows:
            groups.append(
                section(title, table(["probe", "balanced accuracy", "95 % interval", ""], rows))
            )
    beside = [("chance", found.chance, "", bar(found.chance))]
    if found.model is not None:
        beside.append(("the model", found.model, "", bar(found.model)))
    if found.left_out is not None:
        left = found.left_out
        beside.append(
            (
                f"{found.probes[0].name}, each {found.column} left out in turn",
                left.balanced_accuracy,
                f"{left.low:.3f}–{left.high:.3f}",
                bar(left.balanced_accuracy),
            )
        )
    parts = [
        section("Verdict", paragraph(f"{found.verdict}. {found.message}", kind)),
        *groups,
        section("Beside them", table(["", "balanced accuracy", "95 % interval", ""], beside)),
        *([section("What can be done", *map(paragraph, found.advice))] if found.advice else []),
        *([section("About the model's figure", *(paragraph(n, "caution") for n in found.model_notes))]
          if found.model_notes else []),
    ]  # fmt: skip
    lead = (
        f"{found.images:,} images, {found.groups:,} groups. Forests of extremely randomised trees, "
        f"stratified cross-validation with every {found.unit} kept whole; intervals by resampling them."
    )
    return page(f"Audit of {name}", lead, parts)
