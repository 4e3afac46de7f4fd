"""The check of a set before anything is trained on it: what is wrong, and with which images."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.data import readers
from allkit.data.columns import Column
from allkit.data.dataset import Dataset
from allkit.data.passes import Measured
from allkit.data.relations import REDUCED, SIGNATURE
from allkit.data.rows import Table
from allkit.errors import DatasetError, ImageError
from allkit.images.own import format_of
from allkit.images.profiles import foreign_profile
from allkit.images.same_field import (
    closed_pairs,
    reduced,
    signature,
)
from allkit.quality.groups import Suggestion, acquisition, suggest_groups
from allkit.quality.labels import label_suspects
from allkit.quality.marks import Mark, Marks
from allkit.quality.pictures import groups_of, mark_frames, same_field_frames
from allkit.quality.slides import SlideSuggestion, suggest_slides
from allkit.quality.treatment import PAINTED, unpainted
from allkit.shown.html import fragment, grid, paragraph
from allkit.shown.progress import Asked, progress_of
from allkit.shown.text import how_many
from allkit.types import Progress

__all__ = ["Check", "check"]

CLEAN = '`allkit.clean(data, "NEW")`, `allkit clean DATA --out NEW`'
"""How marks are taken away, in Python and on the command line."""
_BLANK = 3.0  # grey levels: an image that varies less shows nothing
_SHOWN = 4  # fields seen more than once that a notebook shows
_FOLDS = 2  # groups that a class needs for anything to be held out


@dataclass(frozen=True, repr=False)
class Check:
    """The findings in a set. Images have the names that they have in the set.

    `problems` are rows and files that cannot be used. `unreadable` and `blank` are images.
    `duplicates` are byte-identical pairs, `near_duplicate_pairs` every pair of a cluster that shows
    the same field (byte-identical ones included), `overlapping_pairs` those that share a part of
    it; `label_conflicts` are the byte-identical pairs with two labels. `leaks` say what is on two
    sides of the set's own division. `label_suspects` is `None` when no backbone was given. `thin`
    are the classes with fewer than two groups, `one_slide` those seen on one slide only, of slides
    that are known. `suggestion` and `slide_suggestion` are guesses where groups and slides are
    unknown. `colour_profiles` are images with a colour profile other than sRGB, which is not applied,
    and its name. `findings` say in words what has to be fixed.
    """

    data: Dataset
    problems: tuple[str, ...]
    unreadable: dict[str, str]
    blank: tuple[str, ...]
    sizes: dict[str, int]
    duplicates: tuple[tuple[str, str], ...]
    near_duplicate_pairs: tuple[tuple[str, str], ...]
    overlapping_pairs: tuple[tuple[str, str], ...]
    label_conflicts: tuple[tuple[str, str], ...]
    leaks: tuple[str, ...]
    burnt_in: tuple[Mark, ...]
    label_suspects: tuple[dict[str, Any], ...] | None
    thin: tuple[str, ...]
    suggestion: Suggestion | None
    slide_suggestion: SlideSuggestion | None = None
    one_slide: tuple[str, ...] = ()
    colour_profiles: tuple[tuple[str, str], ...] = ()
    findings: tuple[str, ...] = field(default=())

    def __repr__(self) -> str:
        number = len(self.data) + len(self.unreadable)
        found = len(self.findings)
        what = f"{how_many(found, 'thing')} to fix" if found else "nothing to fix"
        return f"<Check of {self.data.name!r}: {how_many(number, 'image')}, {what}>"

    def _repr_html_(self) -> str:
        fields = groups_of(self.near_duplicate_pairs)
        parts = [paragraph(repr(self).strip("<>"))]
        parts += [paragraph(line, "caution") for line in self.findings]
        parts += same_field_frames(self.data, fields[:_SHOWN], self.duplicates)
        if len(fields) > _SHOWN:
            more = how_many(len(fields) - _SHOWN, "more field")
            parts.append(paragraph(f"{more} seen more than once", "muted"))
        for mark in self.burnt_in:
            parts.append(grid(*mark_frames(self.data, mark), title="Recurs at one place"))
        return fragment(*parts)

    @property
    def ok(self) -> bool:
        """Whether there is nothing to fix."""
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, in the form of `allkit check --json`."""
        data = self.data
        return {
            "images": len(data) + len(self.unreadable),
            "problems": list(self.problems),
            "unreadable": list(self.unreadable),
            "errors": self.unreadable,
            "blank": list(self.blank),
            "colour_profiles": [image for image, _ in self.colour_profiles],
            "sizes": self.sizes,
            "duplicates": [list(pair) for pair in self.duplicates],
            "near_duplicate_pairs": [list(pair) for pair in self.near_duplicate_pairs],
            "overlapping_pairs": [list(pair) for pair in self.overlapping_pairs],
            "label_conflicts": [list(pair) for pair in self.label_conflicts],
            "leaks": list(self.leaks),
            "label_suspects": None if self.label_suspects is None else list(self.label_suspects),
            "burnt_in": [
                {
                    "box": [round(v, 4) for v in mark.box],
                    "images": [data.samples[i].image for i in mark.images],
                    "share": {
                        name: round(n / max(1, data.counts[name]), 3)
                        for name, n in self.bearers(mark).items()
                    },
                }
                for mark in self.burnt_in
            ],
            "groups": len(data.origins),
            "thin_classes": list(self.thin),
            "balance": {name: data.counts[name] for name in data.classes},
            "suggested_groups": self.suggestion and self.suggestion.to_dict(),
            "slides": len(data.slide_names),
            "one_slide_classes": list(self.one_slide),
            "suggested_slides": self.slide_suggestion and self.slide_suggestion.to_dict(),
            "left_out": list(data.left_out),
            "findings": list(self.findings),
        }

    def bearers(self, mark: Mark) -> dict[str, int]:
        """Return how many images of each class bear a mark."""
        counts = self.data.subset(mark.images).counts
        return {name: counts[name] for name in self.data.classes}


