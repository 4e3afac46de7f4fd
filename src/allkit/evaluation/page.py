"""The evaluation of a model as one page for a browser, and as a notebook shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from allkit import __version__
from allkit.data.canvas import png
from allkit.data.labels import display_name
from allkit.evaluation import plots
from allkit.evaluation.coarse import VERDICTS, coarse_lines, coarse_name
from allkit.evaluation.confusion import confusion_table
from allkit.evaluation.intervals import beside, ends, interval_of, shown_interval
from allkit.evaluation.judged_images import JudgedImages
from allkit.evaluation.metric_names import MEANINGS, METRIC_NAMES, SAME_NAMES
from allkit.evaluation.probe_words import probe_words
from allkit.evaluation.text import MAIN_METRICS, OF_CLASS, cautions_of, counted, in_units
from allkit.shown.html import (
    bar,
    fragment,
    grid,
    items,
    page,
    paragraph,
    picture,
    section,
    table,
    tile,
    tiles_in_rows,
)
from allkit.shown.text import how_many

__all__ = ["evaluation_fragment", "evaluation_page"]

WORST, OF_A_REASON, REASONS = 24, 4, 8
"""Images shown: of the wrong answers, of each reason for review; and reasons of which any are shown."""
PLOT = 384
"""Width of a plot in pixels of a page: that in which it is drawn, so that its letters keep their size."""


def evaluation_page(
    evaluation: Mapping[str, Any],
    *,
    title: str,
    names: Mapping[str, str],
    lead: str = "",
    comparison: Mapping[str, Any] | None = None,
    images: JudgedImages | None = None,
) -> str:
    """Return the page; `evaluation` is that of `Evaluation.to_dict`, `names` what is shown for classes.

    With the `images` behind it, the page shows the worst answers and why others are for review.
    """
    sections = [
        section("In short", *_cautions(evaluation), _tiles(evaluation)),
        *_coarse(evaluation.get("coarse")),
        _classes(evaluation, names),
    ]
    if evaluation.get("leave_one_group_out"):
        groups = (evaluation.get("coarse") or {}).get("groups", ())
        sections.append(_unseen(evaluation["leave_one_group_out"], groups))
    if evaluation["verdicts"]:
        sections.append(_verdicts(evaluation, images))
    if images is not None:
        sections.append(_wrong(images))
    sections.append(_plots(evaluation, names))
    if evaluation.get("cases"):
        sections.append(_cases(evaluation["cases"]))
    if comparison:
        sections.append(_comparison(comparison))
    sections.append(_metrics(evaluation))
    lead = lead or f"allkit {__version__}. Research use only; not a diagnosis."
    return page(title, f"{in_units(evaluation)}. {lead}", sections)


def evaluation_fragment(evaluation: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Return what a notebook shows: cautions, main metrics, the strongest probe, the confusion."""
    rows = [
        (name, evaluation[key], _shown(evaluation, key), beside(evaluation, key))
        for key, name in MAIN_METRICS.items()
        if evaluation.get(key) is not None and interval_of(evaluation, key) is not None
    ]
    shown = [names.get(name, name) for name in evaluation["classes"]]
    lines = [f"{in_units(evaluation)}.", *coarse_lines(evaluation.get("coarse"))]
    if evaluation["verdicts"]:
        lines.append(_verdict_counts(evaluation))
    return fragment(
        *_cautions(evaluation),
        *map(paragraph, lines),
        table(["", "value", "95 % interval", ""], rows),
        confusion_table(evaluation["confusion"], shown),
    )


def _cautions(evaluation: Mapping[str, Any]) -> list[str]:
    parts = [paragraph(note, "caution") for note in cautions_of(evaluation)]
    probe = evaluation.get("shortcut_probe")
    return [*parts, _probe(probe)] if probe else parts


def _verdict_counts(evaluation: Mapping[str, Any]) -> str:
    """Return the verdicts on the class, in the words of those on benign or malignant."""
    counts = " / ".join(f"{evaluation['verdicts'][name]:,}" for name in VERDICTS)
    return f"{OF_CLASS}, accepted / review / refused: {counts}."


