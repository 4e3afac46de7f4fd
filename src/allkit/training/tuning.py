"""Hyper-parameter search with Optuna, on grouped validation only, that can be resumed."""

from __future__ import annotations

import csv
import io
import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from allkit.config import OLDER_HEAD, TrainConfig
from allkit.data.dataset import Dataset
from allkit.errors import AllkitError, ConfigError, did_you_mean
from allkit.features import FeatureCache
from allkit.files import write_whole
from allkit.report.pictures import trials_picture
from allkit.shown.text import cell
from allkit.training import Trainer
from allkit.types import Progress

if TYPE_CHECKING:
    import optuna

__all__ = ["DEFAULT_SPACE", "HEAD_SPACE", "METRICS", "Trial", "default_space", "read_space", "tune"]

METRICS: Mapping[str, Literal["minimize", "maximize"]] = {
    "val_loss": "minimize",
    "accuracy": "maximize",
    "balanced_accuracy": "maximize",
    "macro_f1": "maximize",
}
"""The metrics that a search can optimise, and in which direction."""

Space = Mapping[str, Mapping[str, Any]]

DEFAULT_SPACE = """\
# Which settings are tried, and from where to where. `log: true` tries orders of magnitude alike;
# `choices` lists the values one by one.
learning_rate: {low: 0.0003, high: 0.03, log: true}
weight_decay: {low: 0.0001, high: 0.3, log: true}
dropout: {low: 0.0, high: 0.6}
batch_size: {choices: [32, 64, 128]}
copies: {choices: [0, 1, 2]}
"""
"""The space of a training in steps."""

HEAD_SPACE = """\
# Which settings are tried, and from where to where. `log: true` tries orders of magnitude alike;
# `choices` lists the values one by one.
head_penalty: {low: 0.001, high: 10.0, log: true}
label_smoothing: {low: 0.0, high: 0.2}
copies: {choices: [0, 1, 2]}
"""
"""The space of a head that is solved by lbfgs."""

STUDY, SPACE = "trials.sqlite", "space.yaml"
BEST, TABLE, PICTURE = "best.yaml", "trials.csv", "trials.png"


@dataclass(frozen=True)
class Trial:
    """One training of the search; `value` is `None` when it failed, and `error` says why."""

    number: int
    settings: dict[str, Any]
    value: float | None
    seconds: float
    figures: dict[str, float]
    error: str | None = None


def default_space(base: TrainConfig) -> str:
    """Return the search space for settings that are searched around `base`, as YAML."""
    return HEAD_SPACE if base.head_solver == "lbfgs" else DEFAULT_SPACE


def read_space(text: str, base: TrainConfig, *, source: str = "the search space") -> Space:
    """Return the search space that a YAML text describes.

    Raises `ConfigError` that names an unknown setting, an invalid range, or a value that the setting
    does not take.
    """
    try:
        space = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not YAML: {str(error).splitlines()[-1].strip()}.") from None
    if not isinstance(space, dict) or not space:
        raise ConfigError(f"{source} must hold lines such as `dropout: {{low: 0.0, high: 0.5}}`.")
    for name, entry in space.items():
        if name not in TrainConfig.model_fields:
            known = list(TrainConfig.model_fields)
            raise ConfigError(
                f"Unknown setting {name!r} in {source}.{did_you_mean(str(name), known)}"
            )
        if name in ("seed", "val", "folds"):
            raise ConfigError(
                f"{name} in {source} decides how the metric is measured. Leave it out."
            )
        keys = set(entry) if isinstance(entry, dict) else set()
        if keys == {"choices"} and isinstance(entry["choices"], list) and entry["choices"]:
            ends = entry["choices"]
        elif {"low", "high"} <= keys <= {"low", "high", "log"}:
            ends = [entry["low"], entry["high"]]
            numbers = all(isinstance(e, (int, float)) and not isinstance(e, bool) for e in ends)
            if not numbers or not ends[0] < ends[1] or (entry.get("log") and ends[0] <= 0):
                raise ConfigError(
                    f"{name} in {source}: low must be a number below high"
                    f"{', and above 0 with log' if entry.get('log') else ''}."
                )
        else:
            raise ConfigError(
                f"{name} in {source} must be {{low: …, high: …, log: true}} or {{choices: […]}}."
            )
        for value in ends:
            base.changed({name: value}, source=source)
    for place in ("low", "high"):
        together = {name: _end(entry, place) for name, entry in space.items()}
        base.changed(together, source=source)
    return space


