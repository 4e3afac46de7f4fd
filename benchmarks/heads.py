"""What the training of the head is worth on slides that were never seen, one change at a time.

    python benchmarks/heads.py --data index.csv --column series --out figures.json

A head alone on the features that `allkit train` computes: a field and its white cells, and one
augmented copy of each. 40 epochs of AdamW (learning rate 3e-3, falling as a cosine, batches of 64,
dropout 0.3), all images of the division, the last epoch. Protocol and figures as in
`benchmarks/unseen.py`, with these differences: no validation part, no calibration, no verdicts;
*known* is one division into five folds a seed. The seed is that of head and folds, and of the
copies where `--copies-by-seed` is given.

Losses by group (the values of the column): `group DRO` raises the weight of the group with the highest
loss, q ← q · exp(0.01 · loss) (Sagawa et al. 2020); `V-REx` adds 1 (10) times the variance of the groups'
losses (Krueger et al. 2021); `groups alike` weighs every group of a class alike. Each weighs classes
alike. `lda` is linear discriminant analysis with the covariance within classes, shrunk by 0.3 and 0.9.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import allkit
from allkit.config import TrainConfig
from allkit.features import FeatureCache

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Answer = Callable[[Floats], Floats]

EPOCHS, BATCH, RATE, DROPOUT = 40, 64, 3e-3, 0.3
DEFAULT: dict[str, Any] = {"copies": 1, "field": 0.5, "decay": 2.0, "weigh": True}
RECIPES: dict[str, dict[str, Any]] = {
    "the defaults": {},
    "no copies": {"copies": 0},
    "decay 0.01": {"decay": 0.01},
    "decay 1": {"decay": 1.0},
    "decay 4": {"decay": 4.0},
    "classes not weighed": {"weigh": False},
    "the field counts whole": {"field": 1.0},
    "cells alone": {"field": 0.0},
    "field alone": {"cells": 0.0, "field": 1.0},
    "groups alike": {"loss": "alike"},
    "group DRO": {"loss": "dro"},
    "V-REx 1": {"loss": "vrex", "beta": 1.0},
    "V-REx 10": {"loss": "vrex", "beta": 10.0},
    "lda 0.3": {"shrink": 0.3},
    "lda 0.9": {"shrink": 0.9},
}


def features_of(config: TrainConfig, data: allkit.Dataset) -> tuple[allkit.Dataset, list[Floats]]:
    """Return the set and the signed roots `(N, D)` of its features and of those of its copies."""
    trainer = allkit.Trainer(config.model_copy(update={"val": 0.0}), cache=FeatureCache())
    with trainer._prepared(data, None) as session:
        views = session.features.views
        return session.division.dataset, [np.sign(v) * np.sqrt(np.abs(v)) for v in views]


def scale_of(rows: Floats, recipe: dict[str, Any]) -> tuple[Floats, Floats]:
    """Return what is taken from each feature and what it is multiplied by, as the head does it."""
    deviation = rows.std(axis=0)
    scale = 1 / np.maximum(deviation, 1e-3 * deviation.max() + 1e-8)
    half = len(scale) // 2
    scale[:half] *= recipe["field"]
    scale[half:] *= recipe.get("cells", 1.0)
    return rows.mean(axis=0), scale


def trained(
    views: Sequence[Floats], labels: Ints, groups: Ints, classes: int, recipe: dict[str, Any],
    seed: int,
) -> Answer:  # fmt: skip
    """Return a head that learnt from all rows."""
    views = views[: recipe["copies"] + 1]
    centre, scale = scale_of(np.concatenate(views), recipe)
    inputs = torch.stack([torch.from_numpy((v - centre) * scale).float() for v in views])
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    targets = torch.from_numpy(labels)
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    weights = 1.0 / counts[labels] if recipe["weigh"] else np.ones(len(labels))
    own = {g: labels[groups == g][0] for g in np.unique(groups)}
    of_class = np.bincount(list(own.values()), minlength=classes)
    share = np.zeros(groups.max() + 1)
    for group, label in own.items():
        share[group] = 1 / of_class[label]
    if recipe.get("loss") == "alike":
        weights = share[groups] / np.bincount(groups)[groups]
    weight, owner = torch.from_numpy(weights).float(), torch.from_numpy(groups)
    prior = torch.from_numpy(share / share.sum()).float()
    q = prior.clone()
    linear = torch.nn.Linear(inputs.shape[2], classes)
    optimiser = torch.optim.AdamW(linear.parameters(), lr=RATE, weight_decay=recipe["decay"])
    steps, done = EPOCHS * math.ceil(len(labels) / BATCH), 0
    for _ in range(EPOCHS):
        order, copies = rng.permutation(len(labels)), rng.integers(len(views), size=len(labels))
        for start in range(0, len(labels), BATCH):
            at = torch.from_numpy(order[start : start + BATCH])
            x = inputs[torch.from_numpy(copies[start : start + BATCH]), at]
            x = x * (torch.rand_like(x) >= DROPOUT) / (1 - DROPOUT)
            losses = torch.nn.functional.cross_entropy(linear(x), targets[at], reduction="none")
            if recipe.get("loss") in ("dro", "vrex"):
                inside = torch.bincount(owner[at], minlength=len(q))
                each = torch.zeros(len(q)).index_add(0, owner[at], losses) / inside.clamp(min=1)
                there = inside > 0
                if recipe["loss"] == "dro":
                    q = q * torch.exp(0.01 * each.detach() * there)
                    q = q / q.sum()
                    loss = (q[there] * each[there]).sum() / q[there].sum()
                else:
                    part = prior[there] / prior[there].sum()
                    middle = (part * each[there]).sum()
                    spread = (part * (each[there] - middle) ** 2).sum()
                    loss = middle + recipe["beta"] * spread
            else:
                loss = (losses * weight[at]).sum() / weight[at].sum()
            for group in optimiser.param_groups:
                group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * done / steps))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            done += 1
    table, bias = linear.weight.detach().numpy(), linear.bias.detach().numpy()
    return lambda rows: ((rows - centre) * scale) @ table.T + bias


def discriminant(
    views: Sequence[Floats], labels: Ints, classes: int, recipe: dict[str, Any]
) -> Answer:
    """Return linear discriminant analysis with one shrunk covariance within classes."""
    rows = views[0].astype(np.float64)
    centre, scale = scale_of(rows, recipe)
    rows = (rows - centre) * scale
    present = np.unique(labels)
    means = np.zeros((classes, rows.shape[1]))
    for label in present:
        means[label] = rows[labels == label].mean(axis=0)
    inner = rows - means[labels]
    covariance = inner.T @ inner / len(rows)
    shrink, width = recipe["shrink"], len(covariance)
    covariance = (1 - shrink) * covariance + shrink * np.trace(covariance) / width * np.eye(width)
    table = np.linalg.solve(covariance, means.T).T
    bias = -0.5 * (table * means).sum(axis=1)
    bias[np.setdiff1d(np.arange(classes), present)] = -np.inf
    return lambda rows: ((rows - centre) * scale) @ table.T + bias


def judged(
    data: allkit.Dataset, views: list[Floats], column: str, benign: str, recipe: dict[str, Any],
    seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Return the figures of one recipe."""
    values = np.array([str(value) for value in data.column(column)])
    names, groups = np.unique(values, return_inverse=True)
    labels, classes = data.labels, len(data.classes)

    def answers(split: allkit.Split) -> tuple[Ints, Ints]:
        rows, held = (
            np.array([i for i, s in enumerate(split.whole) if s.part == part])
            for part in ("train", "test")
        )
        parts = [view[rows] for view in views]
        if "shrink" in recipe:
            answer = discriminant(parts, labels[rows], classes, recipe)
        else:
            answer = trained(parts, labels[rows], groups[rows], classes, recipe, seed)
        return held, answer(views[0][held]).argmax(axis=1)

    unseen, known = np.full(len(data), -1), np.full(len(data), -1)
    for split in data.leave_one_out(column):
        held, said = answers(split)
        unseen[held] = said
    for split in data.folds(5, seed=seed):
        held, said = answers(split)
        known[held] = said
    several = [k for k in range(classes) if len(set(values[labels == k])) > 1]
    good = data.classes.index(benign)
    others = np.isin(labels, [k for k in several if k != good])
    right = unseen == labels
    return {
        "balanced": float(np.mean([right[labels == k].mean() for k in several])),
        "benign_against_malignant": float(
            (right[labels == good].mean() + (unseen[others] != good).mean()) / 2
        ),
        "known": float((known == labels).mean()),
        "right": {name: float(right[values == name].mean()) for name in names},
    }


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--column", default="series")
    parser.add_argument("--benign", default="Benign")
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--only", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--copies-by-seed", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # steps of a millisecond: threads would wait for each other
    figures: dict[str, Any] = {"backbone": options.backbone}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in options.only}
    for seed in range(options.seeds):
        config = TrainConfig(
            backbone=options.backbone, weights=options.weights,
            seed=seed if options.copies_by_seed else 0,
        )  # fmt: skip
        data, views = features_of(config, allkit.Dataset.open(options.data))
        for name in options.only:
            recipe = DEFAULT | RECIPES[name]
            runs[name].append(judged(data, views, options.column, options.benign, recipe, seed))
            keys = ("balanced", "benign_against_malignant", "known")
            figures[name] = {k: [run[k] for run in runs[name]] for k in keys}
            figures[name]["right"] = [run["right"] for run in runs[name]]
            print(name, seed, {k: round(mean(figures[name][k]), 4) for k in keys}, flush=True)
            options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