def _tiles(evaluation: Mapping[str, Any]) -> str:
    shown = ("accuracy", "balanced_accuracy", "silent_error_rate", "accepted_share")
    coarse = evaluation.get("coarse")
    tiles = _coarse_tiles(coarse) if coarse else []
    of_class = f"{OF_CLASS}: " if coarse else ""
    tiles += [
        tile(
            f"{value:.3f}",
            f"{of_class}{METRIC_NAMES[key]}",
            f"95 % interval {_shown(evaluation, key)}",
            beside(evaluation, key),
        )
        for key in shown
        if (value := evaluation.get(key)) is not None
    ]
    units, unit = evaluation["units"], evaluation["interval_unit"]
    what = "No groups are known: images count as if each came from another slide."
    if unit != "image":
        verb = "bears" if units == 1 else "bear"
        what = f"{how_many(units, unit)} {verb} every interval."
    tiles.append(tile(f"{evaluation['n']:,}", counted(evaluation), what))
    return tiles_in_rows(*tiles)


def _coarse_tiles(coarse: Mapping[str, Any]) -> list[str]:
    """Return the tiles of the coarse answers, which stand before those of the class."""
    name = coarse_name(coarse["groups"])
    tiles = [tile(f"{coarse['accuracy']:.3f}", f"{name}: right")]
    if coarse["verdicts"]:
        share = coarse["verdicts"]["accepted"] / max(1, coarse["n"])
        silent = f"silent errors {coarse['silent_error_rate']:.1%}"
        tiles.append(tile(f"{share:.3f}", f"{name}: share accepted", silent))
    return tiles


def _coarse(coarse: Mapping[str, Any] | None) -> list[str]:
    if not coarse:
        return []
    groups = coarse["groups"]
    return [
        section(
            coarse_name(groups),
            *(paragraph(line) for line in coarse_lines(coarse)),
            confusion_table(coarse["confusion"], groups),
        )
    ]


def _interval(bounds: Sequence[float] | None) -> str:
    return "–" if bounds is None else " to ".join(ends(bounds[0], bounds[1]))


def _shown(evaluation: Mapping[str, Any], key: str) -> str:
    return shown_interval(evaluation, key).replace("–", " to ") or "–"


def _probe(probe: Mapping[str, Any]) -> str:
    if probe["name"] is None:
        return paragraph(f"No shortcut probe: {probe['reason']}", "muted")
    low, high = probe["interval"]
    sees = "sees no cell" if probe["blind_to_cells"] else "sees cells as colour only"
    return paragraph(
        f"For comparison: the {probe_words(probe['name'])} alone, which {sees}, gets a balanced accuracy "
        f"of {probe['balanced_accuracy']:.3f} ({low:.3f} to {high:.3f}) where chance is "
        f"{probe['chance']:.3f}.",
        "caution" if low > probe["chance"] else "good",
    )


def _unseen(unseen: Mapping[str, Any], groups: Sequence[str]) -> str:
    coarse = coarse_name(groups) if groups else "Class group"
    columns = {
        "value": "left out",
        "images": "images",
        "dropped": "related, dropped",
        "right": "right",
        "accepted_right": "accepted and right",
        "accepted_wrong": "accepted and wrong",
        "silent_error_rate": "silent errors",
        "coarse_accepted_right": f"{coarse}: accepted and right",
        "coarse_accepted_wrong": f"{coarse}: accepted and wrong",
    }
    rows = [
        (*(group.get(key) for key in columns), ", ".join(group["unnamed"]))
        for group in unseen["groups"]
    ]
    return section(
        f"Trained without one {unseen['column']} at a time",
        table([*columns.values(), "class that cannot be named"], rows),
        paragraph(
            f"Of {unseen['right']:,} right answers {unseen['accepted_right']:,} were accepted. A "
            f"model that refuses everything makes no silent error and helps nobody."
        ),
    )


