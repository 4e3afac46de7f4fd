"""Right or silent on slides that were never seen? The nested protocol, in seven steps.

    python benchmarks/nested.py --data index.csv --backbone efficientnet-lite0 --out lite0.json
    python benchmarks/nested.py --data index.csv --only unseen pairs --set copies=0 --out copies.json
    python benchmarks/nested.py --data index.csv --inner --recipes "defaults" "no copies" --out choice.json

The table must have the column `slide`. All that is fitted or chosen in a training (limits of acceptance
too) is chosen by slides that the training itself leaves out, among its own images; the figures are on
slides that it never had. Images that share a group, a case or a field with a slide left out are in
no part.

`unseen`: every slide left out alone. `pairs`: every pair of one benign and one malignant slide left
out together. `curve`: one and two benign slides in training (every choice of them), one malignant slide
left out with the other benign ones. With three benign slides in the set, two in training are the
trainings of `pairs`, which then are not made again; all in training is what `unseen` says of malignant
slides. `recoloured`: 20 fields of each slide left out, given the stain and light of every other slide
(`colour_swap.py`), judged by the model of `unseen`. `draws`: the verdict on a slide from 1, 3, 5, 10, 20
of its fields, 1,000 draws from the answers of `unseen`. `known`: five folds by group, which
says nothing about new slides. `others`: folders of pictures of which nothing may be accepted.
`--compare` sets the errors at each coverage beside those of an earlier run.

Whatever judges a slide left out is written into `benchmarks/looks.csv` before it is shown.
`--inner` compares recipes without looking at outer slides, and shows only what the chosen ones are
worth there (`nested_choice.py`).
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

import looks
import numpy as np
import slide_draws
from colour_swap import given as recoloured_to
from colour_swap import stain_of
from left_out import (
    Answers,
    Parts,
    Protocol,
    bounds,
    coarse_of,
    counts,
    joined,
    over_slides,
    top_codes,
    without,
)
from nested_choice import RECIPES, SCORES, choose

import allkit
from allkit.config import TrainConfig
from allkit.config.files import override
from allkit.errors import DatasetError
from allkit.evaluation.judged import Judged
from allkit.evaluation.result import evaluate
from allkit.features import FeatureCache
from allkit.model.classifier import Classifier
from allkit.runtime.answers import answer

STEPS = ("unseen", "pairs", "curve", "recoloured", "draws", "known", "others")
FIELDS = 20  # of each slide, recoloured
STAINED = 40  # images from which the stain of a slide is read
Figures = dict[str, Any]


# ── the steps ───────────────────────────────────────────────────────────────────────────────────


def unseen(protocol: Protocol, steps: Sequence[str], draws: int) -> Figures:
    """Leave out every slide alone; recolour and draw from the answers where that is wanted."""
    step = "+".join(name for name in ("unseen", "draws") if name in steps) or "unseen"
    stains = _stains(protocol) if "recoloured" in steps else {}
    rows, drawn, recoloured, parts = {}, {}, {}, []
    for number, slide in enumerate(protocol.slides):
        division = without(protocol.data, [slide])
        model = protocol.train(division.train)
        judged, answers = protocol.look(model, division.test, [slide], step=step)
        parts.append(answers)
        rows[slide] = {
            "label": division.test.label_names[0],
            "images": len(answers),
            "dropped": division.dropped,
            "trained": len(division.train),
            "seen": bool(answers.seen.all()),
            **counts(answers),
            **top_codes(judged),
        }
        if "draws" in steps:
            drawn[slide] = slide_draws.of_slide(
                division.test,
                _predictions(model, division.test, judged),
                model.trust,
                benign=protocol.benign,
                count=draws,
                seed=(0, number),
            )
        if "recoloured" in steps:
            rng = np.random.default_rng([0, number])
            few = np.sort(rng.permutation(len(answers))[:FIELDS])
            before, images = answers.at(few), division.test.subset(few)
            recoloured[slide] = _recoloured(protocol, model, (images, before), stains)
    answers = joined(parts)
    figures = {
        "slides": rows,
        "summary": over_slides(answers),
        "bounds": bounds(answers),
        "risk": risk_coverage(answers),
        "answers": answers.columns(),
    }
    return {
        "unseen": figures,
        **({"draws": drawn} if drawn else {}),
        **({"recoloured": recoloured} if recoloured else {}),
    }


def _predictions(
    model: Classifier, images: allkit.Dataset, judged: Judged
) -> list[allkit.Prediction]:
    """Return judged images in the form of answers, which `allkit.combine` takes."""
    return [
        answer(sample.image, row, decision, model.trust.classes, groups=model.trust.groups)
        for sample, row, decision in zip(
            images, judged.probabilities, judged.decisions, strict=True
        )
    ]


def _stains(protocol: Protocol) -> dict[str, Any]:
    """Return stain and light of every slide."""
    rng, column = np.random.default_rng(0), np.array(protocol.data.column("slide"))
    stains = {}
    for slide in protocol.slides:
        rows = rng.permutation(np.flatnonzero(column == slide))[:STAINED]
        stains[slide] = stain_of([protocol.data.read(int(row)) for row in rows])
    return stains


def _recoloured(
    protocol: Protocol,
    model: Classifier,
    fields: tuple[allkit.Dataset, Answers],
    stains: dict[str, Any],
) -> Figures:
    """Return what another stain changes in the answers on fields of one slide, for each stain."""
    images, before = fields
    slide = str(before.slide[0])
    targets = [name for name in protocol.slides if name != slide]
    many = images.subset(np.tile(np.arange(len(images)), len(targets)))
    stain = np.repeat(targets, len(images))
    coloured = recoloured_to(many, stains, "slide", stain.tolist())
    answers = protocol.look(model, coloured, [slide], step="recoloured")[1]
    earlier = before.at(np.tile(np.arange(len(images)), len(targets)))
    changed = {
        "images": np.ones(len(answers), dtype=bool),
        "coarse answer changed": answers.coarse_malignant != earlier.coarse_malignant,
        "fine answer changed": answers.label != earlier.label,
        "coarse accepted": answers.coarse_accepted,
        "coarse accepted wrong": answers.coarse_accepted & ~answers.coarse_right,
        "fine accepted wrong": answers.accepted & ~answers.right,
        "leukaemia accepted as benign": answers.leukaemia_as_benign,
    }
    return {
        "to": {
            target: {name: int(hits[stain == target].sum()) for name, hits in changed.items()}
            for target in targets
        },
        "all": {name: int(hits.sum()) for name, hits in changed.items()},
    }


def of_pairs(
    protocol: Protocol, leave_out: Iterable[tuple[tuple[str, ...], str]], *, step: str
) -> Figures:
    """Leave out benign slides together with a malignant one; one row each, and mean and worst."""
    rows: Figures = {}
    untrainable: dict[str, str] = {}
    for benign, malignant in leave_out:
        slides = [*benign, malignant]
        division = without(protocol.data, slides)
        try:
            model = protocol.train(division.train)
        except DatasetError as error:  # too little of a class is left
            untrainable["+".join(slides)] = str(error)
            continue
        answers = protocol.look(model, division.test, slides, step=step)[1]
        rows["+".join(slides)] = _of_pair(answers, division)
    return {"rows": rows, "untrainable": untrainable, **_mean_and_worst(rows)}


def _of_pair(answers: Answers, division: Parts) -> Figures:
    sides = [answers.at(~answers.malignant), answers.at(answers.malignant)]
    recalls = [float(side.coarse_right.mean()) for side in sides]
    hits = [side.coarse_accepted & side.coarse_right for side in sides]
    misses = [side.coarse_accepted & ~side.coarse_right for side in sides]
    return {
        "images": [len(side) for side in sides],
        "dropped": division.dropped,
        "trained": len(division.train),
        "benign recall": recalls[0],
        "malignant recall": recalls[1],
        "balanced": mean(recalls),
        "coarse accepted right": mean(float(flags.mean()) for flags in hits),
        "coarse accepted wrong": mean(float(flags.mean()) for flags in misses),
        "fine accepted wrong": mean(float((side.accepted & ~side.right).mean()) for side in sides),
        "leukaemia accepted as benign": int(answers.leukaemia_as_benign.sum()),
    }


HIGHER_IS_BETTER = ("benign recall", "malignant recall", "balanced", "coarse accepted right")
LOWER_IS_BETTER = ("coarse accepted wrong", "fine accepted wrong", "leukaemia accepted as benign")


def _mean_and_worst(rows: Figures) -> Figures:
    if not rows:
        return {"mean": {}, "worst": {}}
    names = (*HIGHER_IS_BETTER, *LOWER_IS_BETTER)
    values = {name: [row[name] for row in rows.values()] for name in names}
    worst = {name: (min if name in HIGHER_IS_BETTER else max)(values[name]) for name in names}
    return {"mean": {name: mean(values[name]) for name in names}, "worst": worst}


def pairs(protocol: Protocol) -> Figures:
    """Leave out every pair of one benign and one malignant slide."""
    every = [((b,), m) for b in protocol.benign_slides for m in protocol.malignant_slides]
    return of_pairs(protocol, every, step="pairs")


def curve(protocol: Protocol, of_the_pairs: Figures | None) -> Figures:
    """Train with one and with two benign slides, in every choice of them."""
    benign, figures = protocol.benign_slides, {}
    for size in (1, 2):
        if size == len(benign) - 1 and of_the_pairs is not None:
            figures[str(size)] = of_the_pairs
        elif size < len(benign):
            out = [
                (tuple(b for b in benign if b not in inside), m)
                for inside in combinations(benign, size)
                for m in protocol.malignant_slides
            ]
            figures[str(size)] = of_pairs(protocol, out, step="curve")
    return figures


def known(protocol: Protocol) -> Figures:
    """Judge other images of slides that are in the training: five folds by group."""
    parts, tables, rows = [], [], []
    classes = protocol.data.classes
    position = {sample.image: row for row, sample in enumerate(protocol.data)}
    for split in protocol.data.folds(5, seed=0):
        model = protocol.train(split.train)
        judged, answers = protocol.judge(model, split.test)
        parts.append(answers)
        tables.append(judged.probabilities)
        rows += [position[sample.image] for sample in split.test]
    answers = joined(parts)
    evaluation = evaluate(
        protocol.data.labels[rows],
        np.concatenate(tables),
        classes,
        verdicts=answers.verdict.tolist(),
        units=protocol.data.units[rows],
    )
    return {
        "images": len(answers),
        "accuracy": [evaluation.accuracy, *evaluation.intervals["accuracy"]],
        "ece": evaluation.ece,
        "fine accepted": float(answers.accepted.mean()),
        "right of these": _share(answers.right, answers.accepted),
        "coarse accepted": float(answers.coarse_accepted.mean()),
        "coarse right of these": _share(answers.coarse_right, answers.coarse_accepted),
        "counts": counts(answers),
    }


def _share(hits: np.ndarray, among: np.ndarray) -> float | None:
    return float(hits[among].mean()) if among.any() else None


def others(protocol: Protocol, folders: Sequence[Path]) -> Figures:
    """Judge pictures that are no smears of these classes by the model of all images."""
    model, figures = protocol.train(protocol.data), {}
    for folder in folders:
        images = allkit.Dataset.unlabelled(folder)
        judged = model.judge(images, cache=protocol.cache)
        figures[folder.name] = {
            "images": len(images),
            "fine accepted": sum(decision.verdict == "accepted" for decision in judged.decisions),
            "coarse accepted": int((coarse_of(model, judged).verdict == "accepted").sum()),
            **top_codes(judged),
        }
    return figures


def risk_coverage(answers: Answers) -> dict[str, float]:
    """Return the share of wrong coarse answers among the most confident, by the share in per cent."""
    order = np.argsort(-answers.coarse_probability, kind="stable")
    wrong = ~answers.coarse_right[order]
    return {
        str(percent): float(wrong[: int(np.ceil(percent * len(wrong) / 100))].mean())
        for percent in range(10, 101, 10)
    }


# ── the command ─────────────────────────────────────────────────────────────────────────────────


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a table with the column slide")
    parser.add_argument("--benign", nargs="+", default=["Benign"], help="classes that are benign")
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--set", dest="changes", nargs="+", action="extend", default=[])
    parser.add_argument("--only", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--others", nargs="+", type=Path, help="folders of other pictures")
    parser.add_argument("--draws", type=int, default=slide_draws.DRAWS)
    parser.add_argument("--compare", type=Path, help="the --out of an earlier run")
    parser.add_argument("--inner", action="store_true", help="choose among recipes")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--score", default="right", choices=list(SCORES))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    if "others" in options.only and not options.others and not options.inner:
        if options.only != list(STEPS):
            parser.error("the step others needs folders: --others FOLDER")
        print("No --others FOLDER, so the step others is left out.")
        options.only = [step for step in STEPS if step != "others"]
    return options


def main(arguments: Sequence[str] | None = None, *, log: Path = looks.LOOKS) -> Figures:
    """Measure, print, and write the figures; `log` is another file only in tests."""
    from nested_text import text_of

    options = options_of(arguments)
    warnings.simplefilter("ignore")
    settings = {"backbone": options.backbone, "weights": options.weights}
    config = TrainConfig.parse(override(settings, options.changes), source="--set")
    data = allkit.Dataset.open(options.data)
    protocol = Protocol(data, config, options.benign, cache=FeatureCache(), log=log)
    figures: Figures = {
        "backbone": config.backbone,
        "configuration": looks.configuration(config),
        "commit": protocol.commit,
        "date": looks.now(),
        "images": len(data),
        "benign slides": protocol.benign_slides,
        "malignant slides": protocol.malignant_slides,
    }
    earlier = json.loads(options.compare.read_text()) if options.compare else None

    def show(more: Figures) -> None:
        figures.update(more)
        options.out.write_text(json.dumps(figures, indent=1) + "\n")
        print(text_of(more, earlier), flush=True)

    steps = options.only
    if options.inner:
        show({"inner": choose(protocol, options.recipes, options.score)})
        return figures
    if {"unseen", "recoloured", "draws"} & set(steps):
        show(unseen(protocol, steps, options.draws))
    if "pairs" in steps:
        show({"pairs": pairs(protocol)})
    if "curve" in steps:
        show({"curve": curve(protocol, figures.get("pairs"))})
    if "known" in steps:
        show({"known": known(protocol)})
    if "others" in steps:
        show({"others": others(protocol, options.others)})
    return figures


if __name__ == "__main__":
    main()