@dataclass
class _Seen:
    """The results of one pass over the images, by position; `None` for an unreadable image."""

    hashes: list[str | None]
    signatures: Column
    reduced: Column
    colours: npt.NDArray[np.float32]
    blank: list[int] = field(default_factory=list)
    profiles: dict[int, str] = field(default_factory=dict)
    sizes: Counter[str] = field(default_factory=Counter)
    errors: dict[int, str] = field(default_factory=dict)
    marks: Marks = field(default_factory=Marks)
    foreign: set[str] = field(default_factory=set)
    """The hashes of files that plugins read."""

    def measured(self, readable: Sequence[int]) -> Measured:
        """Return hashes and signatures of the images that could be read."""
        hashes = [digest for i in readable if (digest := self.hashes[i]) is not None]
        values = {
            SIGNATURE.name: self.signatures.at(readable),
            REDUCED.name: self.reduced.at(readable),
        }
        return Measured(len(readable), tuple(hashes), frozenset(self.foreign), values)


def check(
    data: Dataset | str | Path,
    *,
    backbone: str | None = None,
    weights: str = "default",
    pattern: str | None = None,
    slide: str | None = None,
    progress: Asked = "auto",
) -> Check:
    """Look at every image of a set, or of the set at a path, and return the findings.

    A path may hold a set that `Dataset.open` refuses: its problems become findings. With `backbone`,
    labels are compared with the answers of a classifier on its features. `pattern` takes the groups
    from the names (`Dataset.with_groups`), `slide` the slides (`Dataset.with_slides`). One image at
    a time is in memory; about 4 KB are kept of each. Raises `DatasetError` when there is no image.
    """
    with progress_of(progress) as told:
        return _checked(
            data, backbone=backbone, weights=weights, pattern=pattern, slide=slide, progress=told
        )


