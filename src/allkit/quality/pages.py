"""The check and the audit as pages for a browser, with the images concerned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from allkit.evaluation.probe_words import probe_words
from allkit.quality.audit import Audit
from allkit.quality.check import Check
from allkit.quality.groups import Suggestion
from allkit.quality.marks import Mark
from allkit.quality.pictures import (
    cards,
    groups_of,
    mark_frames,
    probe_table,
    same_field_frames,
    sight_frames,
)
from allkit.quality.slides import HOW, SlideSuggestion
from allkit.shown.html import bar, grid, items, page, paragraph, section, table, tile, tiles_in_rows
from allkit.shown.text import how_many

__all__ = ["audit_page", "check_page"]

_GROUPS, _IMAGES = 40, 48  # shown with pictures; all are in the table of names


def check_page(check: Check) -> str:
    """Return the check as one HTML page."""
    data = check.data
    place = {s.image: i for i, s in enumerate(data)}
    parts = [
        section("In short", *_to_fix(check), tiles_in_rows(*_tiles(check))),
        section("Images", *_images(check)),
    ]
    if check.unreadable:
        rows = check.unreadable.items()
        parts.append(section("Unreadable", table(["image", "why"], rows)))
    if check.blank:
        shown = cards(data, [place[name] for name in check.blank[:_IMAGES] if name in place])
        parts.append(section("Nothing to see", grid(*shown)))
    if check.colour_profiles:
        text = (
            "Their colour profile is not sRGB. It is not applied: the colours that a model sees are not "
            "quite those that were meant. Convert them to sRGB, all or none."
        )
        names = table(["image", "profile"], check.colour_profiles)
        parts.append(section("Colour profiles", paragraph(text), names))
    parts += _same_fields(check)
    parts.append(section("Labels that look wrong", *_suspects(check, place)))
    for number, mark in enumerate(check.burnt_in, start=1):
        title = "Recurs at one place" + (f" ({number})" if len(check.burnt_in) > 1 else "")
        parts.append(section(title, *_mark(check, mark)))
    if check.suggestion is not None:
        parts.append(_groups(check.suggestion))
    if check.slide_suggestion is not None:
        parts.append(_slides(check.slide_suggestion))
    lead = f"{how_many(len(data) + len(check.unreadable), 'image')}. Nothing was changed."
    return page(f"Check of {data.name}", lead, parts)


def _to_fix(check: Check) -> list[str]:
    if not check.findings:
        return [paragraph("Nothing was found that has to be fixed.", "good")]
    return [paragraph(line, "caution") for line in check.findings]


def _tiles(check: Check) -> list[str]:
    data = check.data
    fields = groups_of(check.near_duplicate_pairs)
    return [
        tile(
            f"{len(data) + len(check.unreadable):,}",
            "images",
            how_many(len(data.classes), "class", "classes"),
        ),
        tile(
            f"{len(data.origins):,}" if data.origins else "–",
            "groups",
            "" if data.origins else "none known",
        ),
        tile(
            f"{len(data.slide_names):,}" if data.slide_names else "–",
            "slides",
            "" if data.slide_names else "none known",
        ),
        tile(
            f"{len(fields):,}",
            "fields seen more than once",
            how_many(sum(map(len, fields)), "image") if fields else "",
        ),
        tile(f"{len(check.unreadable) + len(check.blank):,}", "unreadable or blank"),
        tile(f"{len(check.burnt_in):,}", "marks at one place"),
    ]


def _known(number: int, what: str) -> str:
    return tile(f"{number:,}" if number else "–", what, "" if number else "none known")


def _images(check: Check) -> list[str]:
    data = check.data
    most = max(data.counts.values(), default=1)
    rows = []
    for name in data.classes:
        members = [sample for sample in data if sample.label == name]
        if members:
            origins = {sample.group or sample.case for sample in members} - {None}
            slides = {sample.slide for sample in members} - {None}
            count = len(members)
            rows.append((name, count, bar(count / most), len(origins) or "–", len(slides) or "–"))
    return [
        table(["class", "images", "", "groups", "slides"], rows),
        paragraph("Sizes: " + ", ".join(f"{s} ({n:,})" for s, n in check.sizes.items())),
        paragraph(f"Not taken: {', '.join(data.left_out)}", "muted") if data.left_out else "",
    ]


def _same_fields(check: Check) -> list[str]:
    parts = []
    near = groups_of(check.near_duplicate_pairs)
    for title, text, groups in (
        (
            "One field, several images",
            "Each frame holds images of one field: copies, or the stage moved a little. They count as one "
            "image, and have to stay on one side of a division.",
            near,
        ),
        (
            "Overlapping fields",
            "Each frame holds images that share a part of their field with another one in it.",
            groups_of(check.overlapping_pairs),
        ),
    ):
        if groups:
            frames = same_field_frames(check.data, groups[:_GROUPS], check.duplicates)
            rest = groups[_GROUPS:]
            more = (
                [
                    paragraph(f"{len(rest):,} more, without pictures:", "muted"),
                    table(["images"], [(", ".join(names),) for names in rest]),
                ]
                if rest
                else []
            )
            parts.append(
                section(f"{title}: {len(groups):,}", paragraph(text), grid(*frames), *more)
            )
    return parts


def _suspects(check: Check, place: Mapping[str, int]) -> list[str]:
    if check.label_suspects is None:
        text = "Not looked at. `allkit check --backbone NAME` compares labels with a classifier."
        return [paragraph(text, "muted")]
    suspects = {s["image"]: s for s in check.label_suspects[:_IMAGES]}

    def lines(index: int) -> list[str]:
        found = suspects[check.data.samples[index].image]
        return [f"rather {found['suggested']}"]

    shown = cards(check.data, [place[name] for name in suspects], lines=lines)
    text = f"{len(check.label_suspects):,} found; a person has to look at each."
    return [paragraph(text), grid(*shown)]


def _mark(check: Check, mark: Mark) -> list[str]:
    counts = check.bearers(mark)
    rows = [
        (name, count, bar(count / max(1, check.data.counts[name])))
        for name, count in counts.items()
    ]
    text = (
        f"The same detail stands at one place of {how_many(len(mark.images), 'image')} (framed): a scale "
        f"bar, a label, or dust in the microscope. "
        f"A class that bears it more often than others can be told by it."
    )
    return [
        paragraph(text),
        table(["class", "images that bear it", "share of the class"], rows),
        grid(*mark_frames(check.data, mark)),
    ]


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
        f"No slides are known. {suggestion.in_words}, by {HOW}. This is a "
        f"suggestion; nothing uses it until you write it (`--write-slides FILE.csv`) and give it."
    )
    return section("Suggested slides", paragraph(text), _evidence(suggestion.evidence))


def _evidence(evidence: Sequence[Mapping[str, Any]]) -> str:
    rows = [[_in_words(value) for value in row.values()] for row in evidence]
    return table([name.replace("_", " ") for name in evidence[0]], rows)


def _in_words(value: Any) -> Any:
    """Return a value of the evidence for a cell: lists and counts without brackets."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return value if isinstance(value, (int, float)) else str(value)


