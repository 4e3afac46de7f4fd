"""A model as a notebook shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allkit.evaluation.coarse import coarse_lines
from allkit.evaluation.intervals import interval_of
from allkit.evaluation.text import accuracy_sentence, cautions_of
from allkit.report.promise import sets_without_promise
from allkit.shown.html import (
    bar,
    fragment,
    grid,
    items,
    paragraph,
    picture,
    table,
    tile,
    tiles_in_rows,
)
from allkit.shown.text import how_many

__all__ = ["model_html"]

SHOWN = {"reliability.png": 384}
"""The pictures of a training that are shown, with the width in pixels in which they are drawn."""


def model_html(
    info: Mapping[str, Any],
    trust: str | Mapping[str, Any] | None = None,
    pictures: Mapping[str, bytes] | None = None,
) -> str:
    """Return what a notebook shows of a model: what it is, how good, when to accept its answers.

    `info` is the content of `model.json` (`model.info.model_dump(mode="json")`), `trust` what
    `Trust.summary` gives or the same in words, and `pictures` PNG by file name, as `Classifier.pictures`
    gives them: the calibration is shown where it is given.
    """
    backbone, data, validation = info["backbone"], info["data"], info["validation"]
    counts = {name: count for name, count in data["counts"].items() if count}
    total = sum(data["counts"].values())
    names = info["display_names"]
    tiles = [
        tile(
            backbone["name"],
            "backbone",
            f"{how_many(backbone['members'], 'member')}, {backbone['size']} pixels",
        ),
        tile(f"{total:,}", "images trained on", _groups(data)),
    ]
    cautions: list[str] = []
    if validation is not None:
        cautions = cautions_of(validation)
        low, high = interval_of(validation, "accuracy") or (0.0, 1.0)
        held = f"95 % interval {low:.3f} to {high:.3f}, held out from training"
        tiles.append(tile(f"{validation['accuracy']:.3f}", "accuracy", held))
    if data.get("drawn"):
        cautions.append("Trained on drawn images: nothing follows for real smears.")
    most = max(counts.values(), default=1)
    rows = [(names.get(name, name), count, bar(count / most)) for name, count in counts.items()]
    parts = [
        *(paragraph(text, "caution") for text in cautions),
        tiles_in_rows(*tiles),
        *(paragraph(line) for line in coarse_lines((validation or {}).get("coarse"))),
        paragraph(
            accuracy_sentence(validation)
            if validation is not None
            else "No figures: it was trained without a validation part."
        ),
        table(["class", "images trained on", ""], rows),
    ]
    lines = _trust_lines(trust, names)
    if lines or info["trust_notes"]:
        parts.append(items([*lines, *info["trust_notes"]]))
    given = pictures or {}
    shown = [picture(given[name], width=w) for name, w in SHOWN.items() if name in given]
    if shown:
        parts.append(grid(*shown))
    made = f"allkit {info['allkit']}, {info['created'][:10]}. Research use only; not a diagnosis."
    return fragment(*parts, paragraph(made, "muted"))


def _groups(data: Mapping[str, Any]) -> str:
    groups = len(data.get("groups_sha256") or ())
    return how_many(groups, "group") if groups else "no groups known"


def _trust_lines(trust: str | Mapping[str, Any] | None, names: Mapping[str, str]) -> list[str]:
    """Return when answers are accepted, in words."""
    if not trust:
        return []
    if isinstance(trust, str):
        return [line for line in trust.splitlines() if line.strip()]
    if trust.get("temperature") is None:
        return ["Not calibrated: every answer that is not refused is for review."]
    promised = ", ".join(names.get(name, name) for name in trust["promised"])
    lines = [
        f"Calibrated: prediction sets hold the true class in {trust['coverage']:.0%} of the images "
        f"of {promised}, as long as slides are like those of the training."
        if promised
        else sets_without_promise(trust["coverage"]),
        f"An answer below a probability of {trust['confidence']:.2f} is for review.",
    ]
    if not trust.get("familiarity"):
        lines.append(
            "It does not know which slides it was trained on, so no unlike image is refused."
        )
    return lines
