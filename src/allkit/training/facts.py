"""What a training depends on: a training that is taken up again must share it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from allkit.data.dataset import Dataset
from allkit.evaluation.leakage import relations_hash
from allkit.training.backbone import TrainingBackbone
from allkit.training.description import version
from allkit.training.division import Division

__all__ = ["division_facts", "starting_facts"]


def starting_facts(
    backbone: TrainingBackbone, dataset: Dataset, accelerator: Accelerator
) -> dict[str, Any]:
    """Return all facts at the start on which the weights depend: a resumed training must share them."""
    config = backbone.config
    settings = config.model_dump(mode="json")
    settings["weights"] = Path(config.weights).name  # its content counts, not its place
    return {
        "config": settings,
        "images": _digest([dataset.passes.keys, dataset.labels.tolist()]),
        "backbone": backbone.fingerprint,
        "precision": backbone.precision,
        "processes": accelerator.num_processes,
        "own": list(backbone.own.told(config)),
        "device": accelerator.device.type,
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in ("allkit", "torch", "numpy")},
        **backbone.plugins,
    }


def division_facts(division: Division) -> dict[str, Any]:
    """Return what a resumed training must share of the division."""
    parts = [[learn.tolist(), check.tolist()] for learn, check in division.parts]
    return {"relations": relations_hash(division.dataset), "validation": _digest(parts)}


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
