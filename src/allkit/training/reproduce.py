"""Training a model again from its provenance, and comparing the result."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from allkit.config import TrainConfig
from allkit.config.own import own_parts
from allkit.data.dataset import Dataset
from allkit.errors import CheckpointError, ConfigError
from allkit.features import FeatureCache
from allkit.model.classifier import Classifier
from allkit.model.info import ModelInfo
from allkit.model.provenance import differences
from allkit.network.hashes import arrays_hash
from allkit.training import Trainer
from allkit.training.device import threads
from allkit.training.division import whole_set
from allkit.training.plan import ENDED
from allkit.types import Progress

__all__ = ["TOLERANCE", "Reproduction", "reproduce"]

TOLERANCE = 0.02
"""Largest difference of a probability that still counts as the same model, if no label changes."""
COMPARED = 64
"""Images on which two models that are not identical are compared."""


@dataclass(frozen=True)
class Reproduction:
    """The result of a reproduction.

    `identical`: every weight has the same bits. `within tolerance`: on `compared` of the images
    both name the same class, and no probability differs by more than `TOLERANCE`. `different`:
    anything else, or the training could not be repeated because the images or the backbone's
    weights are not those of the model. `reasons` names what differs between the two trainings.
    """

    verdict: Literal["identical", "within tolerance", "different"]
    message: str
    reasons: tuple[str, ...] = ()
    largest_difference: float | None = None
    changed_labels: int | None = None
    compared: int = 0
    retrained: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self) | {"reasons": list(self.reasons), "tolerance": TOLERANCE}


def reproduce(
    model: Classifier,
    train: Dataset,
    val: Dataset | None = None,
    *,
    weights: str | None = None,
    device: str | None = None,
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
) -> tuple[Reproduction, Classifier | None]:
    """Train again with the model's settings, seed and number of threads; compare the two.

    `train` and `val` must be divided as they were. `weights` is the backbone's file, if it was a
    file; its hash is checked. Without a `cache`, as by default, nothing is taken from an earlier
    run: everything is computed again.

    Returns the result and the new model, which is `None` when the images or the weights are not
    those of the model, so that nothing can be repeated. Raises `CheckpointError` when the
    model has no provenance, and `ConfigError` when its weights file is not given.
    """
    info = model.info
    provenance = info.provenance
    if info.adaptations:
        raise CheckpointError(
            "This model was adapted after its training. Reproduce the model that it was adapted "
            "from, and adapt again: `allkit adapt` gives the same result from the same images."
        )
    if info.distillation is not None:
        raise CheckpointError(
            f"This model learnt the answers of another one ({info.distillation.teacher}), not the labels. "
            f"Reproduce that one, and distil it again: the same images give the same student."
        )
    if provenance is None:
        raise CheckpointError(
            "This model was saved without a provenance, by an older allkit, so it cannot be "
            "compared. Train it again."
        )
    _require_no_own_parts(info)
    strange = _strange_images(info, train, val)
    if strange:
        return Reproduction("different", strange, (strange,), retrained=False), None
    config = _settings(info.config, weights, device)
    with (
        # The order of a sum, and with it its last bit, depends on how many threads share it.
        threads(provenance.threads),
        tempfile.TemporaryDirectory(prefix="allkit-", ignore_cleanup_errors=True) as folder,
    ):
        # An empty cache of its own: nothing is found in it, and values are rounded as in the first run.
        kept = cache or FeatureCache(Path(folder))
        again = Trainer(config, cache=kept, progress=progress).fit(train, val)
    now = again.info.provenance
    if now is None:
        raise CheckpointError("The new training left no provenance.")
    reasons = tuple(differences(provenance, now))
    if arrays_hash(_arrays(model)) == arrays_hash(_arrays(again)):
        return Reproduction("identical", "Every weight has the same bits.", reasons), again
    largest, changed, compared = _compare(model, again, train)
    verdict: Literal["within tolerance", "different"] = "within tolerance"
    if changed or largest > TOLERANCE:
        verdict = "different"
    message = (
        f"On {compared} images {changed} labels changed and no probability differs by more than "
        f"{largest:.2g}; allowed are none and {TOLERANCE}."
    )
    if not reasons:
        reasons = (
            "nothing that the provenance holds: a computation that is not repeatable on this "
            "device, or a plugin that draws at random",
        )
    return Reproduction(
        verdict, message, reasons, largest, changed_labels=changed, compared=compared
    ), again


def _settings(config: TrainConfig, weights: str | None, device: str | None) -> TrainConfig:
    values: dict[str, Any] = {"trackers": ()}
    if device is not None:
        values["device"] = device
    if weights is not None:
        values["weights"] = weights
    elif config.weights not in ("default", "none"):
        raise ConfigError(
            f"The model began with the weights file {config.weights}, which its folder does not "
            f"hold. Give it: `weights`, on the command line --weights PATH."
        )
    return TrainConfig.parse(config.model_dump() | values)


def _require_no_own_parts(info: ModelInfo) -> None:
    """Raise `CheckpointError` for a model that depends on objects which its folder does not hold."""
    parts = own_parts(info.config.model_dump())
    if any(ENDED in entry for history in info.history for entry in history):
        parts += tuple(part for part in info.own if part.startswith("callback "))
    if parts:
        raise CheckpointError(
            f"This model was trained with own parts ({', '.join(parts)}), of which its folder holds only the "
            f"names, so its training cannot be repeated from it. Train again with the same parts, and "
            f"compare `content_hash()` of the two."
        )


def _strange_images(info: ModelInfo, train: Dataset, val: Dataset | None) -> str:
    """Return a sentence when the images are not those of the model, or an empty string."""
    hashes = [*train.hashes, *(val.hashes if val is not None else ())]
    before, now = set(info.data.images_sha256), set(hashes)
    if before != now:
        return (
            f"These are not the images it was trained on: {len(before - now)} of its "
            f"{len(before)} are missing, and {len(now - before)} are new."
        )
    if info.provenance is not None and whole_set(train, val).fingerprint != info.provenance.data:
        return "The images are those it was trained on, but their labels or their number are not."
    return ""


def _arrays(model: Classifier) -> dict[str, torch.Tensor]:
    return dict(model.network.state_dict())


def _compare(a: Classifier, b: Classifier, data: Dataset) -> tuple[float, int, int]:
    """Return the largest difference of a probability, the changed labels, and on how many images."""
    chosen = np.unique(np.linspace(0, len(data) - 1, min(COMPARED, len(data))).astype(int))
    largest, changed = 0.0, 0
    for part in _parts([int(i) for i in chosen], 16):
        images = [data.read(index) for index in part]
        ours, theirs = a.probabilities(images), b.probabilities(images)
        largest = max(largest, float(np.abs(ours - theirs).max()))
        changed += int((ours.argmax(1) != theirs.argmax(1)).sum())
    return largest, changed, len(chosen)


def _parts(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (items[start : start + size] for start in range(0, len(items), size))
