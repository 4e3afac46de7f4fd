"""A choice among recipes that no outer slide has a part in, and what it is worth on the outer slides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from left_out import Answers, Protocol, joined, over_slides, without

from allkit.config import TrainConfig
from allkit.errors import DatasetError

RECIPES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "head_penalty .03": {"head_penalty": 0.03},
    "head_penalty .1": {"head_penalty": 0.1},
    "head_penalty .3": {"head_penalty": 0.3},
    "no copies": {"copies": 0},
    "one copy": {"copies": 1},
    "field": {"bag": "field"},
    "cells": {"bag": "cells"},
    "field and cells": {"bag": "both"},
    "haematoxylin": {"view": "haematoxylin"},
    "saturation": {"view": "saturation"},
    "eosin": {"view": "eosin"},
}
SILENT = 20
"""So many fields that are accepted rightly make up for one that is accepted wrongly."""


def right(answers: Answers) -> float:
    """Return the share of fields whose coarse answer is right, whatever the verdict."""
    return float(answers.coarse_right.mean())


def accepted(answers: Answers) -> float:
    """Return the share of fields accepted rightly less `SILENT` times that accepted wrongly."""
    hits = answers.coarse_accepted & answers.coarse_right
    misses = answers.coarse_accepted & ~answers.coarse_right
    return float(hits.mean() - SILENT * misses.mean())


SCORES: dict[str, Callable[[Answers], float]] = {"right": right, "accepted": accepted}
Judged = dict[tuple[str, str], Answers]


def inside(protocol: Protocol, config: TrainConfig) -> Judged:
    """Return the answers on slide i of a model trained without the slides i and o, by (o, i).

    One model serves both (o, i) and (i, o): of S slides S (S − 1) / 2 trainings. None of these answers
    is an outer look: those by (o, i) choose for o and are on i.
    """
    answers: Judged = {}
    for pair in combinations(protocol.slides, 2):
        if set(pair) in (set(protocol.benign_slides), set(protocol.malignant_slides)):
            print(f"not without {'+'.join(pair)}: nothing of their group is left", flush=True)
            continue
        parts = without(protocol.data, pair)
        try:
            model = protocol.train(parts.train, config)
        except DatasetError as error:  # too little of a class is left
            print(f"not without {'+'.join(pair)}: {error}", flush=True)
            continue
        judged = protocol.judge(model, parts.test)[1]
        for outer, inner in (pair, pair[::-1]):
            answers[outer, inner] = judged.at(judged.slide == inner)
    return answers


def score_without(
    protocol: Protocol, answers: Judged, outer: str, score: Callable[[Answers], float]
) -> float:
    """Return the mean of benign and of malignant slides, `outer` in neither; slides count alike."""
    sides = [
        [score(answers[outer, slide]) for slide in slides if (outer, slide) in answers]
        for slides in (protocol.benign_slides, protocol.malignant_slides)
    ]
    return float(np.mean([np.mean(side) for side in sides if side]))


def choose(protocol: Protocol, recipes: Sequence[str], score: str) -> dict[str, Any]:
    """Choose a recipe for every outer slide on the others, and judge the outer slide by it.

    Of equals the first in the list is chosen. The figure of the whole is that of the way of
    choosing, not of one recipe; nothing but the chosen one is tried on an outer slide.
    """
    configs = {name: _with(protocol.config, RECIPES[name]) for name in recipes}
    tables: dict[str, Judged] = {}
    for name, config in configs.items():
        same = [other for other in tables if configs[other] == config]  # such as the defaults
        tables[name] = tables[same[0]] if same else inside(protocol, config)
        print(f"inner slides: {name}", flush=True)
    rows, parts = {}, []
    for outer in protocol.slides:
        scores = {
            name: score_without(protocol, table, outer, SCORES[score])
            for name, table in tables.items()
        }
        best = max(scores, key=lambda name: scores[name])
        division = without(protocol.data, [outer])
        model = protocol.train(division.train, configs[best])
        answers = protocol.look(model, division.test, [outer], step="inner", config=configs[best])[
            1
        ]
        parts.append(answers)
        rows[outer] = {"scores": scores, "chosen": best, "outer": SCORES[score](answers)}
    return {"score": score, "slides": rows, "summary": over_slides(joined(parts))}


def _with(config: TrainConfig, changes: dict[str, Any]) -> TrainConfig:
    return TrainConfig.parse(config.model_dump() | changes, source="the recipe")
