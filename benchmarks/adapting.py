"""What adapting to a laboratory is worth, by slides that were left out of the training.

    python benchmarks/adapting.py --data index.csv --models FOLDER --out figures.json

The table must have the column `slide`. Images that share a group, a case or a field with a slide left
out are in no part of a training. Trained models are kept in FOLDER and taken from there the next time.

*unlabelled*, *labelled*: every pair of one benign and one malignant slide left out together, and the
model of the others adapted to them, with the defaults of `allkit adapt`.
Without labels: to a half of the fields of each slide, or to 20 fields of that half; judged on the
other half, and the other way round. With labels: to 5, 10 and 20 fields of each slide, no two of one
field, at most half of a slide; judged on the fields of which no image was drawn, the same ones for every
number. These are fields of slides that the model was adapted to: they say what a laboratory gets on slides it
labelled a few fields of, and nothing about its next slide. Where the class of the malignant slide has no
other slide the model does not know the label, and is not adapted with it.

*next*: two benign slides and a malignant one left out together; the model adapted with labels to the
first benign and the malignant one, and judged on the second benign slide, which it never saw. Every order.

Each figure is the mean over slides, with the worst slide, before and after on the same images. Whatever
judges a slide left out is written into `benchmarks/looks.csv` before it is shown.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import looks
import numpy as np
import numpy.typing as npt
from left_out import Answers, Parts, Protocol, counts, joined, over_slides, without
from slide_draws import clusters_of

import allkit
from allkit.adaptation.adapt import adapt
from allkit.config import TrainConfig
from allkit.config.files import override
from allkit.features import FeatureCache
from allkit.model.classifier import Classifier

Rows = npt.NDArray[np.int64]
Figures = dict[str, Any]
PARTS = ("unlabelled", "labelled", "next")
FIELDS = (5, 10, 20)
"""Labelled fields of each slide."""
FEW = 20
"""Fields without labels, where not half of a slide is shown."""
SHOWN = {
    "coarse right": "right",
    "coarse accepted right": "accepted rightly",
    "coarse accepted wrong": "accepted wrongly",
    "fine right": "class right",
    "fine accepted right": "class accepted rightly",
    "fine accepted wrong, class seen": "class accepted wrongly, seen",
    "fine accepted wrong, class never seen": "class accepted wrongly, never seen",
}
"""The figures of the printed table, and what they are called there."""


class Bench:
    """A set, and the models that were trained without some of its slides."""

    def __init__(self, protocol: Protocol, models: Path) -> None:
        self.protocol, self.models = protocol, models
        # Searched for once: parts of the set keep what was measured on it.
        _ = protocol.data.fields

    def train(self, left_out: Sequence[Sequence[str]]) -> None:
        """Train the models that are not there yet; nothing is judged by them."""
        for slides in left_out:
            folder, start = self.models / "+".join(slides), time.perf_counter()
            if not folder.exists():
                self.protocol.train(without(self.protocol.data, slides).train).save(folder)
                print(
                    f"trained without {folder.name}: {time.perf_counter() - start:.0f} s",
                    flush=True,
                )

    def left_out(self, slides: Sequence[str]) -> tuple[Classifier, Parts]:
        """Return the model that was trained without `slides`, and the division."""
        model = Classifier.load(self.models / "+".join(slides))
        return model, without(self.protocol.data, slides)

    def adapted(self, model: Classifier, images: allkit.Dataset, *, labels: bool) -> Classifier:
        """Return the model adapted with the defaults."""
        if not labels:
            bare = [replace(sample, label=None) for sample in images]
            images = allkit.Dataset(bare, (), measured=images.passes.measured)
        return adapt(model, images, cache=self.protocol.cache)

    def look(
        self, model: Classifier, images: allkit.Dataset, slides: Sequence[str], way: str
    ) -> Answers:
        """Judge images of slides left out; the log has it under `adapting: way`."""
        return self.protocol.look(model, images, slides, step=f"adapting: {way}")[1]


def halves(images: allkit.Dataset) -> tuple[Rows, Rows]:
    """Return two halves of the fields of each slide, what was acquired together in one of them.

    A slide of which one group is the larger part is divided by its fields.
    """
    slides, groups = images.slides, images.fields
    sides: tuple[list[int], list[int]] = ([], [])
    for slide in np.unique(slides):
        rows = np.flatnonzero(slides == slide)
        parts = [rows[groups[rows] == group] for group in np.unique(groups[rows])]
        if max(map(len, parts)) > 2 * len(rows) / 3:
            parts = [rows[cluster] for cluster in clusters_of(images.subset(rows))]
        taken = [0, 0]
        for part in sorted(parts, key=len, reverse=True):
            smaller = int(taken[1] < taken[0])
            sides[smaller].extend(part.tolist())
            taken[smaller] += len(part)
    first, second = (np.sort(np.array(side, dtype=np.int64)) for side in sides)
    return first, second


def labelled_fields(
    images: allkit.Dataset, rng: np.random.Generator
) -> tuple[dict[int, Rows], Rows]:
    """Return for each number of `FIELDS` so many fields of each slide, and the images to judge.

    The judged ones show none of the fields that were drawn.
    """
    slides = images.slides
    drawn: dict[int, list[int]] = {count: [] for count in FIELDS}
    touched: list[int] = []
    for slide in np.unique(slides):
        rows = np.flatnonzero(slides == slide)
        clusters = clusters_of(images.subset(rows))
        order = rng.permutation(len(clusters))[: min(max(FIELDS), len(clusters) // 2)]
        for count in FIELDS:
            drawn[count] += [int(rows[clusters[place][0]]) for place in order[:count]]
        touched += [int(row) for place in order for row in rows[clusters[place]]]
    rest = np.setdiff1d(np.arange(len(images)), touched)
    return {count: np.sort(np.array(rows)) for count, rows in drawn.items()}, rest


# ── the parts ───────────────────────────────────────────────────────────────────────────────────


def of_pairs(bench: Bench, *, labels: bool) -> Figures:
    """Adapt to every pair of a benign and a malignant slide that were left out together."""
    protocol = bench.protocol
    ways: dict[str, list[tuple[Answers, Answers]]] = {}
    pairs: Figures = {}
    every = list(itertools.product(protocol.benign_slides, protocol.malignant_slides))
    bench.train(every)
    for number, pair in enumerate(every):
        model, division = bench.left_out(pair)
        images = division.test
        if labels and not set(images.label_names) <= set(model.classes):
            continue
        before = bench.look(model, images, pair, "before")
        rng = np.random.default_rng([0, number])
        row: Figures = {}
        for way, parts in (_with_labels if labels else _without_labels)(images, rng).items():
            answers, strengths = [], []
            for rows, judged in parts:
                adapted = bench.adapted(model, images.subset(rows), labels=labels)
                strengths.append(adapted.info.adaptations[-1].strength)
                after = bench.look(adapted, images.subset(judged), pair, way)
                answers.append((before.at(judged), after))
            both = tuple(joined(side) for side in zip(*answers, strict=True))
            ways.setdefault(way, []).append((both[0], both[1]))
            row[way] = {"before": counts(both[0]), "after": counts(both[1]), "strength": strengths}
        pairs["+".join(pair)] = row
    return {"ways": dict(_compared(ways)), "pairs": pairs}


Divided = dict[str, list[tuple[Rows, Rows]]]
"""For each way the images that are shown, and those that are judged then."""


def _without_labels(images: allkit.Dataset, rng: np.random.Generator) -> Divided:
    first, second = halves(images)
    turns = [(first, second), (second, first)]
    few = [(rng.choice(shown, min(FEW, len(shown)), replace=False), rest) for shown, rest in turns]
    return {"without labels, half": turns, f"without labels, {FEW} fields": few}


def _with_labels(images: allkit.Dataset, rng: np.random.Generator) -> Divided:
    labelled, untouched = labelled_fields(images, rng)
    return {f"{count} labelled fields": [(rows, untouched)] for count, rows in labelled.items()}


def of_the_next(bench: Bench, malignant: Sequence[str]) -> Figures:
    """Adapt to a benign and a malignant slide, and judge another benign slide."""
    ways: dict[str, list[tuple[Answers, Answers]]] = {}
    rows: Figures = {}
    every = []
    for benign in itertools.combinations(bench.protocol.benign_slides, 2):
        for third in malignant:
            left = without(bench.protocol.data, (*benign, third))
            # A class that is never seen is none that could be learnt from labels.
            if set(left.test.label_names) <= set(left.train.classes):
                every.append((benign, third))
    bench.train([(*benign, third) for benign, third in every])
    for number, (benign, third) in enumerate(every):
        slides = (*benign, third)
        model, division = bench.left_out(slides)
        names = np.array(division.test.column("slide"))
        for place, (ours, following) in enumerate((benign, benign[::-1])):
            unseen = division.test.subset(np.flatnonzero(names == following))
            before = bench.look(model, unseen, slides, "next slide, before")
            own = division.test.subset(np.flatnonzero(np.isin(names, [ours, third])))
            labelled, _ = labelled_fields(own, np.random.default_rng([1, number, place]))
            for count, drawn in labelled.items():
                way = f"next slide, {count} labelled fields"
                adapted = bench.adapted(model, own.subset(drawn), labels=True)
                after = bench.look(adapted, unseen, slides, way)
                ways.setdefault(way, []).append((before, after))
                rows[f"{ours}+{third}, {following}, {count}"] = {
                    "before": counts(before),
                    "after": counts(after),
                }
    return {"ways": dict(_compared(ways)), "rows": rows}


def _compared(ways: dict[str, list[tuple[Answers, Answers]]]) -> Iterator[tuple[str, Figures]]:
    """Yield each way with the figures before and after, and the coarse question in the worst set."""
    for way, parts in ways.items():
        sides: Figures = {}
        for name, answers in zip(("before", "after"), zip(*parts, strict=True), strict=True):
            # Where only one side is judged, as on the next slide, that side is all there is.
            right = [
                float(np.mean([a.at(side).coarse_right.mean() for side in _sides(a)]))
                for a in answers
            ]
            sides[name] = {
                "shares": over_slides(joined(answers)),
                "counts": counts(joined(answers)),
                "sets": {"mean": float(np.mean(right)), "worst": min(right)},
            }
        yield way, sides


def _sides(answers: Answers) -> list[npt.NDArray[np.bool_]]:
    return [side for side in (answers.malignant, ~answers.malignant) if side.any()]


# ── the command ─────────────────────────────────────────────────────────────────────────────────


def table_of(ways: Figures) -> str:
    """Return the figures as a markdown table: means over slides before → after, in per cent."""
    head = ["adapted to", "benign against malignant", "worst", *SHOWN.values()]
    head.append("leukaemia accepted as benign, fields")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for way, sides in ways.items():
        before, after = sides["before"], sides["after"]
        cells = [
            f"{before['sets'][key]:.3f} → {after['sets'][key]:.3f}" for key in ("mean", "worst")
        ]
        for name in SHOWN:
            both = [side["shares"].get(name) for side in (before, after)]
            cells.append(
                " → ".join("–" if s is None else f"{100 * s['macro'][0]:.1f}" for s in both)
            )
        hits = [side["counts"]["leukaemia accepted as benign"] for side in (before, after)]
        cells.append(f"{hits[0][0]} → {hits[1][0]} of {hits[1][1]}")
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a table with the column slide")
    parser.add_argument("--benign", nargs="+", default=["Benign"], help="classes that are benign")
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--set", dest="changes", nargs="+", action="extend", default=[])
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--malignant", nargs="+", help="malignant slides of the part next")
    parser.add_argument("--models", type=Path, required=True, help="where models are kept")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, *, log: Path = looks.LOOKS) -> Figures:
    """Measure, print, and write the figures; `log` is another file only in tests."""
    options = options_of(arguments)
    warnings.simplefilter("ignore")
    settings = {"backbone": options.backbone, "weights": options.weights}
    config = TrainConfig.parse(override(settings, options.changes), source="--set")
    data = allkit.Dataset.open(options.data)
    protocol = Protocol(data, config, options.benign, cache=FeatureCache(), log=log)
    options.models.mkdir(parents=True, exist_ok=True)
    bench = Bench(protocol, options.models)
    figures: Figures = {
        "backbone": config.backbone,
        "configuration": looks.configuration(config),
        "commit": protocol.commit,
        "date": looks.now(),
    }
    malignant = options.malignant or protocol.malignant_slides
    parts = {
        "unlabelled": lambda: of_pairs(bench, labels=False),
        "labelled": lambda: of_pairs(bench, labels=True),
        "next": lambda: of_the_next(bench, malignant),
    }
    for name in options.only:
        figures[name] = parts[name]()
        options.out.write_text(json.dumps(figures, indent=1) + "\n")
        print(table_of(figures[name]["ways"]), flush=True)
    return figures


if __name__ == "__main__":
    main()