def _end(entry: Mapping[str, Any], place: str) -> Any:
    """Return the lowest or highest value of an entry, or its first or last choice."""
    return entry["choices"][-(place == "high")] if "choices" in entry else entry[place]


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
) -> list[Trial]:
    """Search `space` around `base` until `trials` trainings are done; return all of them.

    Every trial is a whole training on `train`, judged on `val`, or on a part of `train` by group,
    or on the folds of `base.folds`; other images are not used. The first trial is `base` itself, so
    the best is never worse; where the space holds settings of steps and `base` does not name the
    solver, it is `base` trained by adamw. The state is in `out/trials.sqlite`: called again, the search
    goes on from there; an interrupted trial is repeated. `best.yaml`, `trials.csv`
    and `trials.png` are written after every trial. A trial that fails is noted and the search
    goes on. `timeout` is in seconds; no trial is begun after it.

    Raises `ConfigError` when Optuna is not installed, or `out` holds another search, and
    `AllkitError` when every trial failed.
    """
    base = _with_solver(base, space)
    study = _open(train, val, out, base=base, space=space, metric=metric)
    start = time.monotonic()
    while _finished(study) < trials and (timeout is None or time.monotonic() - start < timeout):
        if progress:
            progress("trials", _finished(study), trials)
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
        done = _trials(study)
        _write(done, out, base, metric)
        told(done[-1])
    done = _trials(study)
    if progress:
        progress("trials", _finished(study), max(trials, _finished(study)))
    if done and all(trial.value is None for trial in done):
        raise AllkitError(f"Every trial failed. The last one: {done[-1].error}")
    return done


def _with_solver(base: TrainConfig, space: Space) -> TrainConfig:
    """Return `base` with the solver that every trial has: another one is no other trial."""
    if "head_solver" in space:
        return base
    values = {name: _end(entry, "low") for name, entry in space.items()}
    solver = base.changed(values).head_solver
    return base if solver == base.head_solver else base.changed({"head_solver": solver})


def best(trials: Sequence[Trial], metric: str) -> Trial | None:
    """Return the trial with the best value, the earliest of equals; `None` when all failed."""
    sign = 1.0 if METRICS[metric] == "minimize" else -1.0
    good = [trial for trial in trials if trial.value is not None]
    return min(good, key=lambda t: (sign * (t.value or 0.0), t.number)) if good else None


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
        raise ConfigError(f"{out} exists and holds no search. Choose another --out.")
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
                    f"choose another --out."
                )
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        # Killed in the middle: it is done again with the same settings.
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params or trial.system_attrs.get("fixed_params", {}))
    if not study.get_trials(deepcopy=False):
        values = base.model_dump(mode="json")
        within = {name: values[name] for name in space if _within(values, name, space)}
        first = {
            name: json.dumps(value) if "choices" in space[name] else value
            for name, value in within.items()
        }
        study.enqueue_trial(first)
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
    settings = {name: _suggest(trial, name, entry) for name, entry in space.items()}
    start = time.monotonic()
    try:
        # The head of a trial is judged and forgotten: it need not be trained again.
        config = base.changed({"refit": False, **settings}, source=f"trial {trial.number}")
        info = Trainer(config, cache=cache, progress=progress).fit(train, val).info
        if info.validation is None:
            raise ConfigError("Nothing is held out to judge the trials by: set val or folds.")
        figures = {
            name: float(info.validation[name])
            for name in ("accuracy", "balanced_accuracy", "macro_f1")
        } | {
            "val_loss": _val_loss(
                info.history, last=bool(config.folds) or config.head_solver == "lbfgs"
            )
        }
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


def _val_loss(histories: Sequence[Sequence[Mapping[str, float]]], *, last: bool) -> float:
    """Return the validation loss of the epoch that is kept, averaged over the members.

    It is the best epoch, or the `last` one where the validation part chooses none.
    """
    kept = []
    for history in histories:
        losses = [entry["val_loss"] for entry in history if "val_loss" in entry]
        kept.append(losses[-1] if last else min(losses))
    return math.fsum(kept) / len(kept)


def _suggest(trial: optuna.Trial, name: str, entry: Mapping[str, Any]) -> Any:
    if "choices" in entry:
        # Optuna keeps plain values only; a list is named by its text.
        texts = [json.dumps(choice) for choice in entry["choices"]]
        return json.loads(trial.suggest_categorical(name, texts))
    low, high, log = entry["low"], entry["high"], bool(entry.get("log", False))
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log)
    return float(f"{trial.suggest_float(name, low, high, log=log):.4g}")


def _within(values: Mapping[str, Any], name: str, space: Space) -> bool:
    entry = space[name]
    if "choices" in entry:
        return values[name] in entry["choices"]
    return bool(entry["low"] <= values[name] <= entry["high"])


def _finished(study: optuna.Study) -> int:
    return len(_trials(study))


def _trials(study: optuna.Study) -> list[Trial]:
    """Return the trials that ended by themselves, well or with an error."""
    found = []
    for trial in study.get_trials(deepcopy=False):
        facts = trial.user_attrs
        if "figures" not in facts and "error" not in facts:
            continue
        settings = {
            name: json.loads(value) if isinstance(value, str) else _rounded(value)
            for name, value in trial.params.items()
        }
        ended = Trial(
            number=trial.number,
            settings=settings,
            value=trial.value,
            seconds=facts["seconds"],
            figures=facts.get("figures", {}),
            error=facts.get("error"),
        )
        found.append(ended)
    return found


def _rounded(value: float) -> float | int:
    return float(f"{value:.4g}") if isinstance(value, float) else value


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
    points = [(t.number, t.value, t.settings) for t in trials]
    lower = METRICS[metric] == "minimize"
    write_whole(out / PICTURE, trials_picture(points, metric, lower_is_better=lower))
