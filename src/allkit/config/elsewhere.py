"""What other tools call a setting, so that a name from there leads to the one of here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

__all__ = ["ELSEWHERE", "nearest"]

_NETWORK = "the network and its size of input are those of the `backbone`"
_WEIGHTS = "`default` for pretrained ones, `none` for random ones"

ELSEWHERE: Mapping[str, tuple[tuple[str, ...], str]] = {
    # the network
    "model": (("backbone",), ""),
    "model_name": (("backbone",), ""),
    "arch": (("backbone",), ""),
    "architecture": (("backbone",), ""),
    "encoder": (("backbone",), ""),
    "network": (("backbone",), ""),
    "pretrained": (("weights",), _WEIGHTS),
    "checkpoint": (("weights",), _WEIGHTS),
    "checkpoint_path": (("weights",), _WEIGHTS),
    "imgsz": ((), _NETWORK),
    "img_size": ((), _NETWORK),
    "image_size": ((), _NETWORK),
    "input_size": ((), _NETWORK),
    "num_classes": ((), "the classes are those of the images"),
    "n_classes": ((), "the classes are those of the images"),
    "freeze": (("strategy", "unfreeze"), "`head` trains a head only, `last` also the last stages"),
    "freeze_epochs": (("epochs",), "the head is always trained first"),
    "unfreeze_layers": (("unfreeze",), ""),
    "fine_tune": (("strategy",), "`last`, `full` or `lora`"),
    # the images
    "transforms": (("augment",), ""),
    "transform": (("augment",), ""),
    "augmentation": (("augment",), ""),
    "augmentations": (("augment",), ""),
    "batch_tfms": (("augment",), ""),
    "item_tfms": (("augment",), ""),
    "aug_transforms": (("augment",), ""),
    # the loss and the steps
    "criterion": (("loss",), ""),
    "loss_fn": (("loss",), ""),
    "loss_func": (("loss",), ""),
    "loss_function": (("loss",), ""),
    "smoothing": (("label_smoothing",), ""),
    "class_weight": (("class_weights",), ""),
    "opt": (("optimizer",), ""),
    "opt_func": (("optimizer",), ""),
    "optim": (("optimizer",), ""),
    "optimiser": (("optimizer",), ""),
    "sched": (("scheduler",), ""),
    "lr_scheduler": (("scheduler",), ""),
    "solver": (("head_solver",), ""),
    "lr": (("learning_rate", "finetune_learning_rate"), ""),
    "lr0": (("learning_rate", "finetune_learning_rate"), ""),
    "lr_max": (("learning_rate", "finetune_learning_rate"), ""),
    "base_lr": (("learning_rate", "finetune_learning_rate"), ""),
    "learning_rate_init": (("learning_rate", "finetune_learning_rate"), ""),
    "wd": (("weight_decay", "head_decay"), "`weight_decay` is that of `last`, `full`, `lora`"),
    "alpha": (("head_penalty",), ""),
    "C": (("head_penalty",), "the higher, the stronger, unlike C"),
    "l2": (("head_penalty", "head_decay"), ""),
    "penalty": (("head_penalty",), ""),
    "momentum": (("optimizer",), "a function that makes one, such as SGD with momentum"),
    "bs": (("batch_size", "finetune_batch_size"), ""),
    "batch": (("batch_size", "finetune_batch_size"), ""),
    "n_epochs": (("epochs", "finetune_epochs"), ""),
    "num_epochs": (("epochs", "finetune_epochs"), ""),
    "max_epochs": (("epochs", "finetune_epochs"), ""),
    "max_iter": (("epochs",), ""),
    "drop": (("dropout",), ""),
    "drop_rate": (("dropout",), ""),
    "grad_clip": (("clip",), ""),
    "clip_grad": (("clip",), ""),
    "gradient_clip_val": (("clip",), ""),
    "max_grad_norm": (("clip",), ""),
    "accumulate_grad_batches": (("accumulation",), ""),
    "gradient_accumulation_steps": (("accumulation",), ""),
    "grad_accum_steps": (("accumulation",), ""),
    "warmup_epochs": (("warmup",), "a share of the steps"),
    "early_stopping": (("patience",), ""),
    "early_stopping_patience": (("patience",), ""),
    "n_iter_no_change": (("patience",), ""),
    "model_ema": (("ema",), ""),
    "model_ema_decay": (("ema",), ""),
    "rank": (("lora_rank",), ""),
    "r": (("lora_rank",), ""),
    "n_estimators": (("members",), ""),
    "ensemble": (("members",), ""),
    # judging
    "val_split": (("val",), ""),
    "valid_pct": (("val",), ""),
    "validation_split": (("val",), ""),
    "validation_fraction": (("val",), ""),
    "test_size": (("val",), "test images are divided off by `Dataset.split`"),
    "cv": (("folds",), ""),
    "k_folds": (("folds",), ""),
    "n_splits": (("folds",), ""),
    "n_folds": (("folds",), ""),
    # the machine
    "random_state": (("seed",), ""),
    "random_seed": (("seed",), ""),
    "cbs": (("callbacks",), ""),
    "amp": (("precision",), ""),
    "fp16": (("precision",), ""),
    "use_amp": (("precision",), ""),
    "logger": (("trackers",), ""),
    "num_workers": ((), "images are read in threads, as many as there are cores"),
    "n_jobs": ((), "images are read in threads, as many as there are cores"),
    "workers": ((), "images are read in threads, as many as there are cores"),
}
"""By the name elsewhere: the settings of here, and what has to be known of them."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence that leads from an unknown name to the settings that it may mean, or none."""
    known = list(known)
    meant, note = ELSEWHERE.get(name, ELSEWHERE.get(name.lower(), ((), "")))
    there = [setting for setting in meant if setting in known]
    if not there and not note:
        # `LearningRate` and `learning-rate` are what they look like.
        there = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=0.6)
    told = f"Did you mean {' or '.join(map(repr, there))}?" if there else ""
    if not note:
        return f" {told}" if told else ""
    return f" {told[:-1]} ({note})?" if told else f" There is none: {note}."
