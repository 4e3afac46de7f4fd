"""`allkit tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from allkit.cli.progress import bars, say
from allkit.config import TrainConfig, load_config, override
from allkit.errors import ConfigError

__all__ = ["run_tune"]


def run_tune(
    data: Path,
    out: Path,
    config_source: str | None,
    given: dict[str, Any],
    assignments: list[str],
    space_file: Path | None,
    trials: int,
    minutes: float | None,
    metric: str,
) -> None:
    """Search for better settings and write them to `out/best.yaml`."""
    from allkit.cli.train import needs_training_packages, parts, told

    values = load_config(config_source) if config_source else {}
    base = TrainConfig.parse(
        override(values | given, assignments), source=config_source or "the options"
    )
    needs_training_packages()
    from allkit.data.dataset import Dataset
    from allkit.training.tuning import DEFAULT_SPACE, METRICS, Trial, best, read_space, tune

    if metric not in METRICS:
        raise ConfigError(f"--metric {metric!r} is none of {', '.join(METRICS)}.")
    if space_file is None:
        space = read_space(DEFAULT_SPACE, base)
    else:
        try:
            text = space_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"Cannot read the search space {space_file}: {error}.") from None
        space = read_space(text, base, source=str(space_file))
    dataset = Dataset.open(data)
    told(dataset)
    train, val = parts(dataset, base)

    def say_trial(trial: Trial) -> None:
        settings = ", ".join(f"{name} {value}" for name, value in trial.settings.items())
        figure = (
            f"{metric} {trial.value:.4g}" if trial.value is not None else f"failed: {trial.error}"
        )
        say(f"trial {trial.number}: {figure} ({trial.seconds:.0f} s) {settings}")

    with bars() as progress:
        done = tune(
            train, val, out, base=base, space=space, trials=trials, metric=metric,
            timeout=None if minutes is None else 60 * minutes, progress=progress, told=say_trial,
        )  # fmt: skip
    winner = best(done, metric)
    if winner is None:
        say("No trial was done in the time given.")
        return
    say(
        f"The best of {len(done)} trials is number {winner.number}: {metric} {winner.value:.4g}. It "
        f"was chosen by this figure, which is therefore too good; judge it on images of their own."
    )
    say(f"Saved {out / 'best.yaml'}: allkit train DATA --out MODEL --config {out / 'best.yaml'}")
