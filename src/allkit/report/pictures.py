"""Pictures of a training, of a search and of an explanation, as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.data.canvas import FONT, INK, MUTED, TRAIN, VAL, figure_of, plain, png
from allkit.evaluation.plots import confusion_figure, reliability_figure
from allkit.evaluation.text import protocol_sentences
from allkit.telemetry import import_silent

__all__ = [
    "Example",
    "explanation_picture",
    "learning_curves",
    "training_pictures",
    "trials_picture",
]


def training_pictures(info: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the pictures of a training, PNG by file name, from the content of its `model.json`."""
    title = f"{info['backbone']['name']}, {sum(info['data']['counts'].values()):,} images"
    pictures = {"learning_curves.png": learning_curves(info["history"], title)}
    held_out = info["validation"]
    if held_out is not None:
        if "curves" in held_out:  # older models have none
            pictures["reliability.png"] = png(
                reliability_figure(
                    held_out["curves"]["reliability"],
                    held_out["ece"],
                    [fold["reliability"] for fold in held_out.get("folds", ())],
                )
            )
        pictures["confusion.png"] = png(
            confusion_figure(
                held_out["confusion"],
                [info["display_names"][name] for name in info["classes"]],
                f"Validation: accuracy {held_out['accuracy']:.3f}",
                " ".join([*protocol_sentences(held_out["protocol"]), *held_out["notes"]]),
            )
        )
    return pictures


def learning_curves(histories: Sequence[Sequence[Mapping[str, float]]], title: str) -> bytes:
    """Return the loss and accuracy of every epoch, one thin line a fold, as PNG bytes.

    Each history holds one mapping an epoch with `epoch, train_loss, train_accuracy` and, where
    there was a validation part, `val_loss, val_accuracy`.
    """
    figure = figure_of(9.0, 3.6)
    for position, (what, name) in enumerate([("loss", "Loss"), ("accuracy", "Accuracy")], start=1):
        axes = figure.add_subplot(1, 2, position)
        for part, colour, style in [("train", TRAIN, "-"), ("val", VAL, "--")]:
            for number, history in enumerate(histories):
                key = f"{part}_{what}"
                points = [(entry["epoch"], entry[key]) for entry in history if key in entry]
                if not points:
                    continue
                name_once = {"train": "training", "val": "validation"}[part] if not number else None
                width = 1.6 if len(histories) == 1 else 1.0
                axes.plot(
                    *zip(*points, strict=True), style, color=colour, lw=width, label=name_once
                )
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(import_silent("matplotlib.ticker").MaxNLocator(integer=True))
        axes.set_title(name, loc="left", fontsize=10, color=INK)
        if what == "loss":
            axes.set_yscale("log")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
        plain(axes)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    return png(figure)


def trials_picture(
    trials: Sequence[tuple[int, float | None, Mapping[str, Any]]],
    metric: str,
    *,
    lower_is_better: bool,
    importance: Mapping[str, tuple[float, float, float, float, bool]] | None = None,
) -> bytes:
    """Return the course of a search and the effect of each setting, as PNG bytes.

    `trials` holds (number, value or `None` when it failed, settings). The first panel shows every
    trial and the best so far; each further one the value against one setting. `importance` holds, by
    setting, its share, the ends of its interval, what chance alone gives, and whether it is more than that.
    """
    good = [(n, v, s) for n, v, s in trials if v is not None]
    names = list(dict.fromkeys(name for _, _, settings in trials for name in settings))
    count = 1 + len(names) + bool(importance)
    columns = min(3, count)
    rows = -(-count // columns)
    figure = figure_of(3.4 * columns, 2.7 * rows + 0.3)
    values = [v for _, v, _ in good]
    choose = np.minimum if lower_is_better else np.maximum
    winner = (min if lower_is_better else max)(range(len(good)), key=lambda i: values[i])
    axes = figure.add_subplot(rows, columns, 1)
    axes.scatter([n for n, _, _ in good], values, s=16, color=TRAIN)
    axes.step([n for n, _, _ in good], choose.accumulate(values), where="post", color=VAL, lw=1.2)
    for number in (n for n, v, _ in trials if v is None):
        axes.axvline(number, color=MUTED, lw=0.8, ls=":")
    axes.set_title("trial (line: best so far)", loc="left", fontsize=9, color=INK)
    panels = [axes]
    for position, name in enumerate(names, start=2):
        axes = figure.add_subplot(rows, columns, position)
        shown = [s.get(name) for _, _, s in good]
        if all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in shown):
            where = [float(x) for x in shown if x is not None]
            if min(where) > 0 and max(where) / min(where) > 20:
                axes.set_xscale("log")
        else:
            texts = sorted({str(x) for x in shown})
            where = [float(texts.index(str(x))) for x in shown]
            axes.set_xticks(range(len(texts)), texts)
        axes.scatter(where, values, s=16, color=TRAIN)
        axes.scatter(where[winner], values[winner], s=48, facecolors="none", edgecolors=VAL)
        axes.set_title(name, loc="left", fontsize=9, color=INK)
        panels.append(axes)
    if importance:
        _shares_of_settings(figure.add_subplot(rows, columns, count), importance)
    spread = max(values) / min(values) if min(values) > 0 else 1.0
    for axes in panels:
        if spread > 5:
            axes.set_yscale("log")
        plain(axes)
    failed = len(trials) - len(good)
    note = f", {failed} failed" if failed else ""
    better = "lower" if lower_is_better else "higher"
    title = f"{metric}, {better} is better; {len(trials)} trials{note}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    return png(figure)


