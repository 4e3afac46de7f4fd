"""`allkit train`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allkit.cli.progress import bars, say
from allkit.config import TrainConfig, load_config, override
from allkit.errors import ConfigError, DatasetError
from allkit.evaluation.intervals import with_words
from allkit.files import require_free

if TYPE_CHECKING:
    from allkit.data.dataset import Dataset
    from allkit.training import Trainer

__all__ = ["needs_training_packages", "run_train"]


def run_train(
    data: Path,
    out: Path | None,
    config_file: str | None,
    given: dict[str, Any],
    assignments: list[str],
    print_config: bool,
    find: str | None,
    resume: bool,
    overwrite: bool,
) -> None:
    """Train on `data` and write the model folder."""
    values = load_config(config_file) if config_file else {}
    source = config_file if config_file else "the options"
    config = TrainConfig.parse(override(values | given, assignments), source=source)
    if print_config:
        sys.stdout.write(config.to_yaml())
        return
    if find not in (None, "learning-rate", "batch-size"):
        raise ConfigError(f"--find {find!r} is not known. It finds learning-rate or batch-size.")
    if out is None and not find:
        raise ConfigError("--out is missing. Name the model folder to write.")
    if out is not None:
        require_free(out, overwrite=overwrite or resume)
    needs_training_packages()
    from allkit.data.dataset import Dataset
    from allkit.plugins import registry, resolve_weights
    from allkit.training import Trainer
    from allkit.training.finished import is_finished

    # What can be wrong with the options is told before the data are read.
    registry().get("backbone", config.backbone)
    resolve_weights(config.backbone, config.weights)
    for name in config.augment:
        registry().get("augmentation", name)
    dataset = Dataset.open(data)
    told(dataset)
    train, val = parts(dataset, config)
    before = resume and out is not None and is_finished(out)
    with bars() as progress:
        trainer = Trainer(config, progress=progress)
        if find or out is None:
            _found(trainer, find, train, val)
            return
        model = trainer.fit(train, val, out=out, resume=resume, overwrite=overwrite)
    if os.environ.get("RANK", "0") != "0":
        return  # one of several processes that trained together; the first one reports
    figures = model.info.validation
    if figures:
        say(
            f"{figures['protocol']}: accuracy {figures['accuracy']:.3f} "
            f"({with_words(figures, 'accuracy')}), "
            f"balanced {figures['balanced_accuracy']:.3f}, n = {figures['n']}."
        )
        for note in figures["notes"]:
            say(f"Caution: {note}")
    for note in model.info.trust_notes:
        say(f"CAUTION  {note}")
    if before:
        say(f"{out} was finished before, with these settings and images: nothing was trained.")
    else:
        say(f"Saved {out}. Pictures in {out / 'plots'}.")


def _found(trainer: Trainer, what: str | None, train: Dataset, val: Dataset | None) -> None:
    """Show what the finders found; the last line on standard output is the setting to use."""
    head = trainer.config.strategy == "head"
    if what == "learning-rate":
        found = trainer.find_learning_rate(train, val)
        for rate, loss in list(zip(found.rates, found.losses, strict=True))[::10]:
            say(f"learning rate {rate:.1e}  loss {loss:.3f}")
        sys.stdout.write(f"{'' if head else 'finetune_'}learning_rate={found.suggestion:g}\n")
        return
    sizes = trainer.find_batch_size(train, val)
    for size, speed in zip(sizes.sizes, sizes.images_per_second, strict=True):
        say(f"{size} at once: {speed:.1f} images a second")
    say(f"{sizes.largest} fit at once; {sizes.fastest} are the fastest.")
    sys.stdout.write(f"{'' if head else 'finetune_'}batch_size={sizes.fastest}\n")


def told(dataset: Dataset) -> None:
    """Say what was taken and what not."""
    counts = ", ".join(f"{name} {dataset.counts[name]:,}" for name in dataset.classes)
    say(f"{dataset.name}: {len(dataset):,} images ({counts}).")
    if dataset.left_out:
        shown = ", ".join(dataset.left_out[:3])
        more = "" if len(dataset.left_out) <= 3 else f" and {len(dataset.left_out) - 3} more"
        say(f"Not taken, since they are no images by their names: {shown}{more}.")


def parts(dataset: Dataset, config: TrainConfig) -> tuple[Dataset, Dataset | None]:
    """Return the images to train on, and those for validation if the set names them."""
    if not dataset.has_parts:
        return dataset, None
    unplaced = sum(s.part is None for s in dataset)
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


def needs_training_packages() -> None:
    """Raise one clear error when the `train` extra is not installed."""
    import importlib.util

    wanted = ("torch", "timm", "albumentations", "matplotlib", "platformdirs")
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"This needs {', '.join(missing)}, which are not installed. "
            f"Type: pip install 'allkit[train]'"
        )