def audit_page(audit: Audit, name: str) -> str:
    """Return the audit as one HTML page; with its images, what the strongest probes see of them."""
    kind = {"shortcut": "caution", "clear": "good"}.get(audit.verdict, "")
    parts = [
        section(
            "In short",
            paragraph(audit.in_words, kind),
            *(paragraph(note, "caution") for note in audit.model_notes),
            tiles_in_rows(*_audit_tiles(audit)),
        )
    ]
    if audit.advice:
        parts.append(section("What can be done", items(audit.advice)))
    for title, blind in (("Without any cell", True), ("Cells only as colour", False)):
        probes = [probe for probe in audit.probes if probe.blind is blind]
        if probes:
            parts.append(section(title, probe_table(probes, audit.chance)))
    beside = _beside(audit)
    if beside:
        rows = [
            (what, value, shown, bar(value, mark=audit.chance)) for what, value, shown in beside
        ]
        header = ["", "balanced accuracy", "95 % interval", ""]
        parts.append(section("For comparison", table(header, rows)))
    parts += _sights(audit)
    lead = (
        f"{how_many(audit.images, 'image')}, {how_many(audit.groups, 'group')}. Forests of extremely "
        f"randomised trees, stratified cross-validation with every {audit.unit} kept whole; intervals by "
        f"resampling them."
    )
    return page(f"Audit of {name}", lead, parts)


def _audit_tiles(audit: Audit) -> list[str]:
    tiles = []
    for probe in audit.probes[:1]:
        shown = f"95 % interval {probe.low:.3f} to {probe.high:.3f}"
        tiles.append(
            tile(f"{probe.balanced_accuracy:.3f}", f"the {probe_words(probe.name)} alone", shown)
        )
    tiles.append(tile(f"{audit.chance:.3f}", "chance"))
    if audit.model is not None:
        tiles.append(tile(f"{audit.model:.3f}", "the model", "balanced accuracy, same images"))
    groups = f"{audit.groups:,}" if audit.groups else "–"
    tiles.append(
        tile(groups, "groups", "" if audit.groups else "none known: fields are kept whole")
    )
    return tiles


def _beside(audit: Audit) -> list[tuple[str, float, str]]:
    rows = []
    if audit.model is not None:
        rows.append(("the model", audit.model, ""))
    if audit.left_out is not None:
        left = audit.left_out
        words = probe_words(audit.probes[0].name)
        what = f"the {words}, each {audit.column} left out in turn"
        rows.append((what, left.balanced_accuracy, f"{left.low:.3f} to {left.high:.3f}"))
    return rows


def _sights(audit: Audit) -> list[str]:
    """Return what the strongest probe without cells and the strongest with colour see, as pictures."""
    parts = []
    for blind in (True, False):
        best = next((probe for probe in audit.probes if probe.blind is blind), None)
        beyond = best is not None and best.low > audit.chance
        frames = sight_frames(audit.data, best) if best and beyond and audit.data else []
        if best and frames:
            text = f"This is all it sees, with a balanced accuracy of {best.balanced_accuracy:.3f}."
            parts.append(section(f"Seen: {probe_words(best.name)}", paragraph(text), grid(*frames)))
    return parts
