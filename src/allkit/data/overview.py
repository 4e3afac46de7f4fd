"""An overview of a set: lines of text, a sheet of images, and what a notebook shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from allkit.data.canvas import MUTED, figure_of
from allkit.data.left_out import left_out_text, whys_of
from allkit.data.rows import Sample
from allkit.data.slides import are_suggested, number_of_each_class
from allkit.errors import ImageError
from allkit.shown.html import bar, card, fragment, grid, paragraph, table, thumbnail
from allkit.shown.text import how_many, one_line, printable
from allkit.types import Pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["batch_sheet", "dataset_html", "sheet", "split_html", "summary"]

COLUMNS = 6
"""Images side by side on a sheet of a batch."""
SHOWN = 4
"""Images of each class that a notebook shows."""
MOST = 12
"""Classes of which a notebook shows images, and at most so many classes in its table."""
FONT = 9.0


class _Images(Protocol):
    """A `Dataset`, which lies above."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def samples(self) -> Sequence[Sample]:
        """Its images."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Its classes."""

    @property
    def left_out(self) -> Sequence[str]:
        """The files not used."""

    def read(self, index: int) -> Pixels:
        """Return one image."""


class _Division(Protocol):
    """A `Split`, which lies above."""

    @property
    def train(self) -> _Images:
        """The images to learn from."""

    @property
    def val(self) -> _Images:
        """Those to judge by in the training; often none."""

    @property
    def test(self) -> _Images:
        """Those to judge the model by."""

    @property
    def by(self) -> str:
        """What it keeps whole: `group` or `image`."""

    @property
    def held_out(self) -> str | None:
        """The value of the whole test part, if one was left out."""

    @property
    def dropped(self) -> int:
        """Images in no part."""


def summary(
    name: str, samples: Sequence[Sample], classes: Sequence[str], left_out: Sequence[str]
) -> str:
    """Return images, groups and cases of each class, the parts, and the files not used."""
    lines = [f"{name}: {how_many(len(samples), 'image')}"]
    for label in (*classes, *([] if all(s.label for s in samples) else [None])):
        members = [s for s in samples if s.label == label]
        facts = [f"{len(members):>7,} images"]
        for what in ("group", "case", "slide"):
            values = {getattr(s, what) for s in members} - {None}
            facts += [how_many(len(values), what)] * bool(values)
        lines.append(f"  {label or 'no label':<20}{', '.join(facts)}")
    if any(s.part is not None for s in samples):
        sizes = Counter(s.part or "no part" for s in samples)
        lines.append("  parts: " + ", ".join(f"{p} {n:,}" for p, n in sizes.items()))
    if all(s.slide is not None for s in samples):
        counts = number_of_each_class(samples, classes)
        source = " by the suggested slides" if are_suggested(samples) else ""
        lines += [
            f"  {label} was seen on one slide only{source}: nothing is known about it on other slides"
            for label, count in counts.items()
            if count == 1
        ]
    if left_out:
        lines.append(f"  not taken: {left_out_text(whys_of(left_out))}")
    return "\n".join(lines)


def sheet(
    samples: Sequence[Sample],
    classes: Sequence[str],
    read: Callable[[int], Pixels],
    *,
    per_class: int,
    seed: int,
) -> Figure:
    """Return a contact sheet: a row of images, drawn at random with `seed`, for each class."""
    rows = _chosen(samples, classes, per_class, seed)
    columns, lines = max([1, *map(len, rows)]), max(1, len(rows))
    figure = figure_of(1.75 * columns + 0.4, 2.0 * lines)
    for line, positions in enumerate(rows):
        for column in range(columns):
            axes = _frame(figure, (lines, columns, line * columns + column + 1))
            if column == 0:
                axes.set_ylabel(printable(classes[line]), fontsize=FONT, parse_math=False)
            if column < len(positions):
                index = int(positions[column])
                axes.imshow(read(index))
                _caption(axes, samples[index].image)
    return figure


