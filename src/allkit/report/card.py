"""The model card: what a model is for, what it was made of, and what its figures are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["model_card"]


def model_card(info: Mapping[str, Any]) -> str:
    """Return the README.md of a model folder, from the content of its `model.json`."""
    names = info["display_names"]
    data, backbone, config = info["data"], info["backbone"], info["config"]
    counts = ", ".join(f"{names[c]} {data['counts'].get(c, 0):,}" for c in info["classes"])
    parts = [
        f"# {backbone['name']} classifier of {', '.join(names[c] for c in info['classes'])}",
        "Research use only. **Not a diagnosis, not a medical device.** An answer is a hint for a "
        "person who looks at the smear; subtypes of acute lymphoblastic leukaemia are defined by "
        "immunophenotype and genetics, not by a picture.",
        "## What it answers",
        f"For one field of a stained blood smear, one probability per class: "
        f"{', '.join(names[c] for c in info['classes'])}. The probabilities are **not "
        f"calibrated**, so every answer carries the verdict `review`. Nothing is known about how "
        f"it does on slides, stainings, microscopes and hospitals other than those it was "
        f"trained on; published systems for this task fail there.",
        "## What it was trained on",
        (
            "**Drawn images** made by a program, for trying things out: nothing follows for real "
            "smears.\n\n"
            if data["drawn"]
            else ""
        )
        + f"{sum(data['counts'].values()):,} images: {counts}. "
        f"Fingerprint of the set `{data['fingerprint'][:16]}…`; `model.json` holds the hash of "
        f"every image, so that a test image which was trained on can be told.",
        _protocol(info),
        "## How it works",
        f"Backbone `{backbone['name']}` from {backbone['distribution']} {backbone['version']} "
        f"(weights: {backbone['license']}; SHA-256 `{backbone['weights_sha256'][:16]}…`), {_trained(info)}; "
        f"{backbone['width']} features of the whole field resized to {backbone['size']} × "
        f"{backbone['size']}; {backbone['members']} linear head"
        f"{'' if backbone['members'] == 1 else 's, averaged'}. "
        f"Augmentation: {', '.join(config['augment']) or 'none'}, {config['copies']} augmented "
        f"cop{'y' if config['copies'] == 1 else 'ies'} of each training image. Seed {config['seed']}.",
        "## Made with",
        f"allkit {info['allkit']} on {info['created']}; "
        + ", ".join(f"{name} {version}" for name, version in info["versions"].items())
        + ". Plugins: "
        + ", ".join(f"{name} {version}" for name, version in info["plugins"].items())
        + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _trained(info: Mapping[str, Any]) -> str:
    """Say which part of the backbone was trained, and how it looks at an image."""
    stages = info["backbone"].get("trained") or ()
    how = "frozen"
    if stages:
        part = "the whole of it" if tuple(stages) == ("all",) else ", ".join(stages)
        adapters = " through low-rank adapters" if info["config"]["strategy"] == "lora" else ""
        how = f"with {part} trained{adapters}"
    if info["backbone"].get("orientations"):
        how += ", its features averaged over the eight orientations of the image"
    return how


def _protocol(info: Mapping[str, Any]) -> str:
    figures = info["validation"]
    if figures is None:
        return "## Figures\n\nNone: it was trained without a validation part."
    intervals = figures["intervals"]
    rows = [
        f"| {label} | {figures[key]:.3f} | {intervals[key][0]:.3f}–{intervals[key][1]:.3f} |"
        for key, label in [
            ("accuracy", "accuracy"),
            ("balanced_accuracy", "balanced accuracy"),
            ("macro_f1", "macro F1"),
        ]
    ]
    classes = [
        f"| {info['display_names'][name]} | {_show(v['precision'])} | {_show(v['recall'])} | "
        f"{_show(v['f1'])} | {v['support']} |"
        for name, v in figures["per_class"].items()
    ]
    notes = "".join(f"\n\n**{note}**" for note in figures["notes"])
    return (
        f"## Figures\n\n{figures['protocol']}: {figures['n']:,} images, 95 % intervals by "
        f"resampling {figures['interval_unit']}s.{notes}\n\n"
        "| figure | value | interval |\n|---|---|---|\n" + "\n".join(rows) + "\n\n"
        "| class | precision | recall | F1 | images |\n|---|---|---|---|---|\n" + "\n".join(classes)
    )


def _show(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
