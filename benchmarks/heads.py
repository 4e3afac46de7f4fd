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
alike. `lda` is linear discriminant analysis, its covariance shrunk by 0.3 (0.9) of its scale.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import confusion_matrix
from unseen import options_of, pooled

import allkit
from allkit.config import TrainConfig
from allkit.features import FeatureCache
from allkit.network.modules import FIELD_SHARE, Head, signed_sqrt
from allkit.training.objective import class_weights

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Answer = Callable[[Floats], Ints]

EPOCHS, BATCH, RATE, DROPOUT = 40, 64, 3e-3, 0.3
DEFAULT: dict[str, Any] = {
    "copies": 1, "field": FIELD_SHARE, "cells": 1.0, "decay": 2.0, "weigh": True,
}  # fmt: skip
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
    """Return the set, and the features `(N, D)` of its images and of their copies."""
    trainer = allkit.Trainer(config.model_copy(update={"val": 0.0}), cache=FeatureCache())
    with trainer._session(data, None) as session:
        return session.division.dataset, list(session.features.views)


def head_for(views: Sequence[Floats], classes: int, recipe: dict[str, Any]) -> Head:
    """Return a head that takes field and cells as the recipe says, before its training."""
    head = Head(views[0].shape[1], classes)
    head.fit_scale([torch.from_numpy(view) for view in views])
    field, cells = head.scale.chunk(2)
    field *= recipe["field"]
    cells *= recipe["cells"]
    return head


@torch.no_grad()
def inputs_of(head: Head, rows: Floats) -> torch.Tensor:
    """Return what the linear layer of a head is given, `(N, D)`."""
    return (signed_sqrt(torch.from_numpy(rows)) - head.mean) * head.scale


def trained(
    views: Sequence[Floats], labels: Ints, groups: Ints, classes: int, recipe: dict[str, Any],
    seed: int,
) -> Answer:  # fmt: skip
    """Return a head that learnt from all rows."""
    views = views[: recipe["copies"] + 1]
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    head = head_for(views, classes, recipe)
    inputs = torch.stack([inputs_of(head, view) for view in views])
    targets = torch.from_numpy(labels)
    weight = class_weights(targets, classes, balanced=recipe["weigh"])[targets]
    own = {g: labels[groups == g][0] for g in np.unique(groups)}
    of_class = np.bincount(list(own.values()), minlength=classes)
    share = np.zeros(groups.max() + 1)
    for group, label in own.items():
        share[group] = 1 / of_class[label]
    if recipe.get("loss") == "alike":
        weight = torch.from_numpy(share[groups] / np.bincount(groups)[groups]).float()
    owner = torch.from_numpy(groups)
    prior = torch.from_numpy(share / share.sum()).float()
    q = prior.clone()
    optimiser = torch.optim.AdamW(head.linear.parameters(), lr=RATE, weight_decay=recipe["decay"])
    steps, done = EPOCHS * math.ceil(len(labels) / BATCH), 0
    for _ in range(EPOCHS):
        order, copies = rng.permutation(len(labels)), rng.integers(len(views), size=len(labels))
        for start in range(0, len(labels), BATCH):
            at = torch.from_numpy(order[start : start + BATCH])
            x = inputs[torch.from_numpy(copies[start : start + BATCH]), at]
            x = x * (torch.rand_like(x) >= DROPOUT) / (1 - DROPOUT)
            losses = torch.nn.functional.cross_entropy(
                head.linear(x), targets[at], reduction="none"
            )
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
    return lambda rows: head(torch.from_numpy(rows)).argmax(1).numpy()


def discriminant(views: Sequence[Floats], labels: Ints, recipe: dict[str, Any]) -> Answer:
    """Return linear discriminant analysis with one shrunk covariance, classes alike."""
    head, present = head_for(views[:1], 1, recipe), len(np.unique(labels))
    found = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=recipe["shrink"], priors=np.full(present, 1 / present)
    ).fit(inputs_of(head, views[0]).numpy(), labels)
    return lambda rows: found.predict(inputs_of(head, rows).numpy())


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
            answer = discriminant(parts, labels[rows], recipe)
        else:
            answer = trained(parts, labels[rows], groups[rows], classes, recipe, seed)
        return held, answer(views[0][held])

    unseen, known = np.full(len(data), -1), np.full(len(data), -1)
    for split in data.leave_one_group_out(column):
        held, said = answers(split)
        unseen[held] = said
    for split in data.folds(5, seed=seed):
        held, said = answers(split)
        known[held] = said
    right = unseen == labels
    table = confusion_matrix(labels, unseen, labels=range(classes))
    return pooled(data, column, benign, table) | {
        "known": float((known == labels).mean()),
        "right": {name: float(right[values == name].mean()) for name in names},
    }


def main() -> None:
    """Measure and write the figures."""
    parser = options_of(__doc__, RECIPES)
    parser.add_argument("--copies-by-seed", action="store_true")
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
