"""Which settings do nothing beside others, and why: what a search must not spend trials on."""

from __future__ import annotations

from allkit.config.own import is_own
from allkit.config.settings import TrainConfig
from allkit.config.solver import STEP_SETTINGS

__all__ = ["without_effect"]

FINETUNING = (
    "unfreeze",
    "finetune_epochs",
    "finetune_batch_size",
    "finetune_learning_rate",
    "layer_decay",
    "weight_decay",
    "clip",
    "cutmix",
)
"""Settings of what is trained after the head."""
ELSEWHERE = {
    "accumulation": "it changes the memory that is needed, not the result",
    "engine": "it decides how fast features are computed, not what is learnt",
    "device": "it decides where is computed, not what is learnt",
    "trackers": "it decides where the metrics go",
    "refit": "the head of a trial is judged before it would be trained again",
    "calibration_folds": "it decides verdicts and calibration, after the head is judged",
    "coverage": "it decides verdicts, after the head is judged",
    "familiar": "it decides verdicts, after the head is judged",
    "slide_risk": "it decides verdicts, after the head is judged",
    "class_groups": "it decides verdicts, after the head is judged",
}
"""Settings that never change how a head is judged on the validation part."""


def without_effect(name: str, config: TrainConfig, *, stages: int, metric: str) -> str:
    """Return why a setting does nothing to `metric` beside the others of `config`, or an empty string.

    `stages` is the number of stages of the backbone, at least 1.
    """
    strategy = config.strategy
    reasons = {
        **ELSEWHERE,
        **_of_strategy(config, stages),
        **_of_images(config),
        **_of_objective(config),
    }
    if config.head_solver == "lbfgs":
        own = "the head is solved by lbfgs, which takes no steps"
        reasons |= dict.fromkeys((*STEP_SETTINGS, "cutmix"), own)
    else:
        reasons["head_penalty"] = "the head is trained in steps, whose penalty is head_decay"
    if config.folds or not config.val:
        chosen = "in cross-validation" if config.folds else "without a validation part"
        reasons |= dict.fromkeys(("patience", "keep"), f"no epoch is chosen {chosen}")
    if metric == "val_loss":
        reasons["tta"] = "the validation loss is measured without it"
        reasons["class_weights"] = "it changes how the validation loss is measured"
    if name in FINETUNING and strategy == "head":
        return "the strategy is head, which trains nothing after the head"
    return reasons.get(name, "")


def _of_strategy(config: TrainConfig, stages: int) -> dict[str, str]:
    reasons: dict[str, str] = {}
    if config.strategy != "lora":
        reasons["lora_rank"] = f"the strategy is {config.strategy}, and the adapters are lora's"
    trained = config.unfreeze or (1 if config.strategy == "last" else stages)
    if config.strategy == "lora":
        reasons["layer_decay"] = "the adapters of lora all learn at one rate"
    elif trained < 2 or stages < 2:
        reasons["layer_decay"] = "one stage is trained, and there is none further from the head"
    return reasons


def _of_images(config: TrainConfig) -> dict[str, str]:
    reasons: dict[str, str] = {}
    if config.bag == "field":
        reasons |= dict.fromkeys(
            ("cell_size", "max_cells", "finder"), "the bag is field, without cells"
        )
    if not config.copies:
        reasons["augment"] = "there are no augmented copies (copies = 0)"
    if not config.augment:
        reasons["copies"] = "there is no augmentation to make copies by"
    return reasons


def _of_objective(config: TrainConfig) -> dict[str, str]:
    reasons: dict[str, str] = {}
    if config.loss != "focal":
        reasons["focal_gamma"] = f"the loss is {config.loss}"
    if is_own(config.loss):
        reasons["label_smoothing"] = "the loss is an own one, which is given the labels"
    if is_own(config.optimizer):
        own = "the optimizer is an own one, which has its own"
        reasons |= dict.fromkeys(("weight_decay", "head_decay"), own)
    if is_own(config.scheduler):
        reasons["warmup"] = "the scheduler is an own one, which decides every step"
    return reasons
