"""The evaluation of a model as one page for a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from allkit.evaluation.coarse import coarse_lines, coarse_name
from allkit.evaluation.intervals import beside, ends, interval_of
from allkit.evaluation.text import counted
from allkit.report.pictures import confusion_matrix, curves_picture, reliability_picture
from allkit.shown.html import bar, page, paragraph, picture, section, table

__all__ = ["METRIC_NAMES", "evaluation_page"]

METRIC_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_specificity": "macro specificity",
    "macro_roc_auc": "area under ROC, mean over classes",
    "macro_average_precision": "average precision, mean over classes",
    "malignant_roc_auc": "malignant against Benign: area under ROC",
    "malignant_average_precision": "malignant against Benign: average precision",
    "malignant_sensitivity_at_specificity": "malignant: sensitivity at 95 % specificity",
    "ece": "calibration error (ECE, adaptive bins)",
    "classwise_ece": "calibration error, mean over classes",
    "brier": "Brier score",
    "log_loss": "log loss",
    "area_risk_coverage": "area under risk–coverage",
    "accepted_share": "share accepted",
    "accepted_accuracy": "accuracy of the accepted",
    "silent_error_rate": "silent errors (accepted and wrong)",
    "set_coverage": "prediction sets that hold the true class",
    "set_size": "mean size of the prediction sets",
    "empty_sets": "empty prediction sets",
}
"""Names of the metrics as they are shown."""


def evaluation_page(
    evaluation: Mapping[str, Any],
    *,
    title: str,
    lead: str,
    names: Mapping[str, str],
    comparison: Mapping[str, Any] | None = None,
) -> str:
    """Return the page; `evaluation` is that of `Evaluation.to_dict`, `names` what is shown for classes."""
    parts = [paragraph(note, "caution") for note in evaluation["notes"]]
    probe = evaluation.get("shortcut_probe")
    if probe:
        parts.append(_probe(probe))
    unit, counts = evaluation["interval_unit"], counted(evaluation)
    fields = f" of {evaluation['fields']:,} fields" if "by" in evaluation else ""
    rows = [
        (name, evaluation[key], _interval(interval_of(evaluation, key)), beside(evaluation, key))
        for key, name in METRIC_NAMES.items()
        if evaluation.get(key) is not None
    ]
    sections = [
        *_coarse(evaluation.get("coarse")),
        section(
            "Metrics",
            *parts,
            table(["metric", "value", "95 % interval", ""], rows),
            paragraph(
                f"{evaluation['n']:,} {counts}{fields} in {evaluation['units']:,} {unit}s; intervals "
                f"by resampling {unit}s. Every {counts[:-1]} counts, whatever its verdict.",
                "muted",
            ),
        ),
    ]
    if evaluation.get("leave_one_group_out"):
        sections.append(_unseen(evaluation["leave_one_group_out"]))
    if evaluation["verdicts"]:
        total = sum(evaluation["verdicts"].values())
        sections.append(
            section(
                "Verdicts",
                table(
                    ["verdict", counts, ""],
                    [(k, v, bar(v / total)) for k, v in evaluation["verdicts"].items()],
                ),
            )
        )
    sections += [_classes(evaluation, names), _plots(evaluation, names)]
    if evaluation.get("cases"):
        sections.append(_cases(evaluation["cases"]))
    if comparison:
        sections.append(_comparison(comparison))
    return page(title, lead, sections)


def _coarse(coarse: Mapping[str, Any] | None) -> list[str]:
    if not coarse:
        return []
    groups = coarse["groups"]
    return [
        section(
            coarse_name(groups),
            *(paragraph(line) for line in coarse_lines(coarse)),
            table(
                ["true group", *(f"answered {name}" for name in groups)],
                [(name, *row) for name, row in zip(groups, coarse["confusion"], strict=True)],
            ),
        )
    ]


def _interval(bounds: Sequence[float] | None) -> str:
    return "–" if bounds is None else " to ".join(ends(bounds[0], bounds[1]))


def _probe(probe: Mapping[str, Any]) -> str:
    if probe["name"] is None:
        return paragraph(f"No shortcut probe: {probe['reason']}", "muted")
    low, high = probe["interval"]
    return paragraph(
        f"Strongest shortcut probe: {probe['name'].replace('_', ' ')} alone has a balanced "
        f"accuracy of {probe['balanced_accuracy']:.3f} ({low:.3f} to {high:.3f}; chance "
        f"{probe['chance']:.3f})"
        + (", without seeing a single cell." if probe["blind_to_cells"] else "."),
        "caution" if low > probe["chance"] else "good",
    )


def _unseen(unseen: Mapping[str, Any]) -> str:
    columns = {
        "value": "left out",
        "images": "images",
        "dropped": "related, dropped",
        "right": "right",
        "accepted_right": "accepted and right",
        "accepted_wrong": "accepted and wrong",
        "silent_error_rate": "silent errors",
        "coarse_accepted_right": "group accepted and right",
        "coarse_accepted_wrong": "group accepted and wrong",
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


def _classes(evaluation: Mapping[str, Any], names: Mapping[str, str]) -> str:
    keys = {
        "precision": "precision",
        "recall": "recall (sensitivity)",
        "specificity": "specificity",
        "f1": "F1",
        "roc_auc": "ROC area",
        "average_precision": "average precision",
        "sensitivity_at_specificity": "sensitivity at 95 % specificity",
        "set_coverage": "coverage of the sets",
        "support": counted(evaluation),
    }
    bounds, limits = evaluation.get("class_intervals", {}), ("precision", "recall", "f1")
    rows, intervals = [], []
    for name, row in evaluation["per_class"].items():
        shown = names.get(name, name)
        rows.append((shown, *(row.get(key) for key in keys)))
        intervals.append((shown, *(_interval(bounds.get(name, {}).get(key)) for key in limits)))
    parts = [table(["class", *keys.values()], rows)]
    if bounds:
        parts.append(table(["95 % interval of", *(keys[key] for key in limits)], intervals))
    return section("Classes", *parts)


def _plots(evaluation: Mapping[str, Any], names: Mapping[str, str]) -> str:
    shown = [names.get(name, name) for name in evaluation["classes"]]
    return section(
        "Plots",
        picture(confusion_matrix(evaluation["confusion"], shown, "Confusion"), width=430),
        picture(
            reliability_picture(evaluation["curves"]["reliability"], evaluation["ece"]), width=400
        ),
        picture(curves_picture(evaluation["curves"], names), width=1000),
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
    rows = []
    for name, value in comparison["differences"].items():
        if name in intervals:
            low, high = intervals[name]
            shown = METRIC_NAMES.get(name, name), f"{value:+.3f}", f"{low:+.3f} to {high:+.3f}"
            rows.append((*shown, exact.get(name, "")))
    return section(
        f"Compared with {comparison['with']}",
        paragraph(
            f"This model minus the other, on the same images, resampling the same "
            f"{comparison['interval_unit']}s for both. Only this model is right on "
            f"{comparison['only_second']} images, only the other one on {comparison['only_first']}."
        ),
        table(["metric", "difference", "95 % interval", ""], rows),
    )
