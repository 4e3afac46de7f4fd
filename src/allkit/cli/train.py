"""`allkit train`: a classifier from labelled images."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from allkit.cli.data import announce_slides, open_data, training_parts
from allkit.cli.extras import require_training_packages
from allkit.cli.options import (
    Backbone,
    Config,
    Data,
    Epochs,
    Folds,
    OptionalDevice,
    OptionalModelOut,
    OptionalSeed,
    OptionalVal,
    Overwrite,
    Set,
    SlidePattern,
    Strategy,
    Weights,
    spell_out,
)
from allkit.cli.progress import bars, put, say
from allkit.cli.settings import read_settings
from allkit.errors import ConfigError
from allkit.files import require_free

if TYPE_CHECKING:
    from allkit.config import TrainConfig
    from allkit.data.dataset import Dataset
    from allkit.model.classifier import Classifier
    from allkit.training import Trainer

__all__ = ["train"]

Sought = Literal["learning-rate", "batch-size"]


def train(
    data: Data,
    out: OptionalModelOut = None,
    backbone: Backbone = None,
    weights: Weights = None,
    strategy: Strategy = None,
    epochs: Epochs = None,
    val: OptionalVal = None,
    folds: Folds = None,
    slide: SlidePattern = None,
    seed: OptionalSeed = None,
    device: OptionalDevice = None,
    config: Config = None,
    assignments: Set = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="show every setting and exit")
    ] = False,
    find: Annotated[
        Sought | None,
        typer.Option(help="try which is good, show it and exit", metavar=spell_out(Sought)),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with a training that was ended before its end")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a classifier and save it, with its figures and pictures.

    What --set says stands above the other options, and these above --config.

    Example:
    allkit train split.csv --out model
    allkit train smears --out model --config best --set dropout=0.5
    """
    options = {
        "backbone": backbone,
        "weights": weights,
        "strategy": strategy,
        "epochs": epochs,
        "val": val,
        "folds": folds,
        "slide": slide,
        "seed": seed,
        "device": device,
    }
    settings = read_settings(config, options, assignments or [])
    if print_config:
        put(settings.to_yaml())
        return
    if out is None and not find:
        raise ConfigError("--out is missing. Name the model folder to write.")
    if out is not None:
        require_free(out, overwrite=overwrite or resume, former="model.json")
    require_training_packages()
    from allkit.training import Trainer
    from allkit.training.finished import is_finished

    _require_plugins(settings)
    dataset = open_data(data, slide_pattern=settings.slide)
    if dataset.has_slides:  # where they are unknown, the notes of the model say what that costs
        announce_slides(dataset)
    train_set, val_set = training_parts(dataset, settings)
    was_finished = resume and out is not None and is_finished(out)
    with bars() as progress:
        trainer = Trainer(settings, progress=progress)
        if find or out is None:
            _find(trainer, find, train_set, val_set)
            return
        model = trainer.fit(train_set, val_set, out=out, resume=resume, overwrite=overwrite)
    if os.environ.get("RANK", "0") != "0":
        return  # one of several processes that trained together; the first one reports
    _report(model)
    if was_finished:
        say(f"{out} was finished before, with these settings and images: nothing was trained.")
    else:
        say(f"Saved {out}. Pictures in {out / 'plots'}.")


def _require_plugins(settings: TrainConfig) -> None:
    """Raise what is wrong with names in the settings, before the data are read."""
    from allkit.plugins import resolve_weights
    from allkit.training.own import NOTHING

    NOTHING.require_known(settings)
    resolve_weights(settings.backbone, settings.weights)


def _find(
    trainer: Trainer, sought: Sought | None, train_set: Dataset, val_set: Dataset | None
) -> None:
    """Show what was tried; the last line on standard output is the setting to use."""
    prefix = "" if trainer.config.strategy == "head" else "finetune_"
    if sought == "learning-rate":
        curve = trainer.find_learning_rate(train_set, val_set)
        for rate, loss in list(zip(curve.rates, curve.losses, strict=True))[::10]:
            say(f"learning rate {rate:.1e}  loss {loss:.3f}")
        put(f"{prefix}learning_rate={curve.suggestion:g}\n")
        return
    tried = trainer.find_batch_size(train_set, val_set)
    for size, speed in zip(tried.sizes, tried.images_per_second, strict=True):
        say(f"{size} at once: {speed:.1f} images a second")
    say(f"{tried.largest} fit at once; {tried.fastest} are the fastest.")
    put(f"{prefix}batch_size={tried.fastest}\n")


def _report(model: Classifier) -> None:
    """Say what validation gave, with its cautions."""
    from allkit.evaluation.text import accuracy_sentence, cautions_of

    validation = model.info.validation
    if validation:
        say(accuracy_sentence(validation))
        for note in cautions_of(validation):
            say(f"CAUTION  {note}")
    for note in model.info.trust_notes:
        say(f"CAUTION  {note}")
