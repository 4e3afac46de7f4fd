"""The model card: what a model is for, what it was made of, and what its metrics are worth."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

from allkit.evaluation.coarse import VERDICTS, coarse_lines
from allkit.evaluation.intervals import with_words
from allkit.evaluation.probe_words import probe_words
from allkit.evaluation.text import OF_CLASS, cautions_of
from allkit.records import Reference
from allkit.report.checklist import NOT_RUN, RUN, checklist, shown_to
from allkit.report.promise import sets_without_promise
from allkit.shown.text import how_many, one_line, printable

__all__ = ["judged_card", "model_card"]

MEASURED = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_roc_auc": "area under ROC, mean",
    "malignant_sensitivity_at_specificity": "malignant: sensitivity at 95 % specificity",
    "ece": "calibration error (ECE)",
    "brier": "Brier score",
    "log_loss": "log loss",
}
JUDGED = MEASURED | {
    "set_coverage": "prediction sets that hold the true class",
    "accepted_share": "share accepted",
    "accepted_accuracy": "accuracy of the accepted",
    "silent_error_rate": "silent errors (accepted and wrong)",
}


def model_card(info: Mapping[str, Any], trust: Mapping[str, Any] | None = None) -> str:
    """Return the README.md of a model folder, from the content of its `model.json`.

    `trust` is what `Trust.summary` gives.
    """
    trust = trust or {"temperature": None, "familiarity": {}}
    names = {name: _plain(shown) for name, shown in info["display_names"].items()}
    info = {**info, "display_names": names}
    data, backbone, config = info["data"], info["backbone"], info["config"]
    counts = ", ".join(f"{names[c]} {data['counts'].get(c, 0):,}" for c in info["classes"])
    parts = [
        f"# {backbone['name']} classifier of {', '.join(names[c] for c in info['classes'])}",
        "Research use only. **Not a diagnosis, not a medical device.** An answer is a hint for a "
        "person who looks at the smear; subtypes of acute lymphoblastic leukaemia are defined by "
        "immunophenotype and genetics, not by a picture.",
        "## What it is for, and what not",
        "For research on one field of a stained blood smear at a time, with a person who looks at "
        "the same field. Not for deciding about a patient, not for screening, not for slides "
        "whose answers are `review` or `refused`, and not for other diseases: it can name only "
        "its own classes.",
        "## What it answers",
        f"One probability per class: {', '.join(names[c] for c in info['classes'])}; the classes "
        f"that cannot be ruled out; and a verdict, `accepted`, `review` or `refused`, with reasons.",
        _trust(info, trust),
        "## What it was trained on",
        (
            "**Drawn images** made by a program, for trying things out: nothing follows for real "
            "smears.\n\n"
            if data["drawn"]
            else ""
        )
        + f"{sum(data['counts'].values()):,} images: {counts}. "
        f"Fingerprint of the set `{data['fingerprint'][:16]}…`; `model.json` holds the hash of "
        f"every image, so that test images which were trained on are recognised.",
        "Known problems of such sets: images of one slide are not independent, and differences "
        "between slides (stain, light, scale bar) can reveal the class. `allkit audit` measures "
        "how far; `allkit check` finds images that occur twice.",
        _protocol(info),
        *_adapted(info),
        *_student(info),
        *_own(info),
        _not_measured(info),
        "## How it works",
        f"Backbone `{backbone['name']}`{_settings(backbone.get('settings'))} "
        f"from {backbone['distribution']} {backbone['version']} "
        f"(weights: {'random' if config['weights'] == 'none' else backbone['license']}; "
        f"SHA-256 `{backbone['weights_sha256'][:16]}…`), "
        f"{_trained(info)}; "
        f"{backbone['width']} features of {shown_to(backbone)}{_view(backbone['view'])}; "
        f"{backbone['members']} linear head"
        f"{'' if backbone['members'] == 1 else 's, averaged'}. "
        f"Augmentation: {', '.join(map(_part, config['augment'])) or 'none'}, {config['copies']} augmented "
        f"cop{'y' if config['copies'] == 1 else 'ies'} of each training image. Seed {config['seed']}.",
        "## Made with",
        f"allkit {info['allkit']} on {info['created']}; "
        + ", ".join(f"{name} {version}" for name, version in info["versions"].items())
        + ". Plugins: "
        + ", ".join(f"{name} {version}" for name, version in info["plugins"].items())
        + ".",
        checklist(info, trust),
    ]
    return printable("\n\n".join(parts)) + "\n"


def _plain(text: str) -> str:
    """Return a name so that Markdown finds no markup in it."""
    return html.escape(one_line(text), quote=False).replace("|", "&#124;")


def _adapted(info: Mapping[str, Any]) -> list[str]:
    """Return what was changed after the training, oldest first; empty if nothing was."""
    parts = []
    for record in info.get("adaptations", ()):
        kind = "labelled fields" if record["labelled"] else "fields without labels"
        counts = ", ".join(f"{name} {count}" for name, count in record["counts"].items() if count)
        parts.append(
            f"On {record['created'][:10]} with {record['images']} {kind}"
            f"{f' ({counts})' if counts else ''}; the head: {record['strength']}. "
            f"**{record['claim'].capitalize()}.** {record['message']}"
        )
        if record["before"]:
            rows = [
                f"| {name.replace('_', ' ')} | {_number(value)} | {_number(record['after'].get(name))} |"
                for name, value in record["before"].items()
            ]
            table = "\n".join(["| metric | before | after |", "|---|---|---|", *rows])
            parts += [f"{record['judged']} fields. {record['protocol']}", table]
    if parts:
        parts.insert(0, "## Adapted to a laboratory")
        parts.append("The metrics of the validation above are those before the adaptation.")
    return parts


def _student(info: Mapping[str, Any]) -> list[str]:
    """Return whose student the model is, and what it loses; empty if it is none."""
    record = info.get("distillation")
    if not record:
        return []
    parts = [
        "## A student",
        f"Its head learnt the answers of another model (`{record['backbone']}`, content hash "
        f"`{record['teacher']}`) on the training images and augmented copies, in place of the labels. "
        f"Verdicts, calibration and limits are its own, by the labels.",
    ]
    for key, where in (
        ("known", "On further images of known slides, of which neither had learnt"),
        ("left_out", f"On {record['slides']} slides, left out of the trainings of both"),
    ):
        if record[key]:
            rows = [
                f"| {info['display_names'].get(row['name'], row['name'])} | {row['images']:,} | "
                + " | ".join(
                    f"{teacher:,} → {student:,}"
                    for teacher, student in zip(row["teacher"], row["student"], strict=True)
                )
                + " |"
                for row in record[key]
            ]
            parts += [f"{where}; teacher → student:", "\n".join([STUDENT_TABLE, *rows])]
    return [*parts, *(f"**{note}**" for note in record["notes"])]


STUDENT_TABLE = (
    "| class | images | right | accepted rightly | wrongly | class group right | it accepted rightly | "
    "wrongly |\n|---|---|---|---|---|---|---|---|"
)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def judged_card(card: str, name: str, evaluation: Mapping[str, Any]) -> str:
    """Return a card with the metrics of an evaluation on the set `name`, in place of older ones.

    `evaluation` is that of `Evaluation.to_dict`, also of `Unseen.to_dict`.
    """
    left_out = evaluation.get("leave_one_group_out")
    title = f"Trained without one {left_out['column']} at a time" if left_out else "Judged"
    heading = f"## {title}: {name}"
    begin = card.find(heading + "\n")
    if begin >= 0:
        end = card.find("\n## ", begin + len(heading))
        card = card[:begin] + (card[end + 1 :] if end >= 0 else "")
    if left_out:
        card = card.replace(NOT_RUN, RUN)
    section = "\n\n".join([heading, *_judged(evaluation, left_out)])
    place = card.find("## How it works")
    place = len(card) if place < 0 else place
    return f"{card[:place].rstrip()}\n\n{section}\n\n{card[place:]}".rstrip() + "\n"


def _judged(evaluation: Mapping[str, Any], left_out: Mapping[str, Any] | None) -> list[str]:
    parts = [
        f"{how_many(evaluation['n'], evaluation.get('by', 'image'))}; 95 % intervals by resampling "
        f"{evaluation['interval_unit']}s.",
        *(f"**{note}**" for note in cautions_of(evaluation)),
    ]
    parts += _coarse(evaluation)
    if evaluation["verdicts"]:
        counts = " / ".join(f"{evaluation['verdicts'][v]:,}" for v in VERDICTS)
        parts.append(f"{OF_CLASS}, accepted / review / refused: {counts}.")
    probe = evaluation.get("shortcut_probe")
    if probe and probe["name"]:
        low, high = probe["interval"]
        parts.append(
            f"**Shortcut.** The {probe_words(probe['name'])} alone, judged in the same way, has a "
            f"balanced accuracy of {probe['balanced_accuracy']:.3f} ({low:.3f}–{high:.3f}); chance "
            f"is {probe['chance']:.3f}."
        )
    parts.append(_table(evaluation, JUDGED))
    if left_out:
        rows = [
            f"| {_plain(str(group['value']))} | {group['images']} | {group['dropped']} | {group['right']} | "
            f"{group['accepted_right']} | {group['accepted_wrong']} |"
            for group in left_out["groups"]
        ]
        parts.append(
            "| left out | images | related, dropped | right | accepted and right | accepted and "
            "wrong |\n|---|---|---|---|---|---|\n" + "\n".join(rows)
        )
    return parts


def _coarse(evaluation: Mapping[str, Any]) -> list[str]:
    """Return the coarse answers in words; empty where the classes are in no groups."""
    lines = coarse_lines(evaluation.get("coarse"))
    return (
        [" ".join(f"**{line}**" if not n else line for n, line in enumerate(lines))]
        if lines
        else []
    )


def _table(evaluation: Mapping[str, Any], names: Mapping[str, str]) -> str:
    rows = []
    for key, label in names.items():
        shown = with_words(evaluation, key)
        if evaluation.get(key) is not None and shown is not None:
            rows.append(f"| {label} | {evaluation[key]:.3f} | {shown} |")
    return "| metric | value | interval |\n|---|---|---|\n" + "\n".join(rows)


def _part(name: str | Mapping[str, Any]) -> str:
    """Return a part as the settings name it, in code where it has settings of its own."""
    return name if isinstance(name, str) else f"`{Reference.of(name).text}`"


def _settings(values: Mapping[str, Any] | None) -> str:
    told = ", ".join(f"{name} = {value}" for name, value in (values or {}).items())
    return f" ({printable(told)})" if told else ""


def _view(name: str) -> str:
    """Return how a network sees an image, as the end of a phrase; of a plugin's view its name in full."""
    return VIEWS.get(name, f", seen as `{printable(name)}`")


