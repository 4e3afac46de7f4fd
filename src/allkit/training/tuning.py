"""Hyper-parameter search with Optuna, on grouped validation only, that can be resumed."""

from __future__ import annotations

import csv
import io
import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from allkit.config import OLDER_HEAD, TrainConfig
from allkit.config.own import own_parts
from allkit.config.spelling import argument
from allkit.data.dataset import Dataset
from allkit.errors import AllkitError, ConfigError
from allkit.features import FeatureCache
from allkit.files import write_whole
from allkit.report.pictures import trials_picture
from allkit.shown.text import cell
from allkit.training import Trainer
from allkit.training.importance import Importance, importance
from allkit.training.space import Space, end_of
from allkit.training.trials import METRICS, Trial, best, suggest, trials_of
from allkit.types import Progress

if TYPE_CHECKING:
    import optuna

__all__ = ["tune"]

STUDY, SPACE = "trials.sqlite", "space.yaml"
START = "settings"
"""What a trial holds whose settings are those of the start, where they are outside the space."""
BEST, TABLE, PICTURE, SHARES = "best.yaml", "trials.csv", "trials.png", "importance.csv"


def tune(
    train: Dataset,
    val: Dataset | None,
    out: Path,
    *,
    base: TrainConfig,
    space: Space,
    trials: int,
    metric: str = "val_loss",
    timeout: float | None = None,
    cache: FeatureCache | str | None = "default",
    progress: Progress | None = None,
    told: Callable[[Trial], None] = lambda trial: None,
    explained: Callable[[Sequence[Importance]], None] = lambda shares: None,
) -> list[Trial]:
    """Search `space` around `base` until `trials` trainings are done; return all of them.

    Every trial is a whole training on `train`, judged on `val`, or on a part of `train` by group, or on
    the folds of `base.folds`; other images are not used. The first trial is `base` itself, also where
    that is outside the space, so the best is never worse; where the space holds settings of steps and
    `base` does not name the solver, it is `base` trained by adamw. Settings that are drawn a second
    time are not trained again: the trial takes the result of the first. The state is in
    `out/trials.sqlite`: called again, the search goes on from there; an interrupted trial is repeated.
    `best.yaml`, `trials.csv` and `trials.png` are written after every trial, and in the end
    `importance.csv` (`allkit.training.importance`), for which there must be trials enough. A trial that
    fails is noted and the search goes on. `timeout` is in seconds; no trial is begun after it. `told`
    is called after each trial, and `explained` in the end.

    Raises `ConfigError` when Optuna is not installed, or `out` holds another search, and
    `AllkitError` when every trial failed.
    """
    if own_parts(base.model_dump()):
        raise ConfigError(
            f"A search takes settings alone, and these name own parts: "
            f"{', '.join(own_parts(base.model_dump()))}. Offer them in a plugin, or leave them out."
        )
    base = _with_solver(base, space)
    study = _open(train, val, out, base=base, space=space, metric=metric)
    start = time.monotonic()
    done = trials_of(study)
    while len(done) < trials and (timeout is None or time.monotonic() - start < timeout):
        if progress:
            progress("trials", len(done), trials)
        _one(
            study,
            train,
            val,
            base=base,
            space=space,
            metric=metric,
            cache=cache,
            progress=progress,
        )
        done = trials_of(study)
        _write(done, out, base, metric)
        told(done[-1])
    if progress:
        progress("trials", len(done), max(trials, len(done)))
    if done and all(trial.value is None for trial in done):
        raise AllkitError(f"Every trial failed. The last one: {done[-1].error}")
    inside = [trial for trial in done if all(_within(trial.settings, n, space) for n in space)]
    shares = importance(inside, space, metric, seed=base.seed)
    if shares:
        _write_importance(shares, out)
        _draw(done, out, metric, shares)
    explained(shares)
    return done


def _with_solver(base: TrainConfig, space: Space) -> TrainConfig:
    """Return `base` with the solver that every trial has: another one is no other trial."""
    if "head_solver" in space:
        return base
    values = {name: end_of(entry, "low") for name, entry in space.items()}
    solver = base.changed(values).head_solver
    return base if solver == base.head_solver else base.changed({"head_solver": solver})


def _open(
    train: Dataset,
    val: Dataset | None,
    out: Path,
    *,
    base: TrainConfig,
    space: Space,
    metric: str,
) -> optuna.Study:
    try:
        import optuna
    except ImportError:
        raise ConfigError("The search needs optuna. Type: pip install 'allkit[hpo]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    facts = {
        "settings": base.model_dump(mode="json"),
        "space": {name: dict(entry) for name, entry in space.items()},
        "metric": metric,
        "images": train.fingerprint,
        "validation": val.fingerprint if val is not None else None,
    }
    if out.exists() and not (out / STUDY).exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and holds no search. Choose another {argument('out')}.")
    if not out.parent.exists():
        raise ConfigError(f"The folder {out.parent} does not exist. Make it first.")
    out.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(
            storage=f"sqlite:///{(out / STUDY).resolve()}",
            study_name="allkit",
            direction=METRICS[metric],
            load_if_exists=True,
        )
    before = study.user_attrs.get("facts")
    if before is None:
        study.set_user_attr("facts", facts)
        write_whole(out / SPACE, yaml.safe_dump(facts["space"], sort_keys=False))
    else:
        for name in ("settings", "space"):
            before[name] = TrainConfig.with_names_of_today(before.get(name, {}))
        before["settings"] = {**OLDER_HEAD, **before["settings"]}
        for name, value in json.loads(json.dumps(facts)).items():
            if before.get(name) != value:
                raise ConfigError(
                    f"{out} holds a search with other {name}. Give the same to go on with it, or "
                    f"choose another {argument('out')}."
                )
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        # Killed in the middle: it is done again with the same settings.
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(
            trial.params or trial.system_attrs.get("fixed_params", {}),
            user_attrs={n: trial.user_attrs[n] for n in (START,) if n in trial.user_attrs},
        )
    if not study.get_trials(deepcopy=False):
        values = base.model_dump(mode="json")
        if all(_within(values, name, space) for name in space):
            first = {
                name: json.dumps(values[name]) if "choices" in entry else values[name]
                for name, entry in space.items()
            }
            study.enqueue_trial(first)
        else:
            # Optuna draws other values in place of those outside its ranges, so it is told of none.
            study.enqueue_trial({}, user_attrs={START: {name: values[name] for name in space}})
    return study


