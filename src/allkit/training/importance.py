"""What a search shows beyond chance: the importance of each setting, and whether the best is better."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from allkit.training.trials import METRICS, Trial, best, suggested

if TYPE_CHECKING:
    import optuna

__all__ = ["Comparison", "Importance", "best_against_first", "importance"]

FEWEST, FEWEST_EACH = 10, 4
"""Trials below which nothing is said of importance: at least so many, and so many for each setting."""
RESAMPLES = 40
TREES = 8
LEVEL = 0.9


@dataclass(frozen=True)
class Importance:
    """How much of the spread between trials one setting explains, 0 to 1.

    `share` is by fANOVA over all trials (Hutter et al. 2014). `low` and `high` are the 90 % interval over
    resamples of the trials. With the values shuffled among the trials it is `usual` in the middle, and
    reaches `by_chance` in one of twenty times: shares add up to 1, so chance gives some to each.
    """

    setting: str
    share: float
    low: float
    high: float
    by_chance: float
    usual: float

    @property
    def known(self) -> bool:
        """Whether it is more than chance gives: rarely as much, and usually less than its lower end."""
        return self.share > self.by_chance and self.low > self.usual

    def __str__(self) -> str:
        told = f"{self.setting} {self.share:.2f} ({self.low:.2f}–{self.high:.2f})"
        return told if self.known else f"{told}, which chance alone can give"


@dataclass(frozen=True)
class Comparison:
    """The best trial against the first, over the folds that judged both.

    `gain` is by how much the metric is better, positive for better; `low` and `high` are its 95 %
    interval. They are `None` where trials were judged on one part.
    """

    gain: float
    low: float | None = None
    high: float | None = None
    folds: int = 1

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return (
                f"It is better than the first trial by {self.gain:.3g}. Whether that is more than chance, "
                f"one validation part cannot tell; folds can (--folds 5)."
            )
        how = f"by {self.gain:.3g} (95 % interval over {self.folds} folds {self.low:.3g} to {self.high:.3g})"
        if self.low > 0:
            return f"It is better than the first trial {how}, more than the folds differ by chance."
        return f"It is not better than the first trial beyond chance: {how}."


def best_against_first(trials: Sequence[Trial], metric: str) -> Comparison | None:
    """Compare the best trial with the first, whose settings were given; `None` where one is missing.

    The interval is that of the corrected resampled t-test (Nadeau and Bengio 2003): folds share most
    of the images that are learnt from. The best is the best of many, so even this is too favourable.
    """
    winner = best(trials, metric)
    first = trials[0] if trials else None
    if winner is None or first is None or first.value is None or winner.value is None:
        return None
    if winner.number == first.number:
        return None
    sign = -1.0 if METRICS[metric] == "minimize" else 1.0
    gains = sign * (np.array(winner.folds) - np.array(first.folds)) if winner.folds else np.empty(0)
    gain = sign * (winner.value - first.value)
    if len(gains) < 2:
        return Comparison(gain)
    from scipy.stats import t

    count = len(gains)
    error = math.sqrt(float(gains.var(ddof=1)) * (1 / count + 1 / (count - 1)))
    width = float(t.ppf(0.975, count - 1)) * error
    middle = float(gains.mean())
    return Comparison(middle, middle - width, middle + width, count)


def importance(
    trials: Sequence[Trial], space: Mapping[str, Mapping[str, Any]], metric: str, *, seed: int = 0
) -> tuple[Importance, ...]:
    """Return the importance of each setting, the greatest first; nothing where trials are too few.

    Too few are fewer than 10, and fewer than four for each setting. The same trials give the same
    result.
    """
    good = [
        trial for trial in trials if trial.value is not None and set(space) <= set(trial.settings)
    ]
    if len(good) < max(FEWEST, FEWEST_EACH * len(space)) or len({t.value for t in good}) < 2:
        return ()
    values = np.array([trial.value for trial in good], dtype=float)
    rng = np.random.default_rng(seed)
    resampled, shuffled = [], []
    with _quiet():
        whole = _shares(good, values, space, seed)
        for number in range(RESAMPLES):
            chosen = rng.integers(len(good), size=len(good))
            resampled.append(_shares([good[i] for i in chosen], values[chosen], space, number))
            shuffled.append(_shares(good, rng.permutation(values), space, number))
    tail = (1 - LEVEL) / 2
    found = []
    for name in space:
        low, high = np.quantile([shares[name] for shares in resampled], [tail, 1 - tail])
        usual, rare = np.quantile([shares[name] for shares in shuffled], [0.5, 0.95])
        one = Importance(
            setting=name,
            share=whole[name],
            low=float(low),
            high=float(high),
            by_chance=float(rare),
            usual=float(usual),
        )
        found.append(one)
    return tuple(sorted(found, key=lambda one: -one.share))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from telling of every study that is made to count."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _shares(
    trials: Sequence[Trial],
    values: npt.NDArray[np.float64],
    space: Mapping[str, Mapping[str, Any]],
    seed: int,
) -> dict[str, float]:
    """Return the share of each setting in the spread of values, which add up to 1."""
    import optuna

    if len(np.unique(values)) < 2:
        return dict.fromkeys(space, 0.0)
    study = optuna.create_study()
    study.add_trials(list(_frozen(trials, values, space)))
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a setting that has one value in a resample
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(found.get(name, 0.0)) for name in space}


def _frozen(
    trials: Sequence[Trial], values: npt.NDArray[np.float64], space: Mapping[str, Mapping[str, Any]]
) -> Iterator[optuna.trial.FrozenTrial]:
    import optuna

    for trial, value in zip(trials, values, strict=True):
        params, distributions = suggested(trial.settings, space)
        yield optuna.trial.create_trial(
            params=params, distributions=distributions, value=float(value)
        )