def _verdicts(evaluation: Mapping[str, Any], images: JudgedImages | None) -> str:
    total, counts = sum(evaluation["verdicts"].values()), counted(evaluation)
    shown = {"accepted": "accepted", "review": "for review", "refused": "refused"}
    parts = [
        paragraph(_verdict_counts(evaluation)),
        table(
            ["verdict", counts, ""],
            [(shown.get(k, k), v, bar(v / total)) for k, v in evaluation["verdicts"].items()],
        ),
    ]
    if images is not None and images.decisions is not None:
        parts += _reasons(images, counts)
    return section(
        "Verdicts on the class, and why" if evaluation.get("coarse") else "Verdicts, and why",
        *parts,
    )


def _reasons(images: JudgedImages, counts: str) -> list[str]:
    """Return how often each reason stood against accepting an answer, with some of its images."""
    of_reason: dict[str, list[int]] = {}
    for place, decision in enumerate(images.decisions or ()):
        for reason in dict.fromkeys(decision.reasons) if decision.verdict != "accepted" else ():
            of_reason.setdefault(reason, []).append(place)
    if not of_reason:
        return []
    ordered = sorted(of_reason.items(), key=lambda pair: -len(pair[1]))
    most = len(ordered[0][1])
    rows = [(reason, len(places), bar(len(places) / most)) for reason, places in ordered]
    parts = [
        table(
            ["reason against accepting", counts, ""],
            rows,
            "An answer may have several reasons; accepted answers have none.",
        )
    ]
    frames, shown = [], set[int]()
    for reason, places in reversed(ordered):  # the rare ones first: they say more of an image
        fresh = [place for place in places if place not in shown]
        worst = images.at(fresh).worst_first()[:OF_A_REASON].tolist()
        chosen = [fresh[place] for place in worst]
        shown |= set(chosen)
        if chosen:
            title = f"{reason} ({len(places):,})"
            frames.append(grid(*images.at(chosen).cards(why=False), title=title))
    return [*parts, paragraph("Some of them, each image once:", "muted"), grid(*frames[:REASONS])]


def _wrong(images: JudgedImages) -> str:
    wrong = int(images.wrong.sum())
    if not wrong:
        return section(
            "Wrong answers",
            paragraph(f"None of the {len(images):,} answers is wrong.", "good"),
            paragraph("The answers that were least sure of the right class:"),
            grid(*images.worst(OF_A_REASON).cards()),
        )
    silent = int((images.wrong & images.verdict_is("accepted")).sum())
    text = f"{wrong:,} of {len(images):,} answers are wrong."
    if images.decisions is not None:
        text += (
            f" {silent:,} of them {'was' if silent == 1 else 'were'} accepted: a silent error, which "
            f"nobody would have looked at (framed below)."
            if silent
            else " None of them was accepted: a person would have looked at each."
        )
    pairs = Counter(
        (images.classes[t], images.classes[p])
        for t, p in zip(images.truth[images.wrong], images.predicted[images.wrong], strict=True)
    )
    often = [
        f"{display_name(true)} answered as {display_name(answered)}: {count:,}"
        for (true, answered), count in pairs.most_common(5)
    ]
    shown = min(wrong, WORST)
    more = f"The {shown} worst:" if shown < wrong else ""
    parts = [paragraph(text), items(often)]
    return section(
        "Wrong answers",
        *parts,
        *([paragraph(more, "muted")] if more else []),
        grid(*images.worst(shown).cards()),
    )


