"""Can its answers be trusted? Unseen slides, unseen images of known slides, other pictures.

    python benchmarks/trust.py SHARED --backbone vgg16 --weights FILE --json out.json

SHARED holds `data/taleqani/index.csv`, `data/ood/*` and `data/cnmc_subset`. Every figure is of
images that neither the model nor any of its thresholds has seen:

* unseen slides: each value of the column `series` left out in turn, pooled;
* known slides: 5 folds by group; each model is trained on four (a fifth of these for validation);
* other pictures: one model trained on all images, asked about pictures of other kinds.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom

import allkit
from allkit.config import TrainConfig
from allkit.evaluation.result import evaluate
from allkit.features import FeatureCache
from allkit.images.statistics import image_statistics
from allkit.training.unseen import leave_one_group_out
from allkit.trust.verdict import Outputs

FOLD = ("accuracy", "ece", "classwise_ece", "brier", "log_loss", "accepted_share")
OTHERS = ("ood/photograph", "ood/ordinary_blood_smear", "cnmc_subset")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("shared", type=Path)
    parser.add_argument("--backbone", default="vgg16")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--folds", type=int, default=0, help="folds inside each training")
    parser.add_argument("--division", type=int, default=7, help="seed of the five folds")
    parser.add_argument("--only-known", action="store_true", help="the five folds and no more")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    config = TrainConfig(
        backbone=arguments.backbone, weights=arguments.weights, folds=arguments.folds
    )
    cache = FeatureCache()
    data = allkit.Dataset.open(arguments.shared / "data/taleqani/index.csv")
    result: dict[str, Any] = {"backbone": arguments.backbone, "inner_folds": arguments.folds}
    result["known"] = known(config, data, cache, arguments.division)
    print(json.dumps(result["known"], indent=1))
    if arguments.only_known:
        return
    unseen = leave_one_group_out(config, data, "series", cache=cache)
    print(unseen.to_text())
    result["unseen"] = {
        "silent_error_rate": unseen.figures.silent_error_rate,
        "interval": unseen.figures.intervals["silent_error_rate"],
        "right": unseen.right,
        "accepted_right": unseen.accepted_right,
        "groups": unseen.to_dict()["leave_one_group_out"]["groups"],
    }
    model = allkit.Trainer(config, cache=cache).fit(data)
    result["others"] = others(model, arguments.shared / "data")
    result["cost"] = cost(model, data)
    result["notes"] = list(model.info.trust_notes)
    print(json.dumps({k: v for k, v in result.items() if k != "known"}, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def known(
    config: TrainConfig, data: allkit.Dataset, cache: FeatureCache, seed: int
) -> dict[str, Any]:
    """Return figures on unseen groups of known series, pooled over five folds and for each."""
    truth, tables, sets, verdicts, units, folds = [], [], [], [], [], []
    reasons: Counter[str] = Counter()
    for split in data.folds(5, seed=seed):
        model = allkit.Trainer(config, cache=cache).fit(split.train)
        judged = model.judge(split.test, cache=cache)
        labels = split.test.labels
        own = [decision.verdict for decision in judged.decisions]
        figures = evaluate(
            labels, judged.probabilities, data.classes, verdicts=own, sets=judged.sets,
            units=split.test.units,
        )  # fmt: skip
        folds.append(
            {name: figures.metrics[name] for name in FOLD}
            | {
                "n": len(labels),
                "temperature": model.trust.temperature,
                "softening": model.trust.density_slope,
            }
        )
        reasons += Counter(r for d in judged.decisions for r in d.reasons)
        truth.append(labels)
        tables.append(judged.probabilities)
        sets.append(judged.sets)
        verdicts += own
        units.append(split.test.units + 10_000 * len(units))
    labels = np.concatenate(truth)
    figures = evaluate(
        labels, np.concatenate(tables), data.classes, verdicts=verdicts,
        sets=np.concatenate(sets), units=np.concatenate(units),
    )  # fmt: skip
    coverage = {}
    for name, row in figures.per_class.items():
        count = int(row["support"] or 0)
        # Lower end of the 95 % binomial interval of a share of 0.95 in that many images.
        lower = float(binom.ppf(0.025, count, 0.95)) / max(1, count)
        coverage[name] = {"coverage": row["set_coverage"], "lower_end": lower, "images": count}
    names = ("accuracy", "ece", "classwise_ece", "brier", "log_loss", "accepted_share",
             "accepted_accuracy", "silent_error_rate", "set_size", "empty_sets",
             "area_risk_coverage")  # fmt: skip
    return {
        "figures": {n: [figures.metrics[n], figures.intervals.get(n)] for n in names},
        "folds": folds,
        "coverage": coverage,
        "verdicts": figures.verdicts,
        "reasons": dict(reasons.most_common()),
    }


def others(model: allkit.Classifier, data: Path) -> dict[str, Any]:
    """Return the verdicts on pictures of other kinds."""
    found = {}
    for name in OTHERS:
        files = sorted(path for path in (data / name).rglob("*") if path.is_file())
        found[name] = dict(Counter(answer.verdict for answer in model.predict(files)))
    white = model.predict(np.full((224, 224, 3), 255, np.uint8))[0]
    found["all-white image"] = {white.verdict: 1, "reasons": list(white.reasons)}
    return found


def cost(model: allkit.Classifier, data: allkit.Dataset, count: int = 32) -> dict[str, float]:
    """Return the milliseconds of an answer, one image at a time, and the verdict's share."""
    files = [data.samples[i].source.read() for i in range(0, len(data), len(data) // count)]
    for file in files[:4]:
        model.predict(file)
    start = time.perf_counter()
    for file in files:
        model.predict(file)
    whole = time.perf_counter() - start
    images = [allkit.read_image(file) for file in files]
    outputs = model.outputs(images)
    start = time.perf_counter()
    for index, image in enumerate(images):
        own = Outputs(outputs.logits[index : index + 1], outputs.features[index : index + 1])
        model.trust.decide(own, image_statistics(image)[None])
    verdict = time.perf_counter() - start
    return {
        "answer_ms": 1000 * whole / len(files),
        "verdict_ms": 1000 * verdict / len(files),
        "share": verdict / whole,
    }


if __name__ == "__main__":
    main()
