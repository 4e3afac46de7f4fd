"""`allkit tune`: a search for better settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from allkit.cli.data import open_data, training_parts
from allkit.cli.extras import require_training_packages
from allkit.cli.options import (
    Backbone,
    Config,
    Data,
    Epochs,
    Folds,
    OptionalDevice,
    OptionalSeed,
    OptionalVal,
    Set,
    SlidePattern,
    Strategy,
    Weights,
    spell_out,
)
from allkit.cli.progress import bars, say
from allkit.cli.settings import read_settings
from allkit.errors import ConfigError

if TYPE_CHECKING:
    from allkit.training.importance import Importance
    from allkit.training.trials import Trial

__all__ = ["tune"]

Metric = Literal["val_loss", "accuracy", "balanced_accuracy", "macro_f1"]


def tune(
    data: Data,
    out: Annotated[Path, typer.Option(help="the folder of the search; it is taken up again there")],
    trials: Annotated[int, typer.Option(min=1, help="trainings in all")] = 30,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="begin no training after so many minutes")
    ] = None,
    space: Annotated[
        Path | None, typer.Option(help="which settings, from where to where, as YAML")
    ] = None,
    metric: Annotated[
        Metric, typer.Option(help="what the best trial is chosen by", metavar=spell_out(Metric))
    ] = "val_loss",
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
) -> None:
    """Search for better settings on validation images; test images are never touched.

    The search starts from --config and the options, which the first trial has.

    Example:
    allkit tune split.csv --out search --trials 20
    allkit tune split.csv --out search --minutes 60 --metric macro_f1
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
    base = read_settings(config, options, assignments or [])
    require_training_packages()
    from allkit.training.importance import best_against_first
    from allkit.training.space import default_space, read_space
    from allkit.training.trials import best
    from allkit.training.tuning import tune as search

    if space is None:
        search_space = read_space(default_space(base), base)
    else:
        search_space = read_space(_read_text(space), base, source=str(space), metric=metric)
    train_set, val_set = training_parts(open_data(data, slide_pattern=base.slide), base)

    def say_trial(trial: Trial) -> None:
        settings = ", ".join(f"{name} {value}" for name, value in trial.settings.items())
        result = (
            f"{metric} {trial.value:.4g}" if trial.value is not None else f"failed: {trial.error}"
        )
        cost = f"{trial.seconds:.0f} s"
        if trial.same_as is not None:
            cost = f"as trial {trial.same_as}, not trained again"
        say(f"trial {trial.number}: {result} ({cost}) {settings}")

    shares: list[Importance] = []
    with bars() as progress:
        done = search(
            train_set,
            val_set,
            out,
            base=base,
            space=search_space,
            trials=trials,
            metric=metric,
            timeout=None if minutes is None else 60 * minutes,
            progress=progress,
            told=say_trial,
            explained=shares.extend,
        )
    winner = best(done, metric)
    if winner is None:
        say("No trial was done in the time given.")
        return
    say(
        f"The best of {len(done)} trials is number {winner.number}: {metric} {winner.value:.4g}. It "
        f"was chosen by this metric, which is therefore too good; judge it on images of their own."
    )
    compared = best_against_first(done, metric)
    if compared is not None:
        say(str(compared))
    if shares:
        say(
            "Importance of the settings, 0 to 1, with its 90 % interval over resamples of the trials:"
        )
        for one in shares:
            say(f"  {one}")
    else:
        say("The importance of the settings is not known: there are too few trials.")
    say(f"Saved {out / 'best.yaml'}: allkit train DATA --out MODEL --config {out / 'best.yaml'}")


def _read_text(space: Path) -> str:
    try:
        return space.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the search space {space}: {error}.") from None
