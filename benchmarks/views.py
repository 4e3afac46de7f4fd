"""What a view is worth on slides that were never seen, and on those that were.

    python benchmarks/views.py --data index.csv --column series --out figures.json

Protocol. *Unseen*: each value of the column left out in turn (images that share a group, a case or
a field with it are in no part), a model trained on the rest with the defaults; over the classes
that have other values, pooled over images: the mean of their recalls, and *benign against
malignant*, the mean of the share of benign images that are called benign and of the others that
are not. *Known*: five folds by group, pooled. `--seeds` trainings of each.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

import allkit
from allkit.config import TrainConfig
from allkit.features import FeatureCache
from allkit.quality.unseen import leave_one_group_out


def unseen(config: TrainConfig, data: allkit.Dataset, column: str, benign: str) -> dict[str, Any]:
    """Return the recalls on values of the column that were left out."""
    result = leave_one_group_out(config, data, column, cache=FeatureCache())
    table = np.array(result.figures.confusion)
    known = [
        index for index, name in enumerate(data.classes)
        if len({v for v, s in zip(data.column(column), data, strict=True) if s.label == name}) > 1
    ]  # fmt: skip
    at = data.classes.index(benign)
    share = table / table.sum(axis=1, keepdims=True)
    malignant = table[[i for i in known if i != at]].sum(axis=0)
    return {
        "classes": [data.classes[index] for index in known],
        "balanced": float(np.mean([share[index, index] for index in known])),
        "benign_against_malignant": float(
            (share[at, at] + 1 - malignant[at] / malignant.sum()) / 2
        ),
        "right": {row.value: row.right / row.images for row in result.rows},
    }


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--column", default="series")
    parser.add_argument("--benign", default="Benign")
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--views", nargs="+", default=["rgb", "haematoxylin"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    data = allkit.Dataset.open(options.data)
    figures: dict[str, Any] = {"backbone": options.backbone}
    for view in options.views:
        runs = []
        for seed in range(options.seeds):
            config = TrainConfig(
                backbone=options.backbone, weights=options.weights, view=view, seed=seed
            )
            run = unseen(config, data, options.column, options.benign)
            crossed = allkit.Trainer(config.model_copy(update={"folds": 5}), cache=FeatureCache())
            run["known"] = crossed.fit(data).info.validation["accuracy"]
            runs.append(run)
            print(view, seed, json.dumps(run), flush=True)
        keys = ("balanced", "benign_against_malignant", "known")
        figures[view] = {key: [run[key] for run in runs] for key in keys} | {"runs": runs}
        print(view, {key: round(mean(figures[view][key]), 4) for key in keys}, flush=True)
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