def _shares_of_settings(
    axes: Any, importance: Mapping[str, tuple[float, float, float, float, bool]]
) -> None:
    """Draw the importance of each setting with its interval; a short bar marks what chance gives."""
    for place, told in enumerate(reversed(list(importance.values()))):
        share, low, high, chance, known = told
        colour = TRAIN if known else MUTED
        axes.plot([low, high], [place, place], color=colour, lw=1.6)
        axes.scatter([share], [place], s=22, color=colour, zorder=3)
        axes.plot([chance, chance], [place - 0.3, place + 0.3], color=VAL, lw=1.4)
    axes.set_yticks(range(len(importance)), list(reversed(list(importance))))
    axes.set_ylim(-0.6, len(importance) - 0.4)
    axes.set_xlim(0, 1)
    title = "importance, 90 % interval (bar: chance)"
    axes.set_title(title, loc="left", fontsize=9, color=INK)
    plain(axes)


@dataclass(frozen=True)
class Example:
    """A training image near an answer: its name, class, distance, and its pixels if available."""

    name: str
    label: str
    distance: float
    image: npt.NDArray[np.uint8] | None = None


def explanation_picture(
    image: npt.NDArray[np.uint8],
    strengths: npt.NDArray[np.floating[Any]],
    cells: npt.NDArray[np.bool_],
    *,
    title: str,
    lines: Sequence[str],
    examples: Sequence[Example],
    curves: Mapping[str, Sequence[float]],
) -> bytes:
    """Return field, map with outlined cells, check and nearest examples as PNG bytes.

    `strengths` `(H, W)` from 0 to 1 is the map, `cells` `(H, W)` where stained cells are, `curves` hold
    the values of each curve of the check by its name.
    """
    import textwrap

    shown = [example for example in examples if example.image is not None][:5]
    figure = figure_of(11.6, 4.4 + (2.2 if shown else 0.0))
    grid = figure.add_gridspec(2 if shown else 1, 15, height_ratios=[2, 1] if shown else [1])
    field_axes = figure.add_subplot(grid[0, :5])
    field_axes.imshow(image)
    field_axes.set_title("field", loc="left", fontsize=10, color=INK)
    map_axes = figure.add_subplot(grid[0, 5:10])
    map_axes.imshow(image)
    map_axes.imshow(strengths, cmap="inferno", alpha=0.25 + 0.5 * strengths, vmin=0, vmax=1)
    if cells.any() and not cells.all():
        map_axes.contour(cells, levels=[0.5], colors="white", linewidths=0.5)
    map_axes.set_title("map; outlined: stained cells", loc="left", fontsize=10, color=INK)
    side = figure.add_subplot(grid[0, 10:])
    side.axis("off")
    text = "\n".join("\n".join(textwrap.wrap(line, 46)) for line in lines)
    side.text(0, 1, text, va="top", fontsize=FONT - 0.5, color=INK, transform=side.transAxes)
    if curves:
        inset = side.inset_axes((0.1, 0.1, 0.88, 0.27))
        for name, values in curves.items():
            colour = TRAIN if name.startswith("deletion") else VAL
            style = ":" if "random" in name else "-"
            places = [i / (len(values) - 1) for i in range(len(values))]
            inset.plot(places, values, style, color=colour, lw=1.2, label=name)
        inset.set_ylim(-0.02, 1.02)
        inset.set_xlabel("share covered, uncovered", fontsize=FONT - 0.5)
        inset.legend(
            loc="lower left",
            bbox_to_anchor=(-0.12, 0.98),
            ncols=2,
            frameon=False,
            fontsize=FONT - 0.5,
            handlelength=1.6,
            columnspacing=1,
        )
        plain(inset)
    for number, example in enumerate(shown):
        axes = figure.add_subplot(grid[1, 3 * number : 3 * number + 3])
        if example.image is not None:
            axes.imshow(example.image)
        axes.set_title(
            f"{example.label}, distance {example.distance:.1f}\n{example.name[-24:]}",
            fontsize=FONT - 0.5,
            parse_math=False,
        )
        axes.axis("off")
    for axes in (field_axes, map_axes):
        axes.axis("off")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    return png(figure)
