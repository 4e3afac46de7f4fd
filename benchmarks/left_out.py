"""Answers on slides that a model was trained without, and what is counted of them.

Whoever asks for such answers leaves a row in the log of looks (`looks.py`).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import looks
import numpy as np
import numpy.typing as npt

import allkit
from allkit.config import TrainConfig
from allkit.data.dividing import parts_without_relatives
from allkit.evaluation.judged import Judged
from allkit.evaluation.result import bootstrap
from allkit.features import FeatureCache
from allkit.model.classifier import Classifier
from allkit.trust.slides import bound

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]


class Parts(NamedTuple):
    """A division: images to train on, images of the slides left out, and images in no part."""

    train: allkit.Dataset
    test: allkit.Dataset
    dropped: int


def without(data: allkit.Dataset, slides: Iterable[str]) -> Parts:
    """Leave out slides, and all images that share a group, a case or a field with them.

    A class of which nothing is left is no class of the training.
    """
    test = np.isin(data.column("slide"), list(slides))
    parts = np.array(parts_without_relatives(test, data.fields), dtype=object)
    train = data.subset(np.flatnonzero(parts == "train"))
    present = [name for name in train.classes if train.counts[name]]
    train = train.subset(range(len(train)), classes=present)
    return Parts(train, data.subset(np.flatnonzero(test)), len(data) - len(train) - int(test.sum()))


@dataclass(frozen=True)
class Answers:
    """Answers on N images, `(N,)` each, with the truth.

    `seen`: the class was among those of the training. *Coarse* is the question whether the image is
    malignant; `coarse_probability` is that of the group that was answered.
    """

    image: npt.NDArray[np.str_]
    slide: npt.NDArray[np.str_]
    truth: npt.NDArray[np.str_]
    label: npt.NDArray[np.str_]
    seen: Flags
    verdict: npt.NDArray[np.str_]
    malignant: Flags
    label_malignant: Flags
    coarse_malignant: Flags
    coarse_probability: Floats
    coarse_verdict: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.image)

    @property
    def accepted(self) -> Flags:
        return self.verdict == "accepted"

    @property
    def right(self) -> Flags:
        return self.label == self.truth

    @property
    def coarse_accepted(self) -> Flags:
        return self.coarse_verdict == "accepted"

    @property
    def coarse_right(self) -> Flags:
        return self.coarse_malignant == self.malignant

    @property
    def leukaemia_as_benign(self) -> Flags:
        """Malignant images that were accepted as benign, by the class or by the group."""
        by_class = self.accepted & ~self.label_malignant
        by_group = self.coarse_accepted & ~self.coarse_malignant
        return self.malignant & (by_class | by_group)

    def at(self, rows: Flags | npt.NDArray[np.int64]) -> Answers:
        """Return the answers of some images."""
        return Answers(**{part.name: getattr(self, part.name)[rows] for part in fields(self)})

    def columns(self) -> dict[str, list[Any]]:
        """Return everything as plain lists; probabilities with five decimals."""
        return {
            part.name: (
                np.round(values, 5).tolist()
                if (values := getattr(self, part.name)).dtype.kind == "f"
                else values.tolist()
            )
            for part in fields(self)
        }


def joined(parts: Sequence[Answers]) -> Answers:
    """Return the answers of all parts, one after another."""
    return Answers(
        **{
            part.name: np.concatenate([getattr(answers, part.name) for answers in parts])
            for part in fields(Answers)
        }
    )


def answers_of(
    model: Classifier, data: allkit.Dataset, judged: Judged, benign: frozenset[str]
) -> Answers:
    """Return the answers of a model on labelled images, beside the truth."""
    classes = np.array(model.trust.classes)
    label = classes[judged.probabilities.argmax(axis=1)]
    truth = np.array(data.label_names)
    coarse = coarse_of(model, judged)
    return Answers(
        image=np.array([sample.image for sample in data]),
        slide=np.array(data.column("slide")),
        truth=truth,
        label=label,
        seen=np.isin(truth, classes),
        verdict=np.array([decision.verdict for decision in judged.decisions]),
        malignant=~np.isin(truth, list(benign)),
        label_malignant=~np.isin(label, list(benign)),
        coarse_malignant=coarse.malignant,
        coarse_probability=coarse.probability,
        coarse_verdict=coarse.verdict,
    )


class Coarse(NamedTuple):
    """The coarse answers on N images, `(N,)` each."""

    malignant: Flags
    probability: Floats
    verdict: npt.NDArray[np.str_]


def coarse_of(model: Classifier, judged: Judged) -> Coarse:
    """Return the coarse answers on N images, by the names `benign` and `malignant` of the groups."""
    groups = model.trust.groups
    if groups is None or set(groups.names) != {"benign", "malignant"}:
        raise SystemExit(
            "The model asks no question of benign or malignant. Give --set class_groups=…, with these "
            "two names, and images of both in every training."
        )
    names = np.array(groups.names)
    answers = [decision.coarse for decision in judged.decisions if decision.coarse is not None]
    return Coarse(
        names[[answer.group for answer in answers]] == "malignant",
        np.array([answer.probability for answer in answers]),
        np.array([answer.verdict for answer in answers]),
    )


class Protocol:
    """Trains without slides and judges them; every such judgement is logged before it is shown."""

    def __init__(
        self,
        data: allkit.Dataset,
        config: TrainConfig,
        benign: Iterable[str] = ("Benign",),
        *,
        cache: FeatureCache | None = None,
        log: Path = looks.LOOKS,
    ) -> None:
        self.data, self.config, self.benign = data, config, frozenset(benign)
        self.cache, self.log = cache, log
        self.commit = looks.commit()
        labels: dict[str, set[bool]] = {}
        for slide, label in zip(data.column("slide"), data.label_names, strict=True):
            labels.setdefault(str(slide), set()).add(label not in self.benign)
        mixed = sorted(slide for slide, kinds in labels.items() if len(kinds) > 1)
        if mixed:
            raise SystemExit(f"Slides with benign and malignant images: {', '.join(mixed)}.")
        self.benign_slides = sorted(slide for slide, kinds in labels.items() if kinds == {False})
        self.malignant_slides = sorted(slide for slide, kinds in labels.items() if kinds == {True})
        self.slides = [*self.benign_slides, *self.malignant_slides]

    def train(
        self,
        train: allkit.Dataset,
        config: TrainConfig | None = None,
        teacher: Classifier | None = None,
    ) -> Classifier:
        with warnings.catch_warnings():
            # What the set lacks was said when it was opened.
            warnings.simplefilter("ignore", UserWarning)
            trainer = allkit.Trainer(config or self.config, cache=self.cache, teacher=teacher)
            return trainer.fit(train)

    def judge(self, model: Classifier, images: allkit.Dataset) -> tuple[Judged, Answers]:
        """Judge labelled images; nothing is logged, so these are not images of an outer slide."""
        judged = model.judge(images, cache=self.cache)
        return judged, answers_of(model, images, judged, self.benign)

    def look(
        self,
        model: Classifier,
        images: allkit.Dataset,
        slides: Iterable[str],
        *,
        step: str,
        config: TrainConfig | None = None,
    ) -> tuple[Judged, Answers]:
        """Judge images of slides that the model was trained without, and write that into the log."""
        judged, answers = self.judge(model, images)
        config = config or self.config
        looks.append(
            self.log,
            looks.Look(
                date=looks.now(),
                commit=self.commit,
                backbone=config.backbone,
                step=step,
                configuration=looks.configuration(config),
                slides="+".join(slides),
                images=len(images),
                coarse_right=int(answers.coarse_right.sum()),
                coarse_accepted_wrong=int((answers.coarse_accepted & ~answers.coarse_right).sum()),
                fine_accepted_wrong=int((answers.accepted & ~answers.right).sum()),
            ),
        )
        return judged, answers


# ── what is counted ─────────────────────────────────────────────────────────────────────────────

Counted = Callable[[Answers], tuple[Flags, Flags]]
"""Of answers, which of them count as hits, and among which: `(N,)` each."""


def _among_all(hits: Callable[[Answers], Flags]) -> Counted:
    return lambda a: (hits(a), np.ones(len(a), dtype=bool))


COUNTED: dict[str, Counted] = {
    "coarse right": _among_all(lambda a: a.coarse_right),
    "coarse accepted right": _among_all(lambda a: a.coarse_accepted & a.coarse_right),
    "coarse accepted wrong": _among_all(lambda a: a.coarse_accepted & ~a.coarse_right),
    "fine right": _among_all(lambda a: a.right),
    "fine accepted right": _among_all(lambda a: a.accepted & a.right),
    "fine accepted wrong, class seen": lambda a: (a.accepted & ~a.right & a.seen, a.seen),
    "fine accepted wrong, class never seen": lambda a: (a.accepted & ~a.right & ~a.seen, ~a.seen),
    "leukaemia accepted as benign": lambda a: (a.leukaemia_as_benign, a.malignant),
}


def counts(answers: Answers) -> dict[str, list[int]]:
    """Return hits and images of everything that is counted."""
    return {name: [int(part.sum()) for part in of(answers)] for name, of in COUNTED.items()}


def over_slides(answers: Answers) -> dict[str, Any]:
    """Return every share pooled and as the mean over slides, with intervals, and its range.

    Intervals are 95 % percentile intervals of a bootstrap of slides. Slides without an image that
    counts (a class never seen, malignant) are no slides of that share.
    """
    rows = [counts(answers.at(answers.slide == slide)) for slide in np.unique(answers.slide)]
    shares: dict[str, Any] = {}
    for name in COUNTED:
        table = np.array([row[name] for row in rows if row[name][1]], dtype=np.float64)
        if not len(table):
            continue
        hits, images = table.T
        each = hits / images
        pooled, macro = hits.sum() / images.sum(), each.mean()
        intervals = bootstrap(_means(hits, images), len(table), None, 0)
        shares[name] = {
            "pooled": [float(pooled), *intervals["pooled"]],
            "macro": [float(macro), *intervals["macro"]],
            "minimum": float(each.min()),
            "median": float(np.median(each)),
            "maximum": float(each.max()),
            "hits": int(hits.sum()),
            "images": int(images.sum()),
            "slides": len(table),
        }
    return shares


def _means(hits: Floats, images: Floats) -> Callable[[Floats], dict[str, Floats]]:
    each = hits / images
    return lambda weights: {
        "pooled": (weights @ hits) / (weights @ images),
        "macro": (weights @ each) / weights.sum(axis=1),
    }


def bounds(answers: Answers) -> dict[str, dict[str, Any]]:
    """Return on how many slides something was accepted wrongly, and the exact bound over slides."""
    wrong = (answers.coarse_accepted & ~answers.coarse_right) | (answers.accepted & ~answers.right)
    result = {}
    for name, rows in {
        "all slides": answers.malignant | True,
        "malignant": answers.malignant,
    }.items():
        total = len(np.unique(answers.slide[rows]))
        bad = len(np.unique(answers.slide[rows & wrong]))
        result[name] = {"slides": total, "with a wrong acceptance": bad, "bound": bound(bad, total)}
    return result


def top_codes(judged: Judged, most: int = 5) -> dict[str, dict[str, int]]:
    """Return how often each verdict and the most frequent reasons occur."""
    return {
        "verdicts": dict(Counter(decision.verdict for decision in judged.decisions).most_common()),
        "codes": dict(
            Counter(code for decision in judged.decisions for code in decision.codes).most_common(
                most
            )
        ),
    }