def _checked(
    data: Dataset | str | Path,
    *,
    backbone: str | None,
    weights: str,
    pattern: str | None,
    slide: str | None,
    progress: Progress | None,
) -> Check:
    if not isinstance(data, (str, Path)):
        data = Dataset.of(data)
    table = Table(data.name) if isinstance(data, Dataset) else readers.read(Path(data))
    whole = data if isinstance(data, Dataset) else Dataset.of_table(table)
    if pattern is not None:
        whole = whole.with_groups(pattern)
    if slide is not None:
        whole = whole.with_slides(slide)
    if len(whole) == 0:
        raise DatasetError(f"{whole.name} holds no image that can be read. Check the path.")
    seen = _look(whole, progress)
    readable = [i for i in range(len(whole)) if i not in seen.errors]
    kept = whole.subset(readable)
    kept.passes.measured = seen.measured(readable)
    if progress:
        progress("pairs", 0, 1)
    pairs = kept.duplicates
    kept.passes.measured.forget(REDUCED)
    if progress:
        progress("pairs", 1, 1)
    seen.reduced = Column(0)
    names = [s.image for s in kept]

    def named(found: list[tuple[int, int]]) -> tuple[tuple[str, str], ...]:
        return tuple((names[a], names[b]) for a, b in found)

    exact = closed_pairs(len(kept), pairs, "exact")
    near = closed_pairs(len(kept), pairs, "exact", "near")
    apart = set(near)
    overlapping = [(p.a, p.b) for p in pairs if p.kind == "overlap" and (p.a, p.b) not in apart]
    labels = [s.label for s in kept]
    marks = seen.marks.find(labels, kept.read) if len(kept) else []
    marks = unpainted(marks, [s.columns.get(PAINTED) for s in kept], kept.read)
    suspects = None
    if backbone is not None:
        found = label_suspects(kept, backbone, weights=weights, progress=progress)
        suspects = tuple(
            {"image": names[i], "label": labels[i], "suggested": better, "probability": round(p, 4)}
            for i, better, p in found
        )
    result = Check(
        data=kept,
        problems=tuple(table.problems),
        unreadable={whole.samples[i].image: error for i, error in sorted(seen.errors.items())},
        blank=tuple(whole.samples[i].image for i in sorted(seen.blank)),
        sizes=dict(seen.sizes.most_common()),
        colour_profiles=tuple(
            (whole.samples[i].image, p) for i, p in sorted(seen.profiles.items())
        ),
        duplicates=named(exact),
        near_duplicate_pairs=named(near),
        overlapping_pairs=named(overlapping),
        label_conflicts=named([(a, b) for a, b in exact if labels[a] != labels[b]]),
        leaks=tuple(kept.leaks()),
        burnt_in=tuple(marks),
        label_suspects=suspects,
        thin=tuple(_thin(kept)),
        suggestion=None
        if whole.has_groups or not len(kept)
        else suggest_groups(kept, seen.colours[readable]),
        slide_suggestion=None
        if kept.slide_names or not len(kept)
        else suggest_slides(kept, seen.colours[readable]),
        one_slide=tuple(name for name, number in kept.slides_of_class().items() if number == 1)
        if kept.has_slides and not kept.slides_suggested
        else (),
    )
    return replace(result, findings=tuple(_findings(result, near)))


def _look(data: Dataset, progress: Progress | None) -> _Seen:
    count = len(data)
    signatures, greys = SIGNATURE.column(count), REDUCED.column(count)
    seen = _Seen([None] * count, signatures, greys, np.zeros((count, 6), np.float32))
    lock = threading.Lock()

    def look(index: int) -> None:
        sample = data.samples[index]
        try:
            image, file = data.passes.load(index)
        except ImageError as error:
            with lock:
                seen.errors[index] = str(error)
            return
        seen.hashes[index] = hashlib.sha256(file).hexdigest()
        signatures.keep(index, signature(image, seen.hashes[index] or ""))
        greys.keep(index, reduced(image))
        seen.colours[index] = acquisition(image)
        seen.marks.add(image, sample.label)
        profile = foreign_profile(file)
        with lock:
            if profile:
                seen.profiles[index] = profile
            if not format_of(file):
                seen.foreign.add(seen.hashes[index] or "")
            seen.sizes[f"{image.shape[1]} × {image.shape[0]}"] += 1
            if float(image.std(axis=(0, 1)).max()) < _BLANK:
                seen.blank.append(index)

    data.each(look, progress and (lambda done, total: progress("images", done, total)))
    return seen


