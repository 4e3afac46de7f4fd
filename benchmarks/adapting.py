"""What adapting to a laboratory is worth on slides that took no part in it.

    python benchmarks/adapting.py --data index.csv --column series --out figures.json --models FOLDER

Protocol, for the classes that have several series (values of the column), of which one is benign:

*Without labels*: each series left out in turn, a model trained on the rest. The model is adapted
without labels to half of the series' groups and judged on the other half, and the other way round (a
series of one group: on its own images). With all images of a half, and with 20 of them. The same with
one benign and one malignant series left out together. Recalls pooled over images.

*With labels*: two benign series and one malignant are left out. The model is adapted with 5, 10 or 20
labelled fields of the first benign and of the malignant one, and judged on the second benign series,
which took part in neither; every order. Figures are means over these, beside those on the rest of the
slides that were adapted with, which mean nothing, and on the images that were trained on.

Trained models are kept in FOLDER and taken from there the next time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import allkit
from allkit.config import TrainConfig
from allkit.features import FeatureCache
from allkit.trust.ood import grouped_parts

Rows = npt.NDArray[np.int64]
PARTS = ["one series", "a benign and a malignant series", "labelled"]


class Bench:
    """A set, its series, and the models that were trained without some of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.data = allkit.Dataset.open(options.data)
        self.series = np.array(self.data.column(options.column), dtype=str)
        self.labels = np.array([s.label for s in self.data])
        self.benign, self.models = options.benign, options.models
        self.config = TrainConfig(
            backbone=options.backbone, weights=options.weights, view=options.view
        )
        self.cache = FeatureCache()
        of = {name: sorted(set(self.series[self.labels == name])) for name in self.data.classes}
        self.of = {name: own for name, own in of.items() if len(own) > 1}

    def rows(self, *series: str) -> Rows:
        return np.flatnonzero(np.isin(self.series, series))

    def without(self, *series: str) -> allkit.Classifier:
        folder = self.models / "+".join(series)
        if not folder.exists():
            out = self.rows(*series)
            related = np.isin(self.data.fields, self.data.fields[out])
            rest = np.flatnonzero(~related)
            known = [c for c in self.data.classes if (self.labels[rest] == c).any()]
            train = self.data.subset(rest, classes=known)
            allkit.Trainer(self.config, cache=self.cache).fit(train).save(folder)
        return allkit.Classifier.load(folder)

    def adapted(
        self, model: allkit.Classifier, rows: Rows, *, labels: bool, strength: str | None = None
    ) -> allkit.Classifier:
        part = self.data.subset(rows)
        if labels:
            whole = [replace(s, group=self.series[i]) for s, i in zip(part, rows, strict=True)]
            part = allkit.Dataset(whole, part.classes)
        else:
            part = allkit.Dataset([replace(s, label="") for s in part], ("",))
        return allkit.adapt(model, part, strength=strength, cache=self.cache)

    def said(self, model: allkit.Classifier, rows: Rows) -> tuple[npt.NDArray[Any], list[str]]:
        judged = model.judge(self.data.subset(rows), cache=self.cache)
        names = np.array(model.classes)[judged.probabilities.argmax(axis=1)]
        return names, [d.verdict for d in judged.decisions]


def recalls(bench: Bench, rows: Rows, said: npt.NDArray[Any]) -> dict[str, float]:
    """Return the balanced figures of pooled answers, over the classes that have several series."""
    truth = bench.labels[rows]
    right = {c: float((said[truth == c] == c).mean()) for c in bench.of}
    benign, other = (
        truth == bench.benign,
        np.isin(truth, [c for c in bench.of if c != bench.benign]),
    )
    sides = [(said[benign] == bench.benign).mean(), (said[other] != bench.benign).mean()]
    return {
        "balanced": float(np.mean(list(right.values()))),
        "benign_against_malignant": float(np.mean(sides)),
    }


