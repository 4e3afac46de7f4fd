"""The figures of a model as text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allkit.evaluation.result import Evaluation

__all__ = ["evaluation_summary"]


def evaluation_summary(figures: Evaluation, title: str) -> str:
    """Return the figures as text, cautions first, with a table of the classes and the confusion."""
    from allkit.data.labels import display_name
    from allkit.evaluation.text import counted, evaluation_lines

    values = figures.to_dict()
    lines = [title, "", *evaluation_lines(values)]
    names = [display_name(name) for name in figures.classes]
    width = max(len(name) for name in names) + 2
    lines += [
        "",
        f"{'':<{width}}precision  recall     F1{counted(values):>8}  recall, 95 % interval",
    ]
    for key, name in zip(figures.classes, names, strict=True):
        row = figures.per_class[key]
        cells = [
            f"{row[k]:>9.3f}" if row[k] is not None else "        –"
            for k in ("precision", "recall")
        ]
        f1 = f"{row['f1']:.3f}" if row["f1"] is not None else "–"
        recall = figures.class_intervals.get(key, {}).get("recall")
        shown = "" if recall is None else f"  {recall[0]:.3f}–{recall[1]:.3f}"
        lines.append(f"{name:<{width}}{cells[0]}{cells[1]:>8}{f1:>7}{row['support']:>8}{shown}")
    lines += ["", "confusion (rows true, columns predicted)"]
    for name, counts in zip(names, figures.confusion, strict=True):
        lines.append(f"{name:<{width}}" + "".join(f"{count:>7}" for count in counts))
    return "\n".join(lines) + "\n"