def _thin(data: Dataset) -> list[str]:
    if not data.has_groups:
        return []
    units = data.units
    return [
        name
        for position, name in enumerate(data.classes)
        if 0 < len(np.unique(units[data.labels == position])) < _FOLDS
    ]


def _findings(result: Check, near: list[tuple[int, int]]) -> list[str]:
    """Return what has to be fixed, the most serious first."""
    data = result.data
    lines = [f"{problem}." for problem in result.problems]
    lines += _count(result.unreadable, "image", "cannot be read: fix or remove {them}.")
    lines += _count(
        result.blank, "image", "shows nothing: remove {them}.", "show nothing: remove {them}."
    )
    which = "two labels: find out which is right."
    lines += _count(result.label_conflicts, "byte-identical pair", f"has {which}", f"have {which}")
    lines += list(result.leaks)
    lines += _count(
        result.duplicates,
        "byte-identical pair",
        "counts one field twice: keep one of the two (`allkit clean` does).",
        "count fields more than once: keep one of each (`allkit clean` does).",
    )
    if data.has_groups:
        units = data.units
        torn = sum(units[a] != units[b] for a, b in near)
        lines += _count(
            range(torn),
            "near-duplicate pair",
            "lies in two groups: join them.",
            "lie in two groups: join them (`allkit split` does).",
        )
    elif near:
        lines.append(
            f"{how_many(len(near), 'near-duplicate pair')} and no groups: a division "
            f"by image would test on what was trained on. Give groups."
        )
    for mark in result.burnt_in:
        shares = {n: c / max(1, data.counts[n]) for n, c in result.bearers(mark).items()}
        uneven = max(shares.values()) - min(shares.values()) > 0.1 if shares else False
        text = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        lines.append(
            f"Something recurs at one place ({_place(mark)}) in {how_many(len(mark.images), 'image')} "
            f"({text})"
            f"{': its presence alone reveals the class' if uneven else ''}. A scale bar, a label, "
            f"or dust in the microscope: paint it over or cut it off ({CLEAN})."
        )
    lines += _count(
        result.thin,
        "class",
        "comes from one group only, so it can never be tested on images it was not trained on: "
        "add another slide.",
        "come from one group each, so they can never be tested on images they were not trained on: "
        "add other slides.",
    )
    lines += _count(
        result.one_slide,
        "class",
        "was seen on one slide only, so nothing is known about it on other slides: add another "
        "slide of it.",
        "were seen on one slide each, so nothing is known about them on other slides: add other "
        "slides of them.",
    )
    return lines


def _count(items: Any, noun: str, one: str, many: str | None = None) -> list[str]:
    """Return a sentence of how many items there are, with the first three; nothing where none are.

    `one` says what is wrong with one of them, `many` with several.
    """
    number = len(items)
    if not number:
        return []
    verb = (one if number == 1 else many or one).format(them="it" if number == 1 else "them")
    plural = "" if number == 1 else "es" if noun.endswith("s") else "s"
    first = [item for item in itertools.islice(items, 3) if isinstance(item, (str, tuple))]
    named = [item if isinstance(item, str) else " = ".join(item) for item in first]
    some = f" ({', '.join(named)}{', …' if number > len(named) else ''})" if named else ""
    return [f"{number:,} {noun}{plural} {verb[:-1]}{some}."]


def _place(mark: Mark) -> str:
    left, top, right, bottom = (round(100 * v) for v in mark.box)
    return f"{left}–{right} % of the width, {top}–{bottom} % of the height"
