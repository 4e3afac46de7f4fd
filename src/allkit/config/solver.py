"""What trains the head on frozen features, where the settings do not name it, and what excludes what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allkit.config.own import is_own

__all__ = ["OLDER_HEAD", "STEP_SETTINGS", "contradiction", "settle_solver"]

OLDER_HEAD: Mapping[str, Any] = {
    "head_solver": "adamw",
    "head_penalty": 0.1,
    "optimizer": "adamw",
    "scheduler": "cosine",
}
"""What settings mean that were saved before there was a choice of how a head is trained."""

STEP_SETTINGS = (
    "epochs",
    "batch_size",
    "learning_rate",
    "head_decay",
    "dropout",
    "patience",
    "keep",
    "warmup",
    "mixup",
    "ema",
    "balanced_sampler",
    "accumulation",
    "optimizer",
    "scheduler",
    "members",
)
"""Settings of a head that is trained in steps. Members differ by the draws of their steps."""


OF_OWN_PARTS = (
    ("loss", "label_smoothing", "which is given the labels as they are"),
    ("loss", "focal_gamma", "which is the whole loss"),
    ("optimizer", "weight_decay", "which has a weight decay of its own"),
    ("optimizer", "head_decay", "which has a weight decay of its own"),
    ("scheduler", "warmup", "which decides every step"),
)
"""Settings that an own part takes over: its setting, the one that is then idle, and why."""


def _own(value: Any) -> bool:
    return isinstance(value, str) and is_own(value)


def settle_solver(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values`, with adamw where a setting of steps is given and no solver."""
    if "head_solver" in values:
        return dict(values)
    # One member is what every solver gives.
    steps = any(name in values for name in STEP_SETTINGS if name != "members")
    steps = steps or values.get("members", 1) != 1 or _own(values.get("loss"))
    if steps or values.get("strategy", "head") != "head":
        return {**values, "head_solver": "adamw"}
    return dict(values)


def contradiction(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Return a sentence that names a setting which the solver would ignore, or an empty string.

    `values` are all settings. One at its default is let pass: complete settings, as they are saved,
    hold all of them.
    """
    for name, idle, why in OF_OWN_PARTS:
        if _own(values[name]) and values[idle] != defaults[idle]:
            return (
                f"{idle} = {values[idle]} does nothing beside {name} = {values[name]}, {why}. Leave {idle} "
                f"out."
            )
    steps = [name for name in STEP_SETTINGS if values[name] != defaults[name]]
    if _own(values["loss"]):
        steps.append("loss")
    strategy = values["strategy"]
    if values["head_solver"] == "adamw":
        if values["head_penalty"] == defaults["head_penalty"]:
            return ""
        reasons = [f"strategy = {strategy}"] if strategy != "head" else steps
        why = f" ({', '.join(reasons)})" if reasons else ""
        return (
            f"head_penalty = {values['head_penalty']:g} is a setting of head_solver lbfgs, but the "
            f"head is trained by adamw{why}. Leave head_penalty out, or what asks for adamw."
        )
    if strategy != "head":
        return (
            f"The strategy {strategy} trains the head in steps, but head_solver is lbfgs. Leave "
            f"head_solver out, or give adamw."
        )
    if not steps:
        return ""
    name = steps[0]
    why = ", with which all members would be equal" if name == "members" else ""
    return (
        f"{name} = {values[name]} is a setting of training in steps, but head_solver is lbfgs{why}. "
        f"Leave {name} out, or give head_solver=adamw."
    )