def _one(
    study: optuna.Study,
    train: Dataset,
    val: Dataset | None,
    *,
    base: TrainConfig,
    space: Space,
    metric: str,
    cache: FeatureCache | str | None,
    progress: Progress | None,
) -> None:
    import optuna

    # Each trial draws from its own number, so that a resumed search gives the same trials.
    seed = base.seed + len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=8, multivariate=False)
    trial = study.ask()
    settings = trial.user_attrs.get(START) or {
        name: suggest(trial, name, entry) for name, entry in space.items()
    }
    start = time.monotonic()
    done = trials_of(study)
    twin = next((t for t in done if t.value is not None and t.settings == settings), None)
    if twin is not None:  # a training from the same settings gives the same result
        trial.set_user_attr("figures", twin.figures)
        trial.set_user_attr("folds", list(twin.folds))
        trial.set_user_attr("same_as", twin.number)
        trial.set_user_attr("seconds", 0.0)
        study.tell(trial, twin.value)
        return
    try:
        # The head of a trial is judged and forgotten: it need not be trained again.
        config = base.changed({"refit": False, **settings}, source=f"trial {trial.number}")
        info = Trainer(config, cache=cache, progress=progress).fit(train, val).info
        if info.validation is None:
            raise ConfigError("Nothing is held out to judge the trials by: set val or folds.")
        figures = {
            name: float(info.validation[name])
            for name in ("accuracy", "balanced_accuracy", "macro_f1")
        }
        losses = _val_losses(info.history, config)
        figures["val_loss"] = math.fsum(losses) / len(losses)
        if config.folds:
            of_folds = info.validation["folds"]
            by_fold = losses if metric == "val_loss" else [f.get(metric) for f in of_folds]
            if None not in by_fold:  # not every metric is kept of each fold
                trial.set_user_attr("folds", by_fold)
        trial.set_user_attr("figures", figures)
        trial.set_user_attr("seconds", time.monotonic() - start)
        study.tell(trial, figures[metric])
    except ConfigError:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        raise
    except AllkitError as error:
        trial.set_user_attr("error", str(error))
        trial.set_user_attr("seconds", time.monotonic() - start)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)


def _val_losses(
    histories: Sequence[Sequence[Mapping[str, float]]], config: TrainConfig
) -> list[float]:
    """Return the validation loss of each division at the epoch that is kept, the mean of its members.

    It is the best epoch, or the last one where the validation part chooses none.
    """
    last = bool(config.folds) or config.head_solver == "lbfgs" or config.keep == "last"
    kept = []
    for history in histories:
        losses = [entry["val_loss"] for entry in history if "val_loss" in entry]
        kept.append(losses[-1] if last else min(losses))
    parts = [kept[i : i + config.members] for i in range(0, len(kept), config.members)]
    return [math.fsum(part) / len(part) for part in parts]


def _within(values: Mapping[str, Any], name: str, space: Space) -> bool:
    entry, value = space[name], values.get(name)
    if "choices" in entry:
        return value in entry["choices"]
    return value is not None and bool(entry["low"] <= value <= entry["high"])


def _write(trials: Sequence[Trial], out: Path, base: TrainConfig, metric: str) -> None:
    names = list(dict.fromkeys(name for trial in trials for name in trial.settings))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["trial", *names, *METRICS, "seconds", "error"])
    for trial in trials:
        settings = [trial.settings.get(name) for name in names]
        metrics = [trial.figures.get(name) for name in METRICS]
        seconds = f"{trial.seconds:.1f}"
        writer.writerow([trial.number, *map(cell, settings), *metrics, seconds, cell(trial.error)])
    write_whole(out / TABLE, stream.getvalue())
    winner = best(trials, metric)
    if winner is None:
        return
    config = base.changed(winner.settings)
    heading = (
        f"# The best of {len(trials)} trials: number {winner.number}, {metric} {winner.value:.4g} on "
        f"the validation\n# part. It was chosen by this value, which is therefore too good.\n"
    )
    write_whole(out / BEST, heading + config.to_yaml())
    _draw(trials, out, metric, ())


def _draw(trials: Sequence[Trial], out: Path, metric: str, shares: Sequence[Importance]) -> None:
    points = [(t.number, t.value, t.settings) for t in trials]
    lower = METRICS[metric] == "minimize"
    told = {one.setting: (one.share, one.low, one.high, one.by_chance, one.known) for one in shares}
    write_whole(
        out / PICTURE, trials_picture(points, metric, lower_is_better=lower, importance=told)
    )


def _write_importance(shares: Sequence[Importance], out: Path) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["setting", "importance", "low", "high", "by_chance"])
    for one in shares:
        numbers = (one.share, one.low, one.high, one.by_chance)
        writer.writerow([one.setting, *(f"{number:.3f}" for number in numbers)])
    write_whole(out / SHARES, stream.getvalue())