def _classes(evaluation: Mapping[str, Any], names: Mapping[str, str]) -> str:
    shown = [names.get(name, name) for name in evaluation["classes"]]
    bounds = evaluation.get("class_intervals", {})
    rows = []
    for name, row in evaluation["per_class"].items():
        limits = bounds.get(name, {})
        recall = row["recall"]
        rows.append(
            (
                names.get(name, name),
                row["support"],
                recall,
                _interval(limits.get("recall")),
                ""
                if recall is None
                else bar(recall, interval=limits.get("recall", (recall, recall))),
                row["precision"],
                _interval(limits.get("precision")),
                row["f1"],
                _interval(limits.get("f1")),
            )
        )
    further = {
        "specificity": "specificity",
        "roc_auc": "area under ROC",
        "average_precision": "average precision",
        "sensitivity_at_specificity": "sensitivity at 95 % specificity",
        "set_coverage": "coverage of the sets",
    }
    rest = [
        (names.get(name, name), *(row.get(key) for key in further))
        for name, row in evaluation["per_class"].items()
    ]
    return section(
        "Classes",
        confusion_table(evaluation["confusion"], shown),
        table(
            [
                "class",
                counted(evaluation),
                "recall",
                "95 % interval",
                "",
                "precision",
                "95 % interval",
                "F1",
                "95 % interval",
            ],
            rows,
            "Recall (sensitivity): of what is of the class, the share answered so. Precision: of what is "
            "answered so, the share that is of the class. F1: both in one. The line on a bar: its interval.",
        ),
        table(
            ["class against all others", *further.values()],
            rest,
        ),
    )


def _plots(evaluation: Mapping[str, Any], names: Mapping[str, str]) -> str:
    curves = evaluation["curves"]
    made = [
        (
            plots.reliability_figure(curves["reliability"], evaluation["ece"]),
            "Where the line lies below the dashed one, answers are surer than they are right.",
        ),
        (
            plots.risk_figure(curves["risk_coverage"]),
            "The share of errors when only the surest answers are given. Flat and low at the left: the "
            "model knows what it does not know.",
        ),
        (
            plots.roc_figure(curves, names),
            "Each class against all others; the further up and left, the better. Curves that coincide "
            "lie on one another, thinner on wider.",
        ),
        (
            plots.precision_recall_figure(curves, names),
            "The same with precision, which falls where a class is rare; the further up and right, "
            "the better.",
        ),
    ]
    return section(
        "Plots",
        grid(
            *(
                picture(png(figure, transparent=True), caption, width=PLOT)
                for figure, caption in made
            )
        ),
    )


def _metrics(evaluation: Mapping[str, Any]) -> str:
    rows = [
        (
            name,
            evaluation[key],
            _shown(evaluation, key),
            beside(evaluation, key),
            MEANINGS[key],
        )
        for key, name in METRIC_NAMES.items()
        if evaluation.get(key) is not None
    ]
    unit = evaluation["interval_unit"]
    return section(
        "All metrics",
        table(
            ["metric", "value", "95 % interval", "", "what it says"],
            rows,
            f"{in_units(evaluation)}; intervals by resampling {unit}s. Every "
            f"{counted(evaluation)[:-1]} counts, whatever its verdict. {SAME_NAMES}",
        ),
    )


def _cases(cases: Mapping[str, Any]) -> str:
    return section(
        "Cases",
        paragraph(
            f"{cases['n']:,} cases, their fields combined: {cases['accuracy']:.3f} right; "
            + ", ".join(f"{count} {verdict}" for verdict, count in cases["verdicts"].items())
            + f"; {cases['silent_errors']} accepted and wrong."
        ),
    )


def _comparison(comparison: Mapping[str, Any]) -> str:
    intervals, exact = comparison["intervals"], comparison.get("exact", {})
    model, other = comparison.get("model", "this model"), comparison["with"]
    if model == other:  # two folders of one name
        model, other = f"{model} (this model)", f"{other} (the other one)"
    rows = []
    for name, value in comparison["differences"].items():
        if name in intervals:
            low, high = intervals[name]
            shown = METRIC_NAMES.get(name, name), f"{value:+.3f}", f"{low:+.3f} to {high:+.3f}"
            rows.append((*shown, exact.get(name, "")))
    return section(
        f"Compared with {comparison['with']}",
        paragraph(
            f"Right in {model} only: {comparison['only_second']}, in {other} only: "
            f"{comparison['only_first']}, of {comparison['n']} images. The differences are {model} minus "
            f"{other} on the same images, resampling the same {comparison['interval_unit']}s for both."
        ),
        table(["metric", "difference", "95 % interval", ""], rows),
    )