def unlabelled(bench: Bench, left_out: list[tuple[str, ...]]) -> dict[str, Any]:
    """Return the figures before and after adapting without labels, on groups of the other half."""
    ways = ("before", "after", "after, 20 images")
    pooled: dict[str, list[Any]] = {way: [] for way in ways}
    verdicts: Counter[str] = Counter()
    every, detail = [], {}
    for series in left_out:
        model, rows = bench.without(*series), bench.rows(*series)
        names, first = bench.said(model, rows)
        kinds = np.unique(bench.labels[rows], return_inverse=True)[1]
        halves = grouped_parts(kinds, bench.data.fields[rows], 2)
        halves = halves or [(np.arange(len(rows)), np.arange(len(rows)))]
        found = {way: names.copy() for way in ways}
        rng = np.random.default_rng(0)
        for learn, kept in halves:
            few = rng.choice(learn, min(20, len(learn)), replace=False)
            for way, some in (("after", learn), ("after, 20 images", few)):
                adapted = bench.adapted(model, rows[some], labels=False)
                found[way][kept], second = bench.said(adapted, rows[kept])
                if way == "after":
                    truth = bench.labels[rows[kept]]
                    was = [first[i] for i in kept]
                    right = found[way][kept] == truth
                    verdicts["images"] += len(kept)
                    for a, b, hit, old in zip(
                        was, second, right, names[kept] == truth, strict=True
                    ):
                        verdicts[f"{a} to {b}"] += 1
                        verdicts["silent errors before"] += a == "accepted" and not old
                        verdicts["silent errors after"] += b == "accepted" and not hit
        every.append(rows)
        for way in ways:
            pooled[way].append(found[way])
        detail["+".join(series)] = {
            way: float((found[way] == bench.labels[rows]).mean()) for way in ways
        }
        print(series, detail["+".join(series)], flush=True)
    images = np.concatenate(every)
    figures = {way: recalls(bench, images, np.concatenate(pooled[way])) for way in ways}
    return figures | {"right": detail, "verdicts": dict(sorted(verdicts.items()))}


def labelled(bench: Bench, malignant: str, least: int = 50) -> dict[str, Any]:
    """Return the figures of adapting with labels, on a benign series of neither side."""
    enough = [s for s in bench.of[malignant] if (bench.series == s).sum() > least]
    rng, table = np.random.default_rng(0), []
    for pair in itertools.combinations(bench.of[bench.benign], 2):
        for third in enough:
            model = bench.without(*pair, third)
            trained = np.flatnonzero(~np.isin(bench.series, [*pair, third]))
            for own, other in (pair, pair[::-1]):
                for count in (0, 5, 10, 20):
                    some = np.concatenate(
                        [rng.choice(bench.rows(s), count, replace=False) for s in (own, third)]
                    )
                    for strength in ("medium", "strong") if count else ("unchanged",):
                        after = model
                        if count:
                            after = bench.adapted(model, some, labels=True, strength=strength)
                        rest = np.setdiff1d(bench.rows(own, third), some)
                        row: dict[str, Any] = {"fields": count, "strength": strength, "to": own}
                        row |= {"judged": other, "with": third}
                        for name, rows in (
                            ("other slide", bench.rows(other)), ("same slides", rest),
                            ("trained on", trained),
                        ):  # fmt: skip
                            said, verdicts = bench.said(after, rows)
                            right = said == bench.labels[rows]
                            row[name] = float(right.mean())
                            accepted = np.array(verdicts) == "accepted"
                            row[f"{name}, silent errors"] = float((accepted & ~right).mean())
                        table.append(row)
            print(pair, third, flush=True)
    kinds = list(dict.fromkeys((row["fields"], row["strength"]) for row in table))
    keys = ("other slide", "same slides", "trained on", "other slide, silent errors")
    means = []
    for count, strength in kinds:
        own = [r for r in table if (r["fields"], r["strength"]) == (count, strength)]
        means.append(
            {"fields": count, "strength": strength}
            | {key: float(np.mean([row[key] for row in own])) for key in keys}
            | {"worst other slide": min(row["other slide"] for row in own)}
        )
    return {"means": means, "rows": table}


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--column", default="series")
    parser.add_argument("--benign", default="Benign")
    parser.add_argument("--malignant", default="Pre")
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--view", default="haematoxylin")
    parser.add_argument("--only", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.models.mkdir(parents=True, exist_ok=True)
    bench = Bench(options)
    figures: dict[str, Any] = {"view": options.view, "backbone": options.backbone}

    large = [s for s in bench.of[options.malignant] if (bench.series == s).sum() > 50]
    pairs = list(itertools.product(bench.of[options.benign], large))
    measures = {
        "one series": lambda: unlabelled(bench, [(s,) for s in sorted(set(bench.series))]),
        "a benign and a malignant series": lambda: unlabelled(bench, pairs),
        "labelled": lambda: labelled(bench, options.malignant),
    }
    for name in options.only:
        found = figures[name] = measures[name]()
        print(
            name, json.dumps({k: v for k, v in found.items() if k != "rows"}, indent=1), flush=True
        )
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
