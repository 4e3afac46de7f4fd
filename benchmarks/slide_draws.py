"""The verdict on a slide from a few of its fields: draws without replacement, from answers there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import allkit
from allkit.errors import DatasetError
from allkit.records import CasePrediction, Prediction
from allkit.trust.verdict import Trust

SIZES = (1, 3, 5, 10, 20)
ORDERS = ("random", "consecutive")
DRAWS = 1000


def clusters_of(data: allkit.Dataset) -> list[list[int]]:
    """Return the positions of the images of each field, fields in the order of the table.

    Images of one field share `near_duplicate_of`; without that, every image is a field.
    """
    try:
        names = data.column("near_duplicate_of")
    except DatasetError:
        names = [None] * len(data)
    clusters: dict[str | int, list[int]] = {}
    for position, name in enumerate(names):
        clusters.setdefault(position if name is None else name, []).append(position)
    return list(clusters.values())


def draws(
    clusters: Sequence[Sequence[int]], size: int, order: str, *, count: int, seed: Sequence[int]
) -> Iterator[tuple[int, ...]]:
    """Yield `count` draws of `size` fields, or of all there are: positions of images, sorted.

    *random*: any fields; *consecutive*: fields that follow one another in the table, from a start
    drawn at random. Of each field one image, drawn at random.
    """
    rng = np.random.default_rng([*seed, size, ORDERS.index(order)])
    size = min(size, len(clusters))
    for _ in range(count):
        if order == "random":
            fields: npt.NDArray[np.int64] = rng.permutation(len(clusters))[:size]
        else:
            fields = int(rng.integers(len(clusters) - size + 1)) + np.arange(size)
        yield tuple(sorted(int(rng.choice(clusters[field])) for field in fields))


def of_slide(
    data: allkit.Dataset,
    predictions: Sequence[Prediction],
    trust: Trust,
    *,
    benign: frozenset[str],
    count: int = DRAWS,
    seed: Sequence[int] = (0,),
) -> dict[str, Any]:
    """Return, for every order and size, the shares of draws that were right, wrong and silent.

    `data` is one slide with one label; `fields` says how many there were to draw, and so how many
    a draw really has where that is less than was asked.
    """
    clusters, label = clusters_of(data), data.label_names[0]
    answers: dict[tuple[int, ...], tuple[str, str]] = {}
    result: dict[str, Any] = {"fields": len(clusters)}
    for order in ORDERS:
        for size in SIZES:
            coarse: Counter[str] = Counter()
            fine: Counter[str] = Counter()
            for draw in draws(clusters, size, order, count=count, seed=seed):
                if draw not in answers:
                    case = allkit.combine([predictions[row] for row in draw], trust=trust)
                    answers[draw] = outcomes(case, label, benign)
                coarse[answers[draw][0]] += 1
                fine[answers[draw][1]] += 1
            result[f"{order} {size}"] = {
                "fields": min(size, len(clusters)),
                "coarse": {name: coarse[name] / count for name in ("right", "wrong", "none")},
                "fine": {name: fine[name] / count for name in ("right", "wrong", "none")},
            }
    return result


def outcomes(case: CasePrediction, label: str, benign: frozenset[str]) -> tuple[str, str]:
    """Return how the coarse and the fine answer for a slide of this label went, in a word each."""
    group = "benign" if label in benign else "malignant"
    return _word(case.coarse_verdict, case.coarse == group), _word(
        case.verdict, case.label == label
    )


def _word(verdict: str | None, right: bool) -> str:
    return ("right" if right else "wrong") if verdict == "accepted" else "none"
