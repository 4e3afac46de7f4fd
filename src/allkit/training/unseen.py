"""How a model does on unseen slides: train without one group at a time, and test on that group."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from allkit.config import TrainConfig
from allkit.data.confound import alone, coincide
from allkit.data.dataset import Dataset, Split
from allkit.data.relations import SAME_FIELD
from allkit.data.rows import Sample
from allkit.errors import DatasetError
from allkit.evaluation.coarse import coarse_metrics
from allkit.evaluation.evaluate import Judged, strongest_probe
from allkit.evaluation.judged_images import JudgedImages
from allkit.evaluation.result import Evaluation, evaluate
from allkit.features import FeatureCache
from allkit.training import Trainer
from allkit.trust.decision import Decision
from allkit.trust.groups import ClassGroups, groups_of
from allkit.types import Ints, Progress

__all__ = ["LeftOut", "Unseen", "leave_one_group_out"]


@dataclass(frozen=True)
class LeftOut:
    """One value of the column: the results on its images of a model trained without it.

    `dropped` images share a group, a case or a field with it and were in no part. A class in
    `unnamed` has no other images: the model cannot name it, and must not accept its images. What
    begins with `coarse` is about its group, which the model can name; `None` where the classes are in
    no groups, or those that remain in one.
    """

    value: str
    images: int
    dropped: int
    unnamed: tuple[str, ...]
    right: int
    accepted_right: int
    accepted_wrong: int
    review: int
    refused: int
    coarse_right: int | None = None
    coarse_accepted_right: int | None = None
    coarse_accepted_wrong: int | None = None

    @property
    def silent_error_rate(self) -> float:
        """Share of its images that were accepted with a wrong label."""
        return self.accepted_wrong / self.images


@dataclass(frozen=True)
class Unseen:
    """Every value left out in turn, and the metrics pooled over all images."""

    column: str
    rows: tuple[LeftOut, ...]
    figures: Evaluation

    @property
    def right(self) -> int:
        """Number of images answered rightly, whatever the verdict."""
        return sum(row.right for row in self.rows)

    @property
    def accepted_right(self) -> int:
        """Number of images that were accepted and right."""
        return sum(row.accepted_right for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as plain values, in the form of `allkit evaluate --json`."""
        rows = [
            {**vars(row), "unnamed": list(row.unnamed), "silent_error_rate": row.silent_error_rate}
            for row in self.rows
        ]
        return self.figures.to_dict() | {
            "leave_one_group_out": {
                "column": self.column,
                "groups": rows,
                "right": self.right,
                "accepted_right": self.accepted_right,
            }
        }

    def to_text(self) -> str:
        """Return one line for each value left out."""
        width = max(len(row.value) for row in self.rows) + 2
        group_lines: list[str] = []
        lines = [
            f"trained without one {self.column} at a time, and tested on it",
            f"{'':<{width}}images  right  accepted: right  wrong  silent errors",
        ]
        for row in self.rows:
            if row.coarse_right is not None:
                of_groups = (
                    f"{row.coarse_right} right, accepted: {row.coarse_accepted_right} right, "
                    f"{row.coarse_accepted_wrong} wrong"
                )
                group_lines.append(f"{row.value:<{width}}{of_groups}")
            note = f"  no other images of {', '.join(row.unnamed)}" if row.unnamed else ""
            note += f"  ({row.dropped} related images dropped)" if row.dropped else ""
            lines.append(
                f"{row.value:<{width}}{row.images:>6}{row.right:>7}{row.accepted_right:>17}"
                f"{row.accepted_wrong:>7}{row.silent_error_rate:>15.1%}{note}"
            )
        if group_lines:
            lines += ["by group of classes", *group_lines]
        return "\n".join(lines) + "\n"