VIEWS = {
    "rgb": "",
    "masked": ", shown without the corner of the scale bar",
    "normalised": ", shown as optical densities on the image's own scale",
    "haematoxylin": ", shown as the density of the nuclear stain without colour",
    "eosin": ", shown as the density of eosin without colour",
    "saturation": ", shown as the strength of its colours",
}


def _trained(info: Mapping[str, Any]) -> str:
    """Say which part of the backbone was trained, and how it looks at an image."""
    stages = tuple(info["backbone"]["trained"])
    how = "frozen"
    if stages:
        part = "all stages" if stages == ("all",) else ", ".join(stages)
        adapters = " through low-rank adapters" if info["config"]["strategy"] == "lora" else ""
        how = f"with {part} trained{adapters}"
    if info["backbone"]["orientations"]:
        how += ", its features averaged over the eight orientations of the image"
    return how


def _protocol(info: Mapping[str, Any]) -> str:
    evaluation = info["validation"]
    if evaluation is None:
        return "## Metrics\n\nNone: it was trained without a validation part."
    classes = [
        f"| {info['display_names'][name]} | {_show(v['precision'])} | {_show(v['recall'])} | "
        f"{_show(v['f1'])} | {v['support']} | {_recall(evaluation, name)} |"
        for name, v in evaluation["per_class"].items()
    ]
    notes = "".join(f"\n\n**{note}**" for note in cautions_of(evaluation))
    folds = [
        f"| {number} | {fold['n']} | {fold['accuracy']:.3f} | {fold['ece']:.3f} | "
        f"{fold['brier']:.3f} | {fold['log_loss']:.3f} |"
        for number, fold in enumerate(evaluation.get("folds", ()), start=1)
    ]
    each = (
        "\n\n| fold | images | accuracy | calibration error | Brier score | log loss |\n"
        "|---|---|---|---|---|---|\n" + "\n".join(folds)
        if folds
        else ""
    )
    return (
        f"## Metrics\n\n{evaluation['protocol']}: {how_many(evaluation['n'], 'image')}, 95 % intervals by "
        f"resampling {evaluation['interval_unit']}s.{notes}\n\n"
        + "".join(f"{line}\n\n" for line in _coarse(evaluation))
        + _table(evaluation, MEASURED)
        + "\n\n"
        "| class | precision | recall | F1 | images | recall, 95 % interval |\n"
        "|---|---|---|---|---|---|\n" + "\n".join(classes) + each
    )


