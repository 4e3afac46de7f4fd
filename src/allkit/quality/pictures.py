"""What a check and an audit show of images: groups of one field, marks, what a probe sees."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath

import numpy as np

from allkit.data.dataset import Dataset
from allkit.errors import AllkitError
from allkit.evaluation.probe_words import probe_words
from allkit.evaluation.shortcuts import Probe, background_of, threshold
from allkit.quality.marks import Mark
from allkit.shown.html import bar, card, grid, table, thumbnail
from allkit.shown.text import how_many
from allkit.types import Pixels

__all__ = ["cards", "groups_of", "mark_frames", "probe_table", "same_field_frames", "sight_frames"]

EACH = 12
"""Images shown of one group."""
_FRAME = (200, 96, 28)


def groups_of(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return the groups that pairs of names form, each with its names in order, largest first."""
    head: dict[str, str] = {}

    def root(name: str) -> str:
        while head.setdefault(name, name) != name:
            name = head[name]
        return name

    for first, second in pairs:
        head[root(second)] = root(first)
    found: dict[str, list[str]] = {}
    for name in sorted(head):
        found.setdefault(root(name), []).append(name)
    return sorted(found.values(), key=lambda names: (-len(names), names))


def cards(
    data: Dataset,
    indices: Iterable[int],
    *,
    lines: Callable[[int], Sequence[str]] = lambda index: (),
    show: Callable[[Pixels], Pixels] = lambda image: image,
    strong: bool = False,
) -> list[str]:
    """Return images of a set with their names below, and further `lines`; `show` changes them before."""
    made, within = [], _folder_of(data)
    for index in indices:
        try:
            picture = thumbnail(show(data.read(index)), 240)
        except (AllkitError, OSError):  # it was there a moment ago
            picture = None
        sample = data.samples[index]
        label = "no label" if sample.label is None else sample.label
        name = sample.image.removeprefix(within)
        made.append(card(picture, label, [name, *lines(index)], strong=strong))
    return made


def _folder_of(data: Dataset) -> str:
    """Return the folder that the names of all images begin with, with a slash; empty without one.

    Names are paths of this machine where a set was made of such: below a picture its own part is enough.
    """
    names = [sample.image for sample in data]
    first, last = (min(names, default=""), max(names, default=""))
    if not PurePath(first).is_absolute():
        return ""
    common = os.path.commonpath([os.path.dirname(first), os.path.dirname(last)])
    return f"{common.rstrip(os.sep)}{os.sep}"


def same_field_frames(
    data: Dataset, groups: Sequence[Sequence[str]], identical: Iterable[tuple[str, str]]
) -> list[str]:
    """Return each group of images that show one field in a frame, with what is odd about it."""
    place = {sample.image: index for index, sample in enumerate(data)}
    copies = {name for pair in identical for name in pair}
    frames = []
    for names in groups:
        samples = [data.samples[place[name]] for name in names]
        labels = {sample.label for sample in samples}
        origins = {sample.group or sample.case for sample in samples} - {None}
        title = how_many(len(names), "image")
        same = sum(name in copies for name in names)
        if same:
            title += f", {'all' if same == len(names) else same} byte-identical"
        if len(labels) > 1:
            title += f"; different labels: {', '.join(sorted(map(str, labels)))}"
        if len(origins) > 1:
            title += f"; in {len(origins)} groups"
        if len(names) > EACH:
            title += f"; {EACH} are shown"
        shown = cards(
            data,
            [place[name] for name in names[:EACH]],
            lines=lambda index: [f"group {g}"] if (g := data.samples[index].group) else [],
            strong=len(labels) > 1,
        )
        frames.append(grid(*shown, title=title))
    return frames