def leave_one_group_out(
    config: TrainConfig,
    dataset: Dataset,
    column: str,
    *,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
) -> Unseen:
    """Train with `config` without the images of each value of `column`, and judge them.

    Thresholds come from the training images of each model alone. Raises `DatasetError` when the
    column has gaps or one value, or when fewer than two classes remain to train on.
    """
    classes = dataset.classes
    values = [str(value) for value in dataset.column(column)]
    labels = dataset.label_names
    same = coincide(labels, values, column)
    if same is not None:
        raise DatasetError(f"{dataset.name}: {same}")
    groups = groups_of(config.class_groups, classes)
    samples: list[Sample] = []
    rows, parts, judged, coarse = list[LeftOut](), [], [], list[CoarseResult]()
    tell, count = progress or (lambda *_: None), len(set(values))
    # A division needs to know which images show the same field: here this is told.
    dataset.passes.measure(SAME_FIELD, cache=cache, progress=progress)
    for split in dataset.leave_one_group_out(column):
        tell(f"trainings without one {column}", len(rows), count)
        train = _without_empty_classes(split)
        with warnings.catch_warnings():
            # The set's own warnings were given once.
            warnings.simplefilter("ignore", UserWarning)
            model = Trainer(config, cache=cache, progress=progress).fit(train)
        answers = model.judge(split.test, cache=cache, progress=progress)
        table = _in_order(answers.probabilities, train.classes, classes)
        truth = split.test.labels
        right = table.argmax(axis=1) == truth
        accepted = np.array([d.verdict == "accepted" for d in answers.decisions])
        of_groups = _coarse(groups, truth, answers.decisions, model.trust.groups)
        if of_groups is not None:
            coarse.append(of_groups)
        rows.append(
            LeftOut(
                value=str(split.held_out),
                images=len(split.test),
                dropped=split.dropped,
                unnamed=tuple(c for c in classes if split.test.counts[c] and c not in train.counts),
                right=int(right.sum()),
                accepted_right=int((accepted & right).sum()),
                accepted_wrong=int((accepted & ~right).sum()),
                review=sum(d.verdict == "review" for d in answers.decisions),
                refused=sum(d.verdict == "refused" for d in answers.decisions),
                **({} if of_groups is None else of_groups.counts()),
            )
        )
        parts.append(truth)
        samples += split.test.samples
        judged.append((table, answers, train.classes))
    tell(f"trainings without one {column}", count, count)
    truths, tables = np.concatenate(parts), np.concatenate([table for table, _, _ in judged])
    figures = evaluate(
        truths,
        tables,
        classes,
        verdicts=[d.verdict for _, answers, _ in judged for d in answers.decisions],
        sets=_sets(judged, classes),
        units=np.repeat(np.arange(len(rows)), [row.images for row in rows]),
        notes=(
            f"Every image was judged by a model that was trained without its {column}; intervals "
            f"resample the {len(rows)} values of {column}.",
            *_one_group(labels, values, column),
        ),
        extra={"shortcut_probe": strongest_probe(dataset, column)} | _pooled(groups, coarse),
        images=JudgedImages(
            Dataset(samples, classes, name=dataset.name),
            classes,
            truths,
            tables,
            decisions=tuple(d for _, answers, _ in judged for d in answers.decisions),
        ),
    )
    return Unseen(column, tuple(rows), figures)


class CoarseResult(NamedTuple):
    """The coarse answers on N images: positions of the true and the answered groups, verdicts."""

    truth: Ints
    answered: Ints
    verdicts: list[str]

    def counts(self) -> dict[str, int]:
        """Return how many answers were right, accepted and right, accepted and wrong."""
        right = self.truth == self.answered
        accepted = np.array([verdict == "accepted" for verdict in self.verdicts])
        return {
            "coarse_right": int(right.sum()),
            "coarse_accepted_right": int((accepted & right).sum()),
            "coarse_accepted_wrong": int((accepted & ~right).sum()),
        }


def _coarse(
    groups: ClassGroups | None,
    truth: Ints,
    decisions: Sequence[Decision],
    of_model: ClassGroups | None,
) -> CoarseResult | None:
    """Return the coarse answers of a model, whose groups may be fewer, under the `groups` of the set.

    `truth` `(N,)` are the positions of the true classes.
    """
    answers = [decision.coarse for decision in decisions if decision.coarse is not None]
    if groups is None or of_model is None or len(answers) < len(decisions):
        return None
    position = [groups.names.index(name) for name in of_model.names]
    return CoarseResult(
        np.array(groups.of_class)[truth],
        np.array([position[answer.group] for answer in answers]),
        [answer.verdict for answer in answers],
    )


def _pooled(groups: ClassGroups | None, parts: Sequence[CoarseResult]) -> dict[str, Any]:
    """Return the metrics of the coarse answers on all images that had one, under `coarse`."""
    if groups is None or not parts:
        return {}
    return {
        "coarse": coarse_metrics(
            groups.names,
            np.concatenate([part.truth for part in parts]),
            np.concatenate([part.answered for part in parts]),
            [verdict for part in parts for verdict in part.verdicts],
        )
    }


def _one_group(labels: list[str], values: list[str], column: str) -> list[str]:
    """Return for which classes nothing can be learnt about unseen slides, in words."""
    few = alone(labels, values)
    if not few:
        return []
    return [
        f"{', '.join(few)}: images of one {column} only. A model trained without it does not know "
        f"the class, so nothing can be learnt about its unseen slides; its recall is 0 by "
        f"construction and lowers every average."
    ]


def _without_empty_classes(split: Split[Dataset]) -> Dataset:
    train = split.train
    present = [name for name in train.classes if train.counts[name]]
    if len(present) < 2:
        raise DatasetError(
            f"Without {split.held_out!r} only {', '.join(present) or 'nothing'} is left to train "
            f"on; a classifier needs two classes. Leave out a smaller column."
        )
    name = f"{train.name} without {split.held_out}"
    return train.subset(range(len(train)), name=name, classes=present)


def _in_order(
    table: npt.NDArray[Any], own: tuple[str, ...], classes: tuple[str, ...]
) -> npt.NDArray[Any]:
    """Return the columns of `table`, which are those of `own`, as columns of `classes`."""
    result = np.zeros((len(table), len(classes)), dtype=table.dtype)
    result[:, [classes.index(name) for name in own]] = table
    return result


def _sets(
    judged: list[tuple[npt.NDArray[Any], Judged, tuple[str, ...]]], classes: tuple[str, ...]
) -> npt.NDArray[np.bool_] | None:
    if any(answers.sets is None for _, answers, _ in judged):
        return None
    tables = [(answers.sets, own) for _, answers, own in judged if answers.sets is not None]
    return np.concatenate([_in_order(sets, own, classes) for sets, own in tables])
