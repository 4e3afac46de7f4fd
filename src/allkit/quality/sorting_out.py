"""Which images of a set are kept, and which are dropped: copies, and what cannot be used."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from allkit.data.allocation import joined_units
from allkit.data.dataset import Dataset
from allkit.errors import DatasetError, ImageError
from allkit.images.same_field import closed_pairs, clusters
from allkit.quality.check import Check
from allkit.quality.cleaned import CleanedImage
from allkit.shown.text import visible

__all__ = ["dropped_copies", "fields_named", "sorted_out"]

_SHOWN = 20  # images that an error names; `allkit check --json` names all


def sorted_out(
    whole: Dataset, found: Check, readable: Sequence[int], *, drop_near: bool, drop_unusable: bool
) -> list[CleanedImage]:
    """Return a row for each image of the set, those dropped with their reason.

    `readable` are the positions of the images of `found.data`. Raises `DatasetError` that names what
    cannot be used, unless it is to be dropped.
    """
    rows = [CleanedImage(s.image, s.label) for s in whole]
    there = set(readable)
    for index, row in enumerate(rows):
        if index not in there:
            why = f"unreadable: {found.unreadable[row.image]}"
            digest = _digest(whole, index)
            rows[index] = replace(row, done="dropped", reason=why, sha256_before=digest)
    for digest, index in zip(found.data.hashes, readable, strict=True):
        rows[index] = replace(rows[index], sha256_before=digest)
    blank = set(found.blank) if drop_unusable else set()
    for index in readable:
        if rows[index].image in blank:
            rows[index] = replace(rows[index], done="dropped", reason="shows nothing")
    rows = dropped_copies(rows, [row.sha256_before for row in rows], "a copy")
    _refuse(rows, whole.name, drop_unusable)
    if drop_near:
        near = closed_pairs(len(found.data), found.data.duplicates, "exact", "near")
        for members in clusters(len(found.data), near):
            _keep_first(rows, [readable[i] for i in members], "the same field again")
    return rows


def dropped_copies(
    rows: Sequence[CleanedImage], digests: Sequence[str], what: str
) -> list[CleanedImage]:
    """Return the rows with all but the first of those that are the same file dropped.

    Those of one file that have two labels are all dropped: nobody knows which label is right.
    """
    new = list(rows)
    same: dict[str, list[int]] = defaultdict(list)
    for index, (row, digest) in enumerate(zip(rows, digests, strict=True)):
        if row.done == "kept":
            same[digest].append(index)
    for members in same.values():
        labels = sorted({str(rows[i].label) for i in members})
        if len(labels) > 1:
            names = ", ".join(rows[i].image for i in members)
            for index in members:
                why = f"one image under two labels ({' and '.join(labels)}): {names}"
                new[index] = replace(rows[index], done="dropped", written="", reason=why)
        else:
            _keep_first(new, members, what)
    return new


def _keep_first(rows: list[CleanedImage], members: Iterable[int], what: str) -> None:
    """Drop the kept rows after the first one that have its label."""
    there = [index for index in members if rows[index].done == "kept"]
    for index in there[1:]:
        first = rows[there[0]]
        if rows[index].label == first.label:
            why = f"{what}: of {first.image}"
            rows[index] = replace(
                rows[index], done="dropped", written="", reason=why, copy_of=first.image
            )


def _refuse(rows: Sequence[CleanedImage], name: str, drop_unusable: bool) -> None:
    """Raise `DatasetError` where images cannot be used and are not to be dropped."""
    unusable = [row for row in rows if row.done == "dropped" and not row.copy_of]
    if not any(row.done == "kept" for row in rows):
        raise DatasetError(f"{name} holds no image that can be used. See `allkit check`.")
    if drop_unusable or not unusable:
        return
    lines = [f"  {visible(row.image)}: {visible(row.reason)}" for row in unusable[:_SHOWN]]
    more = len(unusable) - _SHOWN
    lines += [f"  … and {more:,} more"] if more > 0 else []
    raise DatasetError(
        f"{len(unusable):,} of {len(rows):,} images of {name} cannot be used:\n"
        + "\n".join(lines)
        + "\n"
        "Fix them, or have them dropped by name (`--drop-unusable`, in Python drop_unusable=True); no "
        "image is skipped silently."
    )


def _digest(whole: Dataset, index: int) -> str:
    try:
        return hashlib.sha256(whole.samples[index].source.read()).hexdigest()
    except ImageError:  # it cannot be opened at all
        return ""


def fields_named(data: Dataset, names: Sequence[str], kept: Sequence[int]) -> dict[int, str]:
    """Return the field of each of the images `kept` that shows one with others of the set.

    A field keeps the name of the set's own column `near_duplicate_of`, and else has that of its first
    image in `names`.
    """
    stated = [s.columns.get("near_duplicate_of") for s in data]
    groups = clusters(len(data), data.duplicates)
    seen = {index: number for number, members in enumerate(groups) for index in members}
    units = joined_units(len(data), stated, [seen.get(i) for i in range(len(data))]).tolist()
    members = defaultdict(list)
    for index in kept:
        members[units[index]].append(index)
    taken = {text for text in stated if text}
    named: dict[int, str] = {}
    for group in members.values():
        own = next((text for i in group if (text := stated[i])), None)
        if own is None and len(group) < 2:
            continue
        name = own or names[group[0]]
        while own is None and name in taken:
            name += "'"
        taken.add(name)
        named |= dict.fromkeys(group, name)
    return named
