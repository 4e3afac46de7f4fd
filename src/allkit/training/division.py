"""Which images each training learns from, and on which it is judged."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from allkit.config import TrainConfig
from allkit.data.allocation import require_enough
from allkit.data.confound import coincide
from allkit.data.dataset import Dataset
from allkit.data.dividing import given_folds
from allkit.data.split import By, Split
from allkit.errors import ConfigError, DatasetError
from allkit.types import Indices

__all__ = [
    "Division",
    "divide",
    "require_other_images",
    "require_sets",
    "require_trainable",
    "whole_set",
]


@dataclass(frozen=True)
class Division:
    """The whole set, and for each division the positions to learn from and to judge on."""

    dataset: Dataset
    parts: list[tuple[Indices, Indices]]
    by: By | None
    """How they were divided; `None`: the user gave the two."""
    refit: bool = False
    """Whether the heads that answer are trained on all images, after those of `parts` are judged."""

    @property
    def learners(self) -> Indices:
        """The positions of all images that any training learns from."""
        return np.unique(np.concatenate([learn for learn, _ in self.trainings]))

    @property
    def trainings(self) -> list[tuple[Indices, Indices]]:
        """The positions to learn from and to check on of every training, in order."""
        everything = np.arange(len(self.dataset))
        return [*self.parts, *([(everything, everything[:0])] if self.refit else [])]


def whole_set(train: Dataset, val: Dataset | None) -> Dataset:
    """Return the images of both parts as one set, those to learn from first."""
    if val is None or not len(val):
        return train
    return Dataset(
        [*train.samples, *val.samples],
        train.classes,
        name=train.name,
        split_by=train.split_by,
        measured=train.passes.measured.and_then(val.passes.measured),
    )


def require_sets(train: object, val: object) -> None:
    """Raise `DatasetError` that says how to make a set of what is given in place of one."""
    if val is None:
        val = train
    for given in (train, val):
        if isinstance(given, Dataset):
            continue
        if isinstance(given, Split):
            raise DatasetError(
                "A training takes the parts of a split: fit(split.train, split.val)."
            )
        if isinstance(given, (str, Path)):
            way = f"Open it first: allkit.Dataset.open({str(given)!r})."
        elif hasattr(given, "itertuples"):
            way = "Make one first: allkit.Dataset.from_dataframe(frame)."
        else:
            way = (
                "Make one first: allkit.Dataset.from_arrays(images, labels), or allkit.Dataset.open(path); "
                "for the form of scikit-learn there is allkit.sklearn.SmearClassifier."
            )
        raise DatasetError(
            f"A training takes an allkit.Dataset, not a {type(given).__name__}. {way}"
        )


def require_other_images(train: Dataset, val: Dataset | None) -> None:
    """Raise `DatasetError` where every image of the validation part is trained on."""
    if val is not None and len(val) and set(val.hashes) <= set(train.hashes):
        raise DatasetError(
            f"Every image of the validation part ({len(val):,}) is in the training part too, so that it "
            f"would judge nothing. Give other images (train, val = data.split(0.2)), or leave it out."
        )


def require_trainable(config: TrainConfig, train: Dataset, val: Dataset | None) -> None:
    """Check settings and labels before any image is read.

    Raises `DatasetError` when a class is missing on a side or has nothing to be held out, and
    `ConfigError` when the settings contradict each other.
    """
    if len(train) == 0:
        raise DatasetError(f"{train.name} holds no images to train on.")
    _check_classes(train)
    if config.folds == 1:
        raise ConfigError("folds = 1 leaves nothing to train on. Give 2 or more, or 0 for none.")
    if config.folds and val is not None:
        raise ConfigError(
            "Folds and a validation part of your own exclude each other. Join the two "
            "parts, or leave `folds` at 0."
        )
    given = val is not None and len(val) > 0
    in_folds = config.folds and given_folds([s.fold for s in train], config.folds) is not None
    if not given and not in_folds and (config.folds or config.val):
        _require_enough(config, train)
    absent = set(val.counts) - set(train.counts) if val is not None else set()
    if absent:
        raise DatasetError(
            f"{', '.join(sorted(absent))}: in the validation part only. Every class must be "
            f"trained on: divide again, or take the class out."
        )


def _require_enough(config: TrainConfig, train: Dataset) -> None:
    """Raise `DatasetError` if a division cannot succeed, whatever the images show."""
    sides = [f"fold {i}" for i in range(config.folds)] if config.folds else ["train", "val"]
    labels = [sample.label for sample in train]
    unit_name = "group" if train.has_groups else "distinct field"
    require_enough(train.units, labels, sides, unit_name=unit_name)


def divide(config: TrainConfig, dataset: Dataset, learning: int) -> Division:
    """Divide the first `learning` images of a set by the settings; the others are validation.

    Raises `DatasetError` when a class cannot be on both sides.
    """
    if config.folds:
        splits = dataset.folds(config.folds, seed=config.seed)
        return Division(dataset, [_sides(s, "train", "test") for s in splits], splits[0].by)
    everything = np.arange(len(dataset))
    refit = config.refit and config.strategy == "head"
    if learning < len(dataset):
        part = (everything[:learning], everything[learning:])
        return Division(dataset, [part], dataset.split_by, refit)
    if config.val == 0:
        return Division(dataset, [(everything, everything[:0])], dataset.split_by)
    split = dataset.split(test=0.0, val=config.val, seed=config.seed)
    # The images may have been divided by image before: then the metrics stay inflated.
    by = "image" if dataset.split_by == "image" else split.by
    return Division(dataset, [_sides(split, "train", "val")], by, refit)


def _sides(split: Split[Dataset], learn: str, check: str) -> tuple[Indices, Indices]:
    return _positions(split, learn), _positions(split, check)


def _positions(split: Split[Dataset], part: str) -> Indices:
    return np.array([i for i, s in enumerate(split.whole) if s.part == part], dtype=np.int64)


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
            f"{', '.join(single)}: one image only, which cannot both be learnt from and judged. "
            f"Add images or take the class out."
        )
