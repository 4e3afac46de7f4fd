"""The figures of the nested protocol as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slide_draws import ORDERS, SIZES

Figures = dict[str, Any]
SHORT = {
    "coarse right": "coarse",
    "coarse accepted right": "acc. right",
    "coarse accepted wrong": "acc. wrong",
    "fine right": "fine",
    "fine accepted right": "acc. right",
    "fine accepted wrong, class seen": "wrong, seen",
    "fine accepted wrong, class never seen": "wrong, never",
    "leukaemia accepted as benign": "as benign",
}


def text_of(figures: Figures, earlier: Figures | None = None) -> str:
    """Return every step that there is, one table after another."""
    return "\n".join(
        line
        for name, write in WRITERS.items()
        if name in figures
        for line in ("", *write(figures[name], earlier))
    )


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines, the first cell to the left and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    ]


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def with_interval(values: Sequence[float]) -> str:
    return f"{percent(values[0])} ({percent(values[1])}–{percent(values[2])})"


def write_unseen(unseen: Figures, earlier: Figures | None) -> list[str]:
    head = ["slide", "images", *SHORT.values()]
    rows = [head]
    for slide, row in unseen["slides"].items():
        cells = [f"{row[name][0]}" if row[name][1] else "–" for name in SHORT]
        mark = "" if row["seen"] else " *"
        rows.append([f"{slide} ({row['label']}{mark})", str(row["images"]), *cells])
    lines = ["every slide left out alone, images (* class never seen)", *columns(rows), ""]
    lines += ["the same in %, intervals over slides", *write_summary(unseen["summary"])]
    for name, row in unseen["bounds"].items():
        lines.append(
            f"wrong acceptance on {row['with a wrong acceptance']} of {row['slides']} slides "
            f"({name}); up to {percent(row['bound'])} % of slides possible (exact, 95 %)"
        )
    before = (earlier or {}).get("unseen", {}).get("risk", {})
    risk = [["most confident", *(f"{share} %" for share in unseen["risk"])]]
    risk.append(["coarse error, %", *map(percent, unseen["risk"].values())])
    if before:
        risk.append(["of the earlier run", *(percent(before.get(key)) for key in unseen["risk"])])
    return [*lines, "", *columns(risk)]


def write_summary(summary: Figures) -> list[str]:
    rows = [["", "slides", "pooled", "mean of slides", "minimum", "median", "maximum"]]
    for name, row in summary.items():
        cells = [str(row["slides"]), with_interval(row["pooled"]), with_interval(row["macro"])]
        rows.append([name, *cells, *(percent(row[k]) for k in ("minimum", "median", "maximum"))])
    return columns(rows)


PAIR_HEADS = {
    "benign recall": "benign",
    "malignant recall": "malignant",
    "coarse accepted right": "acc. right",
    "coarse accepted wrong": "acc. wrong",
    "fine accepted wrong": "fine acc. wrong",
    "leukaemia accepted as benign": "as benign",
}


def write_pairs(pairs: Figures, earlier: Figures | None) -> list[str]:
    return ["one benign and one malignant slide left out, %", *pair_rows(pairs)]


def pair_rows(pairs: Figures) -> list[str]:
    names = list(pairs["mean"])
    if not names:
        return _untrainable(pairs)
    rows = [["slides left out", "images", *(PAIR_HEADS.get(name, name) for name in names)]]
    for slides, row in pairs["rows"].items():
        rows.append([slides, "+".join(map(str, row["images"])), *_cells(row, names)])
    rows += [[kind, "", *_cells(pairs[kind], names)] for kind in ("mean", "worst")]
    return [*columns(rows), *_untrainable(pairs)]


def _untrainable(pairs: Figures) -> list[str]:
    return [f"not without {slides}: {reason}" for slides, reason in pairs["untrainable"].items()]


def _cells(row: Figures, names: Sequence[str]) -> list[str]:
    """Shares in per cent; what is a number of images stays one."""
    return [
        f"{row[name]:.3g}" if name == "leukaemia accepted as benign" else percent(row[name])
        for name in names
    ]


def write_curve(curve: Figures, earlier: Figures | None) -> list[str]:
    names = ("benign recall", "malignant recall", "balanced", "coarse accepted right")
    names += ("coarse accepted wrong", "fine accepted wrong")
    rows = [["benign slides in training", "trainings", *names, "worst balanced"]]
    for size, pairs in curve.items():
        if pairs["rows"]:
            worst = percent(pairs["worst"]["balanced"])
            rows.append([size, str(len(pairs["rows"])), *_cells(pairs["mean"], names), worst])
    title = "benign slides in training: means over the trainings, %"
    failures = [line for pairs in curve.values() for line in _untrainable(pairs)]
    return [title, *columns(rows), *failures]


def write_recoloured(recoloured: Figures, earlier: Figures | None) -> list[str]:
    names = list(next(iter(recoloured.values()))["all"])
    rows = [["slide", *names, "worst stain"]]
    for slide, row in recoloured.items():
        stain, most = max(
            row["to"].items(),
            key=lambda item: (item[1]["coarse accepted wrong"], item[1]["coarse answer changed"]),
        )
        worst = f"{stain}: {most['coarse accepted wrong']} wrong, {most['coarse answer changed']} changed"
        rows.append([slide, *(str(row["all"][name]) for name in names), worst])
    total = [str(sum(row["all"][name] for row in recoloured.values())) for name in names]
    return [
        "slides left out with the stain and light of every other slide, images",
        *columns([*rows, ["all", *total, ""]]),
    ]


def write_draws(draws: Figures, earlier: Figures | None) -> list[str]:
    lines = []
    for question in ("coarse", "fine"):
        for order in ORDERS:
            rows = [["slide", "fields", *(str(size) for size in SIZES)]]
            for slide, row in draws.items():
                cells = [_draw(row[f"{order} {size}"], question, size) for size in SIZES]
                rows.append([slide, str(row["fields"]), *cells])
            lines += [
                "",
                f"verdict on a slide, {question}, {order} fields: right / wrong / none, %",
            ]
            lines += [*columns(rows), *_over_draws(draws, question, order)]
    return [*lines[1:], "[n]: the slide has n fields only, and all were taken"]


OFTEN = 0.9
"""A slide counts as answered where so many of its draws are answered rightly."""


def _over_draws(draws: Figures, question: str, order: str) -> list[str]:
    """Say for each number of fields how many slides are answered, and the most wrong draws of one."""
    lines = []
    for size in SIZES:
        rows = [row[f"{order} {size}"][question] for row in draws.values()]
        answered = sum(row["right"] >= OFTEN for row in rows)
        silent = max(row["wrong"] for row in rows)
        lines.append(
            f"{size} fields: {answered} of {len(rows)} slides right in {percent(OFTEN)} % of draws or "
            f"more; at most {percent(silent)} % of the draws of a slide wrong"
        )
    return lines


def _draw(row: Figures, question: str, size: int) -> str:
    fewer = "" if row["fields"] == size else f" [{row['fields']}]"
    shares = (row[question][name] for name in ("right", "wrong", "none"))
    return " / ".join(percent(share) for share in shares) + fewer


def write_known(known: Figures, earlier: Figures | None) -> list[str]:
    names = ("fine accepted", "right of these", "coarse accepted", "coarse right of these")
    return [
        f"known slides, five folds by group, {known['images']} images, %",
        f"accuracy {with_interval(known['accuracy'])}, ECE {known['ece']:.4f}",
        ", ".join(f"{name} {percent(known[name])}" for name in names),
    ]


def write_others(others: Figures, earlier: Figures | None) -> list[str]:
    lines = ["other pictures (none may be accepted)"]
    for name, row in others.items():
        verdicts = ", ".join(f"{verdict} {n}" for verdict, n in row["verdicts"].items())
        codes = ", ".join(f"{code} {n}" for code, n in row["codes"].items())
        lines.append(
            f"{name}: {row['images']} images, accepted {row['fine accepted']} fine and "
            f"{row['coarse accepted']} coarse; {verdicts}; {codes}"
        )
    return lines


def write_inner(inner: Figures, earlier: Figures | None) -> list[str]:
    names = list(next(iter(inner["slides"].values()))["scores"])
    rows = [["outer slide", *names, "chosen", "its outer figure"]]
    for slide, row in inner["slides"].items():
        cells = [f"{row['scores'][name]:.3f}" for name in names]
        rows.append([slide, *cells, row["chosen"], f"{row['outer']:.3f}"])
    return [
        f"recipes on inner slides ({inner['score']}), and the chosen one on the outer slide",
        *columns(rows),
        "",
        "the outer slides, each by its chosen recipe, in %",
        *write_summary(inner["summary"]),
    ]


WRITERS = {
    "unseen": write_unseen,
    "draws": write_draws,
    "recoloured": write_recoloured,
    "pairs": write_pairs,
    "curve": write_curve,
    "known": write_known,
    "others": write_others,
    "inner": write_inner,
}
