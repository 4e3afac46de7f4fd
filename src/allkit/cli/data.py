"""The sets of images that commands are given: opened, announced, and taken in parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from allkit.cli.progress import say
from allkit.errors import DatasetError

if TYPE_CHECKING:
    from allkit.config import TrainConfig
    from allkit.data.dataset import Dataset

__all__ = ["announce", "announce_slides", "open_data", "open_part", "training_parts"]


def open_data(
    path: Path, group_pattern: str | None = None, slide_pattern: str | None = None
) -> Dataset:
    """Open a set, take its groups and slides from patterns if there are any, and announce it."""
    from allkit.data.dataset import Dataset

    dataset = Dataset.open(path)
    if group_pattern is not None:
        dataset = dataset.with_groups(group_pattern)
    if slide_pattern is not None:
        dataset = dataset.with_slides(slide_pattern)
    announce(dataset)
    return dataset


def announce(dataset: Dataset) -> None:
    """Say on standard error what was taken and what not."""
    from allkit.data.left_out import left_out_text, whys_of

    counts = ", ".join(f"{name} {dataset.counts[name]:,}" for name in dataset.classes)
    say(f"{dataset.name}: {len(dataset):,} images ({counts}).")
    if dataset.left_out:
        say(f"Not taken: {left_out_text(whys_of(dataset.left_out))}.")


def announce_slides(dataset: Dataset) -> None:
    """Say on standard error what cannot be said about unseen slides, where slides are unknown."""
    caution = dataset.slides_caution
    if caution is not None:
        say(f"CAUTION  {caution}")


def open_part(path: Path, *names: str) -> Dataset:
    """Open a set without a word; of one that is divided, take the named parts.

    Raises `DatasetError` when these are empty.
    """
    from allkit.data.dataset import Dataset

    dataset = Dataset.open(path)
    if dataset.has_parts:
        dataset = dataset.part(*names)
    if not len(dataset):
        raise DatasetError(f"{path} holds no images of the part {' or '.join(names)}.")
    return dataset


def training_parts(dataset: Dataset, config: TrainConfig) -> tuple[Dataset, Dataset | None]:
    """Return the images to train on, and those for validation if the set names them."""
    if not dataset.has_parts:
        return dataset, None
    unplaced = sum(sample.part is None for sample in dataset)
    if unplaced:
        raise DatasetError(
            f"{unplaced} of {len(dataset)} rows of {dataset.name} have no split. Fill the column "
            f"with train, val or test, or remove it."
        )
    # Before the parts are taken, so that they know what was found out about their images.
    leaks = dataset.leaks() if dataset.split_by != "image" else []
    train, val = dataset.part("train"), dataset.part("val")
    say(f"Training on {len(train):,}, validation on {len(val) or 'a share of these'}.")
    for leak in leaks:
        say(f"CAUTION  {leak}")
    if config.folds:
        return dataset.part("train", "val"), None
    return train, val if len(val) else None