def batch_sheet(arrays: Sequence[Pixels], names: Sequence[str]) -> Figure:
    """Return images `(H, W, 3)` uint8 side by side, six in a row, each with its name below."""
    columns = max(1, min(COLUMNS, len(arrays)))
    lines = max(1, -(-len(arrays) // columns))
    figure = figure_of(1.75 * columns + 0.1, 2.0 * lines)
    for place, (array, name) in enumerate(zip(arrays, names, strict=True), start=1):
        axes = _frame(figure, (lines, columns, place))
        axes.imshow(array)
        _caption(axes, name)
    return figure


def _frame(figure: Figure, place: tuple[int, int, int]) -> Axes:
    axes = figure.add_subplot(*place)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes


def _caption(axes: Axes, name: str) -> None:
    text = one_line(name).rpartition("/")[2]
    text = text if len(text) <= 20 else f"…{text[-19:]}"
    axes.set_xlabel(text, fontsize=FONT, color=MUTED, parse_math=False)


def _chosen(
    samples: Sequence[Sample], classes: Sequence[str | None], per_class: int, seed: int
) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Return the positions of some images of each class, at random with `seed`, in order."""
    rng = np.random.default_rng(seed)
    of_class = [[i for i, s in enumerate(samples) if s.label == name] for name in classes]
    return [np.sort(rng.permutation(np.array(i, dtype=np.int64))[:per_class]) for i in of_class]


def dataset_html(dataset: _Images) -> str:
    """Return what a notebook shows of a set: the number of images of each class, and some of them.

    Beside the images stand the groups, cases and slides where these are known. A few images are
    decoded; of one that cannot be read, this is said.
    """
    samples = dataset.samples
    classes: list[str | None] = list(dataset.classes)
    if any(s.label is None for s in samples):
        classes.append(None)
    known = [
        what
        for what in ("group", "case", "slide")
        if any(getattr(s, what) is not None for s in samples)
    ]
    counts = Counter(s.label for s in samples)
    most = max(counts.values(), default=1)
    rows = []
    for label in classes[:MOST]:
        members = [s for s in samples if s.label == label]
        kinds = [len({getattr(s, what) for s in members} - {None}) for what in known]
        name = "no label" if label is None else label
        rows.append((name, len(members), *kinds, bar(len(members) / most)))
    parts = [
        paragraph(f"{dataset.name}: {how_many(len(samples), 'image')}"),
        table(["class", "images", *(f"{what}s" for what in known), ""], rows),
    ]
    if len(classes) > MOST:
        more = how_many(len(classes) - MOST, "more class", "more classes")
        parts.append(paragraph(more, "muted"))
    if not known:
        parts.append(paragraph("Neither groups nor cases nor slides are known.", "muted"))
    if dataset.left_out:
        parts.append(paragraph(f"Not taken: {left_out_text(whys_of(dataset.left_out))}", "muted"))
    shown, frames = classes[:MOST], []
    for label, positions in zip(shown, _chosen(samples, shown, SHOWN, 0), strict=True):
        if len(positions):
            title = "no label" if label is None else label
            frames.append(grid(*(_card(dataset, int(i)) for i in positions), title=title))
    return fragment(*parts, grid(*frames))


def split_html(split: _Division) -> str:
    """Return what a notebook shows of a division: images and groups of each class in each part."""
    parts = {"train": split.train, "val": split.val, "test": split.test}
    there = {name: part for name, part in parts.items() if len(part.samples)}
    classes = list(dict.fromkeys(label for part in there.values() for label in part.classes))
    members = {name: Counter(s.label for s in part.samples) for name, part in there.items()}
    rows: list[tuple[object, ...]] = [
        (label, *(members[name][label] for name in there)) for label in classes[:MOST]
    ]
    if any(counts[None] for counts in members.values()):
        rows.append(("no label", *(members[name][None] for name in there)))
    rows.append(("all", *(len(part.samples) for part in there.values())))
    for what in ("group", "case", "slide"):
        values = [len({getattr(s, what) for s in part.samples} - {None}) for part in there.values()]
        if any(values):
            rows.append((f"{what}s", *values))
    text = _BY.get(split.by, f"Divided by {split.by}.")
    if split.held_out is not None:
        text = f"The test part is all of {split.held_out!r}. {text}"
    shown = [
        paragraph(text, "caution" if split.by == "image" else ""),
        table(["images", *there], rows),
    ]
    if len(classes) > MOST:
        more = how_many(len(classes) - MOST, "more class", "more classes")
        shown.append(paragraph(more, "muted"))
    if split.dropped:
        kin = "shares" if split.dropped == 1 else "share"
        text = (
            f"{how_many(split.dropped, 'image')} in no part: {'it' if kin == 'shares' else 'they'} {kin} "
            f"a group, a case or a field with the test."
        )
        shown.append(paragraph(text, "muted"))
    return fragment(*shown)


_BY = {
    "group": "Divided by group: no group, no case and no copy of an image is in two parts.",
    "image": "Divided by image: images of one slide may be in two parts, so figures on it are too high.",
}


def _card(dataset: _Images, index: int) -> str:
    name = dataset.samples[index].image
    try:
        data = thumbnail(dataset.read(index))
    except ImageError:
        data = None
    return card(data, "", [name.rpartition("/")[2]])
