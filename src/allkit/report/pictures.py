"""Pictures of a training and of its metrics, as PNG bytes.

They are drawn without pyplot, so that drawing changes no global state and may be done in any thread.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from allkit.telemetry import import_silent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Example",
    "confusion_matrix",
    "curves_picture",
    "explanation_picture",
    "figure_of",
    "learning_curves",
    "plain",
    "png",
    "reliability_picture",
    "thumbnail",
    "training_pictures",
    "trials_picture",
]

INK, MUTED, TRAIN, VAL = "#1f2933", "#7b8794", "#3e6fb0", "#c2571a"


def training_pictures(info: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the pictures of a training, PNG by file name, from the content of its `model.json`."""
    title = f"{info['backbone']['name']}, {sum(info['data']['counts'].values()):,} images"
    pictures = {"learning_curves.png": learning_curves(info["history"], title)}
    held_out = info["validation"]
    if held_out is not None:
        if "curves" in held_out:  # older models have none
            pictures["reliability.png"] = reliability_picture(
                held_out["curves"]["reliability"],
                held_out["ece"],
                [fold["reliability"] for fold in held_out.get("folds", ())],
            )
        pictures["confusion.png"] = confusion_matrix(
            held_out["confusion"],
            [info["display_names"][name] for name in info["classes"]],
            f"Validation: accuracy {held_out['accuracy']:.3f}",
            "; ".join([held_out["protocol"], *held_out["notes"]]),
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


def confusion_matrix(
    matrix: Sequence[Sequence[int]], names: Sequence[str], title: str, caption: str = ""
) -> bytes:
    """Return the confusion matrix (rows true, columns predicted) as PNG bytes.

    The shade of a cell is its share of the row, so that a small class is not paler than a large
    one.
    """
    side = max(4.2, 1.0 * len(names) + 2.2)
    figure = figure_of(side + 0.6, side)
    axes = figure.add_subplot()
    shares = [[n / max(1, sum(row)) for n in row] for row in matrix]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.15)
    for i, row in enumerate(matrix):
        for j, count in enumerate(row):
            dark = shares[i][j] > 0.55
            axes.text(
                j,
                i,
                f"{count}\n{shares[i][j]:.1%}" if count else "0",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if dark else INK if count else MUTED,
            )
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    plain(axes)
    if caption:
        figure.supxlabel(caption, x=0.01, ha="left", fontsize=7.5, color=MUTED)
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


def thumbnail(image: npt.NDArray[np.uint8], side: int = 160) -> bytes:
    """Return `image` as a small JPEG with `side` as the longer side, for a page."""
    from PIL import Image

    small = Image.fromarray(image)
    small.thumbnail((side, side))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=82)
    return stream.getvalue()


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
    figure = figure_of(11.0, 4.4 + (2.2 if shown else 0.0))
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
    text = "\n".join("\n".join(textwrap.wrap(line, 44)) for line in lines)
    side.text(0, 1, text, va="top", fontsize=8.5, color=INK, transform=side.transAxes)
    if curves:
        inset = side.inset_axes((0.08, 0.02, 0.9, 0.4))
        for name, values in curves.items():
            colour = TRAIN if name.startswith("deletion") else VAL
            style = ":" if "random" in name else "-"
            places = [i / (len(values) - 1) for i in range(len(values))]
            inset.plot(places, values, style, color=colour, lw=1.2, label=name)
        inset.set_ylim(-0.02, 1.02)
        inset.set_xlabel("share covered, uncovered", fontsize=7)
        inset.legend(frameon=False, fontsize=5.5)
        plain(inset)
    for number, example in enumerate(shown):
        axes = figure.add_subplot(grid[1, 3 * number : 3 * number + 3])
        if example.image is not None:
            axes.imshow(example.image)
        axes.set_title(
            f"{example.label}, distance {example.distance:.1f}\n{example.name[-28:]}", fontsize=7
        )
        axes.axis("off")
    for axes in (field_axes, map_axes):
        axes.axis("off")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    return png(figure)


def reliability_picture(
    curve: Mapping[str, Sequence[float]],
    error: float | None,
    folds: Sequence[Mapping[str, Sequence[float]]] = (),
) -> bytes:
    """Return the reliability diagram as PNG bytes: confidence against the share that was right.

    The curves of single `folds` stand behind the one of all images.
    """
    figure = figure_of(4.4, 4.2)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=MUTED, lw=0.8)
    for fold in folds:
        axes.plot(fold["confidence"], fold["accuracy"], color=MUTED, lw=0.6, ls=":")
    axes.plot(curve["confidence"], curve["accuracy"], "o-", color=TRAIN, ms=4, lw=1.2)
    lowest = min([*curve["confidence"], *curve["accuracy"], 0.9])
    axes.set_xlim(max(0, lowest - 0.05), 1.01)
    axes.set_ylim(max(0, lowest - 0.05), 1.01)
    axes.set_xlabel("confidence")
    axes.set_ylabel("share that was right")
    text = "Reliability" if error is None else f"Reliability: ECE {error:.3f}"
    axes.set_title(text, loc="left", fontsize=10, color=INK)
    plain(axes)
    return png(figure)


def curves_picture(curves: Mapping[str, Any], names: Mapping[str, str]) -> bytes:
    """Return ROC, precision–recall and risk–coverage curves side by side as PNG bytes."""
    figure = figure_of(11.0, 3.6)
    roc, pr, risk = (figure.add_subplot(1, 3, position) for position in (1, 2, 3))
    for name, points in curves["per_class"].items():
        roc.plot(points["fpr"], points["tpr"], lw=1.3, label=names.get(name, name))
        pr.plot(points["tpr"], points["precision"], lw=1.3, label=names.get(name, name))
    risk.plot(curves["risk_coverage"]["coverage"], curves["risk_coverage"]["risk"], color=VAL)
    risk.set_ylim(bottom=0)
    for axes, title, x, y in [
        (roc, "ROC", "1 − specificity", "sensitivity"),
        (pr, "Precision–recall", "sensitivity (recall)", "precision"),
        (risk, "Risk–coverage", "share answered, surest first", "share wrong of it"),
    ]:
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        plain(axes)
    roc.legend(frameon=False, fontsize=8)
    return png(figure)


def figure_of(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches, without pyplot."""
    canvas = import_silent("matplotlib.backends.backend_agg").FigureCanvasAgg
    figure: Figure = import_silent("matplotlib.figure").Figure(
        figsize=(width, height), dpi=130, layout="constrained"
    )
    canvas(figure)
    return figure


def plain(axes: Any) -> None:
    """Take frame and ticks from axes."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, labelsize=8, colors=INK)


def png(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
