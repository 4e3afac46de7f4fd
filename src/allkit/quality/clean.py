"""A set cleaned of what `check` finds, as a new folder of images with a table of what was done."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from allkit import __version__
from allkit.data.dataset import Dataset
from allkit.data.sources import FileSource, ZipSource
from allkit.errors import ConfigError
from allkit.files import require_free, whole_folder
from allkit.quality.check import Check, check
from allkit.quality.cleaned import (
    INDEX,
    README,
    TABLE,
    Cleaned,
    CleanedImage,
    readme_of,
    table_text,
)
from allkit.quality.corners import Seen, judged
from allkit.quality.covered import background_colour, hidden_cells, spread
from allkit.quality.places import new_names
from allkit.quality.rewriting import Rewriting, index_text
from allkit.quality.sorting_out import fields_named, sorted_out
from allkit.quality.treatment import (
    Box,
    Treatment,
    cut_for,
    grown,
    joined,
)
from allkit.types import Progress

__all__ = ["clean"]

_MOST_HIDDEN = 0.5  # of an image
_ENOUGH = 12  # images of one size and class, in which `marks` sees a mark


def clean(
    data: Dataset | str | Path,
    out: str | Path,
    *,
    marks: Literal["paint", "crop", "keep"] = "paint",
    regions: Sequence[Box] = (),
    only_regions: bool = False,
    near_duplicates: Literal["keep", "drop"] = "keep",
    drop_unusable: bool = False,
    colour: tuple[int, int, int] | None = None,
    pattern: str | None = None,
    slide: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Cleaned:
    """Write a set without copies, and without the marks that `check` finds, to the new folder `out`.

    `marks="paint"` paints over the same places in every image of every class, in one `colour` (RGB; by
    default that of the background); `"crop"` cuts the margin that holds the marks off every image, and
    paints over marks further inside. `regions` are further places, `(left, top, right, bottom)` as shares of
    width and height; with `only_regions` no others are treated. Of byte-identical images one is kept, with
    `near_duplicates="drop"` also of those of one field; else these have one `near_duplicate_of`.
    `drop_unusable` leaves out, and names, unreadable and blank images and copies under two labels.
    `pattern` and `slide` are those of `check`. The originals are only read.

    Raises `DatasetError` for images that cannot be used, and `ConfigError` for a setting that is out of its
    range, an `out` that is there already, or that holds or lies in the set.
    """
    out = Path(out)
    require_free(out, overwrite=overwrite, former=TABLE)
    _require_settings(marks, regions, only_regions, colour)
    if near_duplicates not in ("keep", "drop"):
        raise ConfigError(f"near_duplicates is {near_duplicates!r}. Give keep or drop.")
    whole = data if isinstance(data, Dataset) else Dataset.open(data)
    if pattern is not None:
        whole = whole.with_groups(pattern)
    if slide is not None:
        whole = whole.with_slides(slide)
    _require_apart(whole, out)
    found = check(whole, progress=progress)
    kept = {id(sample) for sample in found.data}
    readable = [index for index, sample in enumerate(whole) if id(sample) in kept]
    rows = sorted_out(
        whole,
        found,
        readable,
        drop_near=near_duplicates == "drop",
        drop_unusable=drop_unusable,
    )
    boxes = _boxes(found, regions, only_regions, keep=marks == "keep")
    treatment, instead = _treatments(boxes, marks)
    some = found.data.subset(spread([i for i, r in enumerate(readable) if rows[r].done == "kept"]))
    treatment = replace(treatment, colour=colour or background_colour(some, treatment))
    instead = instead and replace(instead, colour=treatment.colour)
    cells, hidden = hidden_cells(some, treatment)
    names = new_names([row.image for row in rows])
    rows = [
        replace(r, written=n) if r.done == "kept" else r for r, n in zip(rows, names, strict=True)
    ]
    bearers = {readable[i] for mark in found.burnt_in for i in mark.images}
    rows = [replace(row, mark="yes" if i in bearers else "") for i, row in enumerate(rows)]
    count = len(readable)
    with whole_folder(out, overwrite=overwrite, former=TABLE) as folder:
        for name in {str(Path(row.written).parent) for row in rows if row.written}:
            (folder / name).mkdir(parents=True, exist_ok=True)
        work = Rewriting(
            data=found.data,
            readable=readable,
            rows=rows,
            folder=folder,
            treatment=treatment,
            seen=(Seen(count), Seen(count), Seen(count) if instead is not None else None),
            instead=instead,
            profiles=dict(found.colour_profiles),
        )
        found.data.each(work.do, progress and partial(progress, "images written"))
        rows = work.without_same(drop_unusable)
        left = [i for i, r in enumerate(readable) if rows[r].done == "kept"]
        fields = fields_named(found.data, [rows[r].written for r in readable], left)
        for position, name in fields.items():
            index = readable[position]
            rows[index] = replace(rows[index], near_duplicate_of=name)
        corners = judged(
            found.data, treatment, work.seen, indices=np.array(left, np.int64), progress=progress
        )
        result = Cleaned(
            folder=out,
            images=tuple(rows),
            marks=marks,
            treatment=treatment,
            corners=corners,
            check=found,
            images_looked_at=len(some) if treatment.painted or treatment.cut else 0,
            cells_looked_at=cells,
            cells_hidden=hidden,
            notes=tuple(_notes(found, rows, drop_unusable)),
        )
        index_file = index_text(result, readable, folder)
        (folder / INDEX).write_text(index_file, encoding="utf-8")
        (folder / README).write_text(readme_of(result, __version__), "utf-8", "backslashreplace")
        # By this one the folder is known, so it comes last.
        (folder / TABLE).write_text(table_text(rows), encoding="utf-8")
    return result


def _require_settings(
    marks: str, regions: Sequence[Box], only: bool, colour: tuple[int, int, int] | None
) -> None:
    if marks not in ("paint", "crop", "keep"):
        raise ConfigError(f"marks is {marks!r}. Give paint, crop or keep.")
    for box in regions:
        good = len(box) == 4 and 0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1
        if not good:
            raise ConfigError(
                f"The region {','.join(map(str, box))} is no LEFT,TOP,RIGHT,BOTTOM from 0 to 1, as in "
                f"0.8,0.9,1,1 for the bottom right corner."
            )
    if only and not regions:
        raise ConfigError("Only the given regions are to be treated, and none is given. Give one.")
    if regions and marks == "keep":
        raise ConfigError("A region is given, and marks are kept. Choose paint or crop.")
    if colour is not None and not (len(colour) == 3 and all(0 <= v <= 255 for v in colour)):
        raise ConfigError(f"The colour is {colour}. Give red, green and blue from 0 to 255.")


def _require_apart(data: Dataset, out: Path) -> None:
    """Raise `ConfigError` where the new folder would hold originals, or lie among them."""
    there = os.path.realpath(out)
    top = os.path.realpath(data.name)
    if os.path.isdir(top) and _is_below(there, top):
        raise ConfigError(f"{out} lies in the set {data.name}. Choose a place outside of it.")
    for sample in data:
        source = sample.source
        if isinstance(source, FileSource):
            file = os.path.realpath(source.path)
        elif isinstance(source, ZipSource):
            file = os.path.realpath(source.archive)
        else:
            continue
        if _is_below(file, there):
            raise ConfigError(f"{out} holds images of the set itself. Choose another place.")


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


def _boxes(found: Check, regions: Sequence[Box], only: bool, *, keep: bool) -> tuple[Box, ...]:
    """Return the places to treat, none of which overlap."""
    if keep:
        return ()
    jpeg = any(sample.source.head()[:2] == b"\xff\xd8" for sample in found.data)
    sizes = [tuple(map(int, text.split(" × "))) for text in found.sizes] if jpeg else []
    of_marks = [] if only else [grown(m.box, [(w, h) for w, h in sizes]) for m in found.burnt_in]
    own = [(float(a), float(b), float(c), float(d)) for a, b, c, d in regions]
    return joined([*of_marks, *own])


def _treatments(boxes: tuple[Box, ...], marks: str) -> tuple[Treatment, Treatment | None]:
    """Return what is done to every image, and what cropping would do where it is painted over."""
    if not boxes:
        return Treatment(), None
    kept, inside = cut_for(boxes)
    cropped = Treatment(inside, kept)
    treatment = cropped if marks == "crop" else Treatment(boxes)
    if treatment.shown < 1 - _MOST_HIDDEN:
        raise ConfigError(
            f"This would hide {1 - treatment.shown:.0%} of every image. Look at the marks "
            f"(`allkit check --html`), and name the places to treat yourself (--region, --only-regions)."
        )
    return treatment, cropped if marks == "paint" and cropped.cut else None


def _notes(found: Check, rows: Sequence[CleanedImage], drop_unusable: bool) -> list[str]:
    """Return in sentences what cleaning does not change, or could not look for."""
    notes = []
    counts = Counter(s.label for s in found.data)
    if len(found.data) and max(counts.values()) < _ENOUGH:
        notes.append(
            f"Marks are found where a class has {_ENOUGH} images or more of one size; no class has. Name "
            f"their places with `--region`."
        )
    if found.blank and not drop_unusable:
        notes.append(f"{len(found.blank):,} images show nothing and were kept (`--drop-unusable`).")
    if len(found.sizes) > 1:
        notes.append(
            f"The images have {len(found.sizes):,} sizes, and cleaning keeps them: `allkit audit` says "
            f"whether they tell the class."
        )
    if found.colour_profiles:
        notes.append(
            f"{len(found.colour_profiles):,} images had a colour profile other than sRGB: it was not applied "
            f"and is not in the new files; {TABLE} names it."
        )
    if found.data.left_out:
        notes.append(f"{len(found.data.left_out):,} files beside the images were not taken.")
    return notes
