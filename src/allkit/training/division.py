"""Who learns from which images, and is checked on which."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from allkit.config import TrainConfig
from allkit.data.confound import coincide
from allkit.data.dataset import Dataset
from allkit.data.split import By, Split
from allkit.errors import ConfigError, DatasetError
from allkit.types import Indices

__all__ = ["Division", "divide", "joined"]


@dataclass(frozen=True)
class Division:
    """The whole set, and for each division the positions to learn from and to check on."""

    dataset: Dataset
    parts: list[tuple[Indices, Indices]]
    by: By | None
    """How they were divided; `None`: the user gave the two."""
    refit: bool = False
    """Whether the heads that answer are trained on all images, after those of `parts` are judged."""

    @property
    def trainings(self) -> list[tuple[Indices, Indices]]:
        """The positions to learn from and to check on of every training, in order."""
        everything = np.arange(len(self.dataset))
        return [*self.parts, *([(everything, everything[:0])] if self.refit else [])]


def divide(config: TrainConfig, train: Dataset, val: Dataset | None) -> Division:
    """Divide the images as the settings ask for.

    Raises `DatasetError` when a class cannot be on both sides, and `ConfigError` when the settings
    contradict each other.
    """
    if len(train) == 0:
        raise DatasetError(f"{train.name} holds no images to train on.")
    _check_classes(train)
    if config.folds == 1:
        raise ConfigError("folds = 1 leaves nothing to train on. Give 2 or more, or 0 for none.")
    if config.folds:
        if val is not None:
            raise ConfigError(
                "Folds and a validation part of your own exclude each other. Join the two "
                "parts, or leave `folds` at 0."
            )
        splits = train.folds(config.folds, seed=config.seed)
        return Division(train, [_sides(s, "train", "test") for s in splits], splits[0].by)
    everything = np.arange(len(train))
    refit = config.refit and config.strategy == "head"
    if val is not None and len(val):
        part = (everything, len(train) + np.arange(len(val)))
        return Division(joined(train, val), [part], train.split_by, refit)
    if config.val == 0:
        return Division(train, [(everything, everything[:0])], train.split_by)
    split = train.split(test=0.0, val=config.val, seed=config.seed)
    # The images may have been divided by image before: then the figures stay inflated.
    by = "image" if train.split_by == "image" else split.by
    return Division(train, [_sides(split, "train", "val")], by, refit)


def _sides(split: Split, learn: str, check: str) -> tuple[Indices, Indices]:
    return _positions(split, learn), _positions(split, check)


def _positions(split: Split, part: str) -> npt.NDArray[np.int64]:
    return np.array([i for i, s in enumerate(split.whole) if s.part == part], dtype=np.int64)


def joined(train: Dataset, val: Dataset) -> Dataset:
    """Return the images of both parts as one set, those to learn from first.

    Raises `DatasetError` when a class is in the validation part only.
    """
    strange = set(val.counts) - set(train.counts)
    if strange:
        raise DatasetError(
            f"{', '.join(sorted(strange))}: in the validation part only. Every class must be "
            f"trained on: divide again, or take the class out."
        )
    return Dataset(
        [*train.samples, *val.samples], train.classes, name=train.name, split_by=train.split_by,
        known=train.known.and_then(val.known),
    )  # fmt: skip


def _check_classes(train: Dataset) -> None:
    counts = train.counts
    missing = [name for name in train.classes if not counts[name]]
    if missing:
        raise DatasetError(
            f"No training image has the label {', '.join(missing)}, which other parts of "
            f"{train.name} hold. Divide again so that every class is on every side."
        )
    if not train.classes:
        raise DatasetError(f"No image of {train.name} has a label, and training needs labels.")
    if len(train.classes) < 2:
        raise DatasetError(
            f"{train.name} has one class only ({', '.join(train.classes)}); a classifier needs two."
        )
    if train.has_groups:
        same = coincide(train.label_names, train.units.tolist(), "group")
        if same is not None:
            warnings.warn(f"{train.name}: {same}", stacklevel=4)
    single = [name for name in train.classes if counts[name] == 1]
    if single:
        raise DatasetError(
            f"{', '.join(single)}: one image only. Nothing can be learnt from it and judged too; "
            f"add images or take the class out."
        )