def mark_frames(data: Dataset, mark: Mark, number: int = 4) -> list[str]:
    """Return some of the images that bear a mark, of every class in turn, with a frame round it."""
    of_class: dict[str | None, list[int]] = {}
    for index in mark.images:
        of_class.setdefault(data.samples[index].label, []).append(index)
    turns = max(1, -(-number // max(1, len(of_class))))
    chosen = [index for indices in of_class.values() for index in indices[:turns]]
    return cards(data, chosen, show=lambda image: _framed(image, mark.box))


def _framed(image: Pixels, box: Sequence[float]) -> Pixels:
    height, width = image.shape[:2]
    thick = max(2, round(max(height, width) / 110))
    left, right = (round(v * width) for v in (box[0], box[2]))
    top, bottom = (round(v * height) for v in (box[1], box[3]))
    inside = np.zeros((height, width), dtype=bool)
    inside[max(0, top - thick) : bottom + thick, max(0, left - thick) : right + thick] = True
    inside[top:bottom, left:right] = False
    framed = image.copy()
    framed[inside] = _FRAME
    return framed


def probe_table(probes: Sequence[Probe], chance: float) -> str:
    """Return probes as a table with bars: the interval is a line, chance is dotted."""
    rows = [
        (
            probe_words(probe.name),
            probe.balanced_accuracy,
            f"{probe.low:.3f} to {probe.high:.3f}",
            bar(
                probe.balanced_accuracy,
                strong=probe.low >= threshold(probe, chance),
                interval=(probe.low, probe.high),
                mark=chance,
            ),
        )
        for probe in probes
    ]
    return table(
        ["what is seen", "balanced accuracy", "95 % interval", ""],
        rows,
        f"The line is the interval, the dots are chance ({chance:.2f}). {_limits(probes, chance)}",
    )


def _limits(probes: Sequence[Probe], chance: float) -> str:
    """Return from where on a probe is called a shortcut, which differs by whether it sees cells."""
    limits = {probe.blind: threshold(probe, chance) for probe in probes}
    shares = {True: ("a quarter", "sees no cell"), False: ("half", "sees cells as colour")}
    texts = [
        f"{limits[blind]:.2f} ({share} of the way from chance to 1) for what {sees}"
        for blind, (share, sees) in shares.items()
        if blind in limits
    ]
    honest = ", since part of what colour gets is honest" if False in limits else ""
    return f"Orange is a shortcut: its whole interval is at or above {' and '.join(texts)}{honest}."


def sight_frames(data: Dataset, probe: Probe, each: int = 4) -> list[str]:
    """Return what a probe sees of some images of each class; nothing where that is no picture."""
    see = _SIGHTS.get(probe.name)
    if see is None:
        return []
    labels = data.labels
    frames = []
    for at, name in enumerate(data.classes):
        indices = np.flatnonzero(labels == at)
        if len(indices):
            some = indices[np.unique(np.linspace(0, len(indices) - 1, each).astype(int))]
            frames.append(grid(*cards(data, map(int, some), show=see), title=name))
    return frames


def _corner(top: bool, left: bool) -> Callable[[Pixels], Pixels]:
    def see(image: Pixels) -> Pixels:
        rows, columns = max(4, round(image.shape[0] / 8)), max(4, round(image.shape[1] * 3 / 16))
        down = slice(None, rows) if top else slice(-rows, None)
        across = slice(None, columns) if left else slice(-columns, None)
        return _enlarged(image[down, across])

    return see


def _enlarged(part: Pixels, side: int = 240) -> Pixels:
    times = max(1, side // max(part.shape[:2]))
    return np.ascontiguousarray(part.repeat(times, axis=0).repeat(times, axis=1))


def _border(image: Pixels) -> Pixels:
    seen = image.copy()
    seen[8:-8, 8:-8] = 128
    return seen


def _background(image: Pixels) -> Pixels:
    seen = image.copy()
    seen[~background_of(image)] = 128
    return seen


def _mean(image: Pixels) -> Pixels:
    return np.tile(image.mean(axis=(0, 1)).astype(np.uint8), (80, 160, 1))


def _palette(image: Pixels) -> Pixels:
    """Return the colours of an image without their places: from the darkest to the lightest."""
    some = image.reshape(-1, 3)[:: max(1, image.shape[0] * image.shape[1] // 12_800)]
    ordered = some[np.argsort(some.sum(axis=1), kind="stable")]
    columns = ordered[: len(ordered) // 40 * 40].reshape(-1, 40, 3).transpose(1, 0, 2)
    return np.ascontiguousarray(columns)


def _small(image: Pixels) -> Pixels:
    import cv2

    return _enlarged(np.asarray(cv2.resize(image, (8, 8), interpolation=3), np.uint8))


_SIGHTS: dict[str, Callable[[Pixels], Pixels]] = {
    "border": _border,
    "corner_tl": _corner(True, True),
    "corner_tr": _corner(True, False),
    "corner_bl": _corner(False, True),
    "corner_br": _corner(False, False),
    "background": _background,
    "mean_colour": _mean,
    "colour_histogram": _palette,
    "thumbnail": _small,
}
