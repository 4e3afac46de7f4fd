"""One trial of a search, and how Optuna is told of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import optuna

__all__ = ["METRICS", "Trial", "best", "suggest", "suggested", "trials_of"]

METRICS: Mapping[str, Literal["minimize", "maximize"]] = {
    "val_loss": "minimize",
    "accuracy": "maximize",
    "balanced_accuracy": "maximize",
    "macro_f1": "maximize",
}
"""The metrics that a search can optimise, and in which direction."""


@dataclass(frozen=True)
class Trial:
    """One training of the search; `value` is `None` when it failed, and `error` says why.

    `folds` holds the metric on each fold, where there are several. `same_as` is the number of an
    earlier trial with the same settings, whose result this one takes over.
    """

    number: int
    settings: dict[str, Any]
    value: float | None
    seconds: float
    figures: dict[str, float]
    error: str | None = None
    folds: tuple[float, ...] = ()
    same_as: int | None = None


def best(trials: Sequence[Trial], metric: str) -> Trial | None:
    """Return the trial with the best value, the earliest of equals; `None` when all failed."""
    sign = 1.0 if METRICS[metric] == "minimize" else -1.0
    good = [trial for trial in trials if trial.value is not None]
    return min(good, key=lambda t: (sign * (t.value or 0.0), t.number)) if good else None


def trials_of(study: optuna.Study) -> list[Trial]:
    """Return the trials that ended by themselves, well or with an error."""
    found = []
    for trial in study.get_trials(deepcopy=False):
        facts = trial.user_attrs
        if "figures" not in facts and "error" not in facts:
            continue
        settings = {
            name: json.loads(value) if isinstance(value, str) else _rounded(value)
            for name, value in trial.params.items()
        } or facts.get("settings", {})
        ended = Trial(
            number=trial.number,
            settings=settings,
            value=trial.value,
            seconds=facts["seconds"],
            figures=facts.get("figures", {}),
            error=facts.get("error"),
            folds=tuple(facts.get("folds", ())),
            same_as=facts.get("same_as"),
        )
        found.append(ended)
    return found


def suggest(trial: optuna.Trial, name: str, entry: Mapping[str, Any]) -> Any:
    """Return the value of a setting for a trial."""
    if "choices" in entry:
        # Optuna keeps plain values only; a list is named by its text.
        texts = [json.dumps(choice) for choice in entry["choices"]]
        return json.loads(trial.suggest_categorical(name, texts))
    low, high, log = entry["low"], entry["high"], bool(entry.get("log", False))
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log)
    return _rounded(trial.suggest_float(name, low, high, log=log))


def suggested(
    settings: Mapping[str, Any], space: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, optuna.distributions.BaseDistribution]]:
    """Return the values of the settings of a space as Optuna keeps them, and their distributions."""
    import optuna

    params: dict[str, Any] = {}
    distributions: dict[str, optuna.distributions.BaseDistribution] = {}
    for name, entry in space.items():
        value = settings[name]
        if "choices" in entry:
            params[name] = json.dumps(value)
            texts = [json.dumps(choice) for choice in entry["choices"]]
            distributions[name] = optuna.distributions.CategoricalDistribution(texts)
            continue
        low, high, log = entry["low"], entry["high"], bool(entry.get("log", False))
        params[name] = min(max(value, low), high)  # it was rounded, perhaps past an end
        if isinstance(low, int) and isinstance(high, int):
            distributions[name] = optuna.distributions.IntDistribution(low, high, log=log)
        else:
            distributions[name] = optuna.distributions.FloatDistribution(low, high, log=log)
    return params, distributions


def _rounded(value: float) -> float | int:
    return float(f"{value:.4g}") if isinstance(value, float) else value
