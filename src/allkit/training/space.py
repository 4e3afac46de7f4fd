"""The space of a search: which settings, from where to where; each of them changes what is learnt."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from allkit.config import TrainConfig
from allkit.config.effect import without_effect
from allkit.config.elsewhere import nearest
from allkit.errors import ConfigError
from allkit.plugins import registry
from allkit.plugins.written import yaml_problem

__all__ = ["Space", "default_space", "end_of", "read_space"]

Space = Mapping[str, Mapping[str, Any]]

TOLD = """\
# Which settings are tried, and from where to where. `log: true` tries orders of magnitude alike;
# `choices` lists the values one by one.
"""
RANGES: Mapping[str, str] = {
    "head_penalty": "{low: 0.001, high: 10.0, log: true}",
    "learning_rate": "{low: 0.0003, high: 0.03, log: true}",
    "head_decay": "{low: 0.01, high: 10.0, log: true}",
    "finetune_learning_rate": "{low: 0.00001, high: 0.001, log: true}",
    "weight_decay": "{low: 0.0001, high: 0.3, log: true}",
    "layer_decay": "{low: 0.3, high: 1.0}",
    "lora_rank": "{choices: [2, 4, 8, 16]}",
    "label_smoothing": "{low: 0.0, high: 0.2}",
    "dropout": "{low: 0.0, high: 0.6}",
    "batch_size": "{choices: [32, 64, 128]}",
    "copies": "{choices: [0, 1, 2]}",
}
DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "lbfgs": ("head_penalty", "label_smoothing", "copies"),
    "head": ("learning_rate", "head_decay", "dropout", "batch_size", "copies"),
    "last": ("finetune_learning_rate", "weight_decay", "layer_decay", "dropout", "copies"),
    "full": ("finetune_learning_rate", "weight_decay", "layer_decay", "dropout"),
    "lora": ("finetune_learning_rate", "weight_decay", "lora_rank", "dropout"),
}
"""What is searched, by the strategy; for the head by its solver."""
MEASURING = ("seed", "val", "folds", "slide")
CONDITIONS = ("strategy", "head_solver", "loss", "bag", "augment", "copies", "unfreeze", "backbone")
"""Settings on which it depends whether others do anything."""
MOST_COMBINATIONS = 256


def default_space(base: TrainConfig) -> str:
    """Return the search space for settings that are searched around `base`, as YAML.

    It holds what the strategy of `base` uses, and nothing else.
    """
    kind = base.strategy if base.head_solver == "adamw" else "lbfgs"
    names = [name for name in DEFAULTS[kind] if not _idle(name, base, space={}, metric="val_loss")]
    return TOLD + "".join(f"{name}: {RANGES[name]}\n" for name in names)


def read_space(
    text: str, base: TrainConfig, *, source: str = "the search space", metric: str = "val_loss"
) -> Space:
    """Return the search space that a YAML text describes.

    Raises `ConfigError` that names an unknown setting, an invalid range, a value that the setting
    does not take, and a setting that does nothing beside the others, with the reason.
    """
    try:
        space = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not YAML: {yaml_problem(error)}.") from None
    if not isinstance(space, dict) or not space:
        raise ConfigError(f"{source} must hold lines such as `dropout: {{low: 0.0, high: 0.5}}`.")
    space = TrainConfig.with_names_of_today(space)
    for name, entry in space.items():
        if name not in TrainConfig.model_fields:
            near = nearest(str(name), TrainConfig.model_fields)
            raise ConfigError(f"Unknown setting {name!r} in {source}.{near}")
        if name in MEASURING:
            raise ConfigError(
                f"{name} in {source} decides how the metric is measured. Leave it out."
            )
        for value in _ends(name, entry, source):
            base.changed({name: value}, source=source)
    for place in ("low", "high"):
        together = {name: end_of(entry, place) for name, entry in space.items()}
        base.changed(together, source=source)
    for name in space:
        why = _idle(name, base, space=space, metric=metric)
        if why:
            raise ConfigError(f"{name} in {source} does nothing here: {why}. Leave it out.")
    return space


def end_of(entry: Mapping[str, Any], place: str) -> Any:
    """Return the lowest or highest value of an entry, or its first or last choice."""
    return entry["choices"][-(place == "high")] if "choices" in entry else entry[place]


def _ends(name: str, entry: Any, source: str) -> list[Any]:
    """Return the values of an entry that have to be possible; raise `ConfigError` when it is none."""
    keys = set(entry) if isinstance(entry, dict) else set()
    if keys == {"choices"} and isinstance(entry["choices"], list) and entry["choices"]:
        return list(entry["choices"])
    if not {"low", "high"} <= keys <= {"low", "high", "log"}:
        raise ConfigError(
            f"{name} in {source} must be {{low: …, high: …, log: true}} or {{choices: […]}}."
        )
    ends = [entry["low"], entry["high"]]
    numbers = all(isinstance(e, (int, float)) and not isinstance(e, bool) for e in ends)
    if not numbers or not ends[0] < ends[1] or (entry.get("log") and ends[0] <= 0):
        above = ", and above 0 with log" if entry.get("log") else ""
        raise ConfigError(f"{name} in {source}: low must be a number below high{above}.")
    return ends


def _idle(name: str, base: TrainConfig, *, space: Space, metric: str) -> str:
    """Return why a setting does nothing in all trials, or an empty string when it does in some."""
    why = ""
    for config in _settings(base, space, name):
        why = without_effect(name, config, stages=_stages(config.backbone), metric=metric)
        if not why:
            return ""
    return why


def _settings(base: TrainConfig, space: Space, name: str) -> Iterator[TrainConfig]:
    """Yield the settings beside which a setting may stand, as far as that decides whether it acts."""
    conditions = [c for c in CONDITIONS if c in space and c != name]
    values = [
        space[c]["choices"] if "choices" in space[c] else [end_of(space[c], "high")]
        for c in conditions
    ]
    rest = {n: end_of(entry, "high") for n, entry in space.items() if n not in conditions}
    for chosen in itertools.islice(itertools.product(*values), MOST_COMBINATIONS):
        yield base.changed(rest | dict(zip(conditions, chosen, strict=True)))


def _stages(backbone: str) -> int:
    """Return the number of stages of a backbone; one where it cannot be cut."""
    return max(1, len(registry().get("backbone", backbone).stages))
