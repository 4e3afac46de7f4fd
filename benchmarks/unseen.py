"""What each setting is worth on slides that were never seen, and on those that were.

    python benchmarks/unseen.py --data index.csv --column series --out figures.json

One change at a time, from the colours of whole fields to the defaults.

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
from collections.abc import Collection
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import numpy.typing as npt

import allkit
from allkit.config import TrainConfig
from allkit.features import FeatureCache
from allkit.training.unseen import leave_one_group_out

FIELD: dict[str, Any] = {"bag": "field", "class_weights": False, "head_decay": 1e-2}
RECIPES: dict[str, dict[str, Any]] = {
    "colours": FIELD | {"view": "rgb"},
    "colours, scale bar masked": FIELD | {"view": "masked"},
    "colours, normalised": FIELD | {"view": "normalised"},
    "saturation": FIELD | {"view": "saturation"},
    "eosin": FIELD | {"view": "eosin"},
    "haematoxylin": FIELD | {"view": "haematoxylin"},
    "haematoxylin, classes weighed": FIELD | {"view": "haematoxylin", "class_weights": True},
    "haematoxylin, weighed, head decay 2": {"bag": "field"},
    "cells": {"bag": "cells"},
    "field and cells (the defaults)": {},
    "field and cells, not trained again": {"refit": False},
    "field and cells, no copies": {"copies": 0},
    "field and cells, laboratory": {"augment": ("standard", "laboratory")},
}


def pooled(
    data: allkit.Dataset, column: str, benign: str, table: npt.NDArray[Any]
) -> dict[str, Any]:
    """Return the figures of answers on values that were left out: `table` `(K, K)` counts them."""
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
    }


def options_of(description: str, recipes: Collection[str]) -> argparse.ArgumentParser:
    """Return the options of a comparison of recipes."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--column", default="series")
    parser.add_argument("--benign", default="Benign")
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--only", nargs="+", default=list(recipes), choices=list(recipes))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    return parser


def unseen(config: TrainConfig, data: allkit.Dataset, column: str, benign: str) -> dict[str, Any]:
    """Return the recalls on values of the column that were left out."""
    result = leave_one_group_out(config, data, column, cache=FeatureCache())
    return pooled(data, column, benign, np.array(result.figures.confusion)) | {
        "right": {row.value: row.right / row.images for row in result.rows},
        "accepted": sum(row.accepted_right + row.accepted_wrong for row in result.rows),
        "silent_errors": sum(row.accepted_wrong for row in result.rows),
        "images": sum(row.images for row in result.rows),
        "accepted_known_classes": {
            row.value: [row.accepted_right, row.accepted_wrong, row.images]
            for row in result.rows
            if not row.unnamed
        },
    }


def main() -> None:
    """Measure and write the figures."""
    options = options_of(__doc__, RECIPES).parse_args()
    warnings.simplefilter("ignore")
    data = allkit.Dataset.open(options.data)
    figures: dict[str, Any] = {"backbone": options.backbone}
    for name in options.only:
        runs = []
        for seed in range(options.seeds):
            config = TrainConfig(
                backbone=options.backbone, weights=options.weights, seed=seed, **RECIPES[name]
            )
            run = unseen(config, data, options.column, options.benign)
            crossed = allkit.Trainer(config.model_copy(update={"folds": 5}), cache=FeatureCache())
            run["known"] = crossed.fit(data).info.validation["accuracy"]
            runs.append(run)
            print(name, seed, json.dumps(run), flush=True)
        keys = ("balanced", "benign_against_malignant", "known")
        figures[name] = {key: [run[key] for run in runs] for key in keys} | {"runs": runs}
        print(name, {key: round(mean(figures[name][key]), 4) for key in keys}, flush=True)
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
