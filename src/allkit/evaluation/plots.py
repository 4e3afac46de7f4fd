"""The plots of an evaluation, as matplotlib figures: confusion, calibration, curves, intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from allkit.data.canvas import FONT, INK, MUTED, TRAIN, VAL, figure_of, labelled, lines
from allkit.evaluation.text import counted
from allkit.shown.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "confusion_figure",
    "evaluation_figure",
    "precision_recall_figure",
    "reliability_figure",
    "risk_figure",
    "roc_figure",
]

SIDE = 4.0
"""Inches of a picture that stands with others on a page: as wide as a telephone shows."""
LABELLED = 6
"""Curves that get their names beside them; more have a legend."""
LONGEST = 16
"""Letters of a name in a picture."""


def evaluation_figure(evaluation: Mapping[str, Any], names: Mapping[str, str]) -> Figure:
    """Return confusion, recall of each class, reliability and risk–coverage in one figure."""
    shown = [names.get(name, name) for name in evaluation["classes"]]
    side = max(4.2, 0.75 * len(shown) + 1.6)
    figure = figure_of(2 * side + 0.6, side + 4.0)
    grid = figure.add_gridspec(2, 2, height_ratios=[side, 3.8])
    _confusion(figure.add_subplot(grid[0, 0]), evaluation["confusion"], shown, "Confusion")
    _recalls(figure.add_subplot(grid[0, 1]), evaluation, shown)
    curves = evaluation["curves"]
    _reliability(figure.add_subplot(grid[1, 0]), curves["reliability"], evaluation["ece"], ())
    _risk(figure.add_subplot(grid[1, 1]), curves["risk_coverage"])
    return figure


def confusion_figure(
    matrix: Sequence[Sequence[int]], names: Sequence[str], title: str, caption: str = ""
) -> Figure:
    """Return the confusion matrix (rows true, columns predicted).

    The shade of a cell is its share of the row, so that a small class is not paler than a large
    one; errors are orange.
    """
    side = max(4.2, 1.0 * len(names) + 2.2)
    figure = figure_of(side + 0.6, side)
    _confusion(figure.add_subplot(), matrix, names, title)
    if caption:
        figure.supxlabel(
            printable(caption), x=0.01, ha="left", fontsize=FONT - 1, color=MUTED, wrap=True
        )
    return figure


def _confusion(
    axes: Axes, matrix: Sequence[Sequence[int]], names: Sequence[str], title: str
) -> None:
    shares = [[n / max(1, sum(row)) for n in row] for row in matrix]
    axes.imshow([[_shade(n, i != j) for j, n in enumerate(row)] for i, row in enumerate(shares)])
    for i, row in enumerate(matrix):
        for j, count in enumerate(row):
            axes.text(
                j,
                i,
                f"{count}\n{shares[i][j]:.0%}" if count else "0",
                ha="center",
                va="center",
                fontsize=FONT,
                color="white" if i == j and shares[i][j] > 0.55 else INK if count else MUTED,
                fontweight="bold" if i != j and count else "normal",
            )
    short = [_short(name) for name in names]
    plainly = {"parse_math": False}
    axes.set_xticks(range(len(names)), short, rotation=25, ha="right", **plainly)
    axes.set_yticks(range(len(names)), short, **plainly)
    labelled(axes, title, "answered", "true class")


def _shade(share: float, wrong: bool) -> tuple[float, float, float]:
    """Return the colour of a cell: blue for right answers, orange, and never weak, for wrong ones."""
    full = (0.91, 0.45, 0.2) if wrong else (0.13, 0.4, 0.68)
    depth = (0.3 + 0.7 * share if wrong else share) if share else 0.0
    red, green, blue = (1 - depth * (1 - part) for part in full)
    return red, green, blue


def _recalls(axes: Axes, evaluation: Mapping[str, Any], names: Sequence[str]) -> None:
    bounds = evaluation.get("class_intervals", {})
    for at, (key, row) in enumerate(evaluation["per_class"].items()):
        value = row["recall"]
        if value is None:
            continue
        low, high = bounds.get(key, {}).get("recall", (value, value))
        axes.plot([low, high], [at, at], color=TRAIN, lw=2.2, solid_capstyle="butt")
        axes.plot(value, at, "o", color=TRAIN, ms=7)
        axes.annotate(
            f"{value:.2f} of {row['support']:,}",
            (value, at),
            xytext=(0, 9),
            textcoords="offset points",
            ha="center" if 0.15 < value < 0.85 else "right" if value >= 0.85 else "left",
            fontsize=FONT - 0.5,
            color=INK,
        )
    axes.set_yticks(range(len(names)), [_short(name) for name in names], parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.7)
    axes.set_xlim(-0.02, 1.02)
    axes.grid(axis="x", color="#e4e7eb")
    labelled(axes, f"Recall of each class, by {counted(evaluation)}", "share right, 95 % interval")


def reliability_figure(
    curve: Mapping[str, Sequence[float]],
    error: float | None,
    folds: Sequence[Mapping[str, Sequence[float]]] = (),
) -> Figure:
    """Return the reliability diagram: confidence against the share that was right.

    The curves of single `folds` stand behind the one of all images.
    """
    figure = figure_of(SIDE, SIDE - 0.3)
    _reliability(figure.add_subplot(), curve, error, folds)
    return figure


def _reliability(
    axes: Axes,
    curve: Mapping[str, Sequence[float]],
    error: float | None,
    folds: Sequence[Mapping[str, Sequence[float]]],
) -> None:
    lowest = max(0.0, min([*curve["confidence"], *curve["accuracy"], 0.9]) - 0.05)
    axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls="--")
    for fold in folds:
        axes.plot(fold["confidence"], fold["accuracy"], color=MUTED, lw=0.8, ls=":")
    axes.plot(curve["confidence"], curve["accuracy"], "o-", color=TRAIN, ms=5, lw=1.4)
    axes.set_xlim(lowest, 1.01)
    axes.set_ylim(lowest, 1.01)
    place = lowest + 0.42 * (1 - lowest)
    axes.annotate(
        "dashed: as sure as right",
        (place, place),
        xytext=(6, -14),
        textcoords="offset points",
        fontsize=FONT - 0.5,
        color=MUTED,
    )
    text = "Calibration" if error is None else f"Calibration: error {error:.3f}"
    labelled(axes, text, "how sure (probability)", "share that was right")


def risk_figure(curve: Mapping[str, Sequence[float]]) -> Figure:
    """Return the share of errors against the share that is answered, the surest images first."""
    figure = figure_of(SIDE, SIDE - 0.3)
    _risk(figure.add_subplot(), curve)
    return figure


def _risk(axes: Axes, curve: Mapping[str, Sequence[float]]) -> None:
    axes.plot(curve["coverage"], curve["risk"], color=VAL, lw=2)
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, max(0.02, 1.08 * max(curve["risk"], default=0.0)))
    axes.grid(axis="y", color="#e4e7eb")
    labelled(axes, "Errors if only the surest are answered", "share answered", "share wrong of it")


def roc_figure(curves: Mapping[str, Any], names: Mapping[str, str]) -> Figure:
    """Return the ROC curve of each class, with its name beside it."""
    figure = figure_of(SIDE, SIDE - 0.3)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls="--")
    _curves(axes, curves["per_class"], names, keys=("fpr", "tpr"), first=(0.1, 0.62))
    labelled(axes, "ROC", "1 − specificity", "sensitivity")
    return figure


def precision_recall_figure(curves: Mapping[str, Any], names: Mapping[str, str]) -> Figure:
    """Return the precision–recall curve of each class, with its name beside it."""
    figure = figure_of(SIDE, SIDE - 0.3)
    axes = figure.add_subplot()
    _curves(axes, curves["per_class"], names, keys=("tpr", "precision"), first=(0.08, 0.42))
    labelled(axes, "Precision–recall", "sensitivity (recall)", "precision")
    return figure


def _curves(
    axes: Axes,
    points: Mapping[str, Mapping[str, Sequence[float]]],
    names: Mapping[str, str],
    *,
    keys: tuple[str, str],
    first: tuple[float, float],
) -> None:
    """Draw a curve for each class, wider ones below; each name hangs from its curve by a thin line.

    `first` is where the first name stands.
    """
    import numpy as np

    drawn = {name: row for name, row in points.items() if row["fpr"]}
    for place, ((name, row), style) in enumerate(zip(drawn.items(), lines(), strict=False)):
        x, y = (np.array([*row[key]]) for key in keys)
        shown = _short(names.get(name, name))
        axes.plot(x, y, label=shown, **style)
        if len(drawn) > LABELLED:
            continue
        at = first[0] + place * 0.16
        height = float(np.interp(at, x, y))
        below = first[1] - 0.11 * place
        axes.plot([at, at], [below, height], color=style["color"], lw=0.8)
        axes.plot(at, height, "o", color=style["color"], ms=4)
        axes.text(
            at + 0.012,
            below,
            shown,
            color=style["color"],
            fontsize=FONT,
            fontweight="bold",
            va="center",
            parse_math=False,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )
    if len(drawn) > LABELLED:
        legend = axes.legend(frameon=False, fontsize=FONT - 0.5, handlelength=3.2)
        for text in legend.get_texts():
            text.set_parse_math(False)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.03)


def _short(name: str) -> str:
    text = printable(name)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