def _recall(evaluation: Mapping[str, Any], name: str) -> str:
    bounds = evaluation.get("class_intervals", {}).get(name, {}).get("recall")
    return "–" if bounds is None else f"{bounds[0]:.3f}–{bounds[1]:.3f}"


def _show(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _trust(info: Mapping[str, Any], trust: Mapping[str, Any]) -> str:
    lines = []
    if trust["temperature"] is None:
        lines.append(
            "The probabilities are **not calibrated**: every answer that is not refused carries "
            "the verdict `review`."
        )
    else:
        promised = ", ".join(info["display_names"][name] for name in trust["promised"])
        sets = (
            f"Prediction sets hold the true class in {trust['coverage']:.0%} of the images of each class "
            f"({promised}), as long as slides are like those of the training."
            if promised
            else sets_without_promise(trust["coverage"])
        )
        lines.append(
            f"Calibrated on held-out images: temperature {trust['temperature']:.2f}, times "
            f"{math.exp(trust['softening']):.2f} for each unit of the OOD score (by the network's "
            f"features). {sets} Answers below a probability of {trust['confidence']:.2f} are for review."
        )
    for name, words in (
        ("appearance", "stain, light, sharpness and size of the cells"),
        ("content", "the network's features"),
    ):
        space = trust["familiarity"].get(name)
        if space:
            lines.append(
                f"Out-of-distribution (OOD) detection by {words}: {space['references']:,} training "
                f"images in {space['dimensions']} dimensions; an image farther than "
                f"{space['foreign']:.1f} from all of them is refused as no known smear."
            )
    slides = trust.get("slides")
    if slides:
        sides = " or ".join(slides["groups"])
        limits = ", ".join(
            f"{name} above {of['limit']:.1f}" for name, of in slides["groups"].items()
        )
        lines.append(
            f"On a slide that is not recognised as one of the training only {sides} is accepted, "
            f"by its log-odds: {limits}; never below a probability of 0.9. "
            f"What the network's features say is farther from the training than nearly all fields of known "
            f"slides is not accepted at all; the limit of a side with one class is stricter."
        )
    elif trust["familiarity"]:
        lines.append(
            f"A slide is unfamiliar when its OOD score, the sum of these parts, is above "
            f"{trust['familiar']:.1f}; 0 is usual."
        )
    if not trust["familiarity"]:
        lines.append("It has no data for OOD detection: it does not notice an unfamiliar slide.")
    lines += [f"**{note}**" for note in info.get("trust_notes", ())]
    return "\n\n".join(lines)


def _own(info: Mapping[str, Any]) -> list[str]:
    """Name the parts of a training that its maker gave as objects: no folder holds their code."""
    parts = info.get("own") or ()
    if not parts:
        return []
    return [
        f"Trained with parts of its maker's own: {', '.join(_plain(part) for part in parts)}. They are not "
        f"in this folder."
    ]


def _not_measured(info: Mapping[str, Any]) -> str:
    return (
        "**Unseen slides.** The metrics above are of slides that have other images in the "
        "training. A training does not measure how the model does on unseen slides, stains, "
        "microscopes and hospitals, where published systems for this task fail: "
        "`allkit evaluate MODEL DATA --leave-one-group-out COLUMN --card` measures it and writes it "
        "here.\n\n"
        "**Shortcuts.** A training does not measure how well a classifier does that sees no cell: "
        "`allkit evaluate MODEL DATA --card` writes it here, `allkit audit DATA --model MODEL` shows "
        "more."
    )
