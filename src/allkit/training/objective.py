"""What a training step minimises."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from allkit.config import TrainConfig
from allkit.training.own import NOTHING, OwnParts

__all__ = ["Mix", "Objective", "class_weights", "mix"]


@dataclass(frozen=True)
class Objective:
    """The loss of each image: cross-entropy or focal loss, smoothed, weighted by class.

    The loss of a batch is Σ wᵢ·lossᵢ / Σ wᵢ, where wᵢ is the weight of the image's class.
    """

    weights: torch.Tensor
    """`(K,)` float32, one weight a class."""
    gamma: float = 0.0
    smoothing: float = 0.0
    own: OwnParts = NOTHING

    @classmethod
    def of(cls, config: TrainConfig, weights: torch.Tensor, own: OwnParts = NOTHING) -> Objective:
        """Return the objective of the settings."""
        gamma = config.focal_gamma if config.loss == "focal" else 0.0
        return cls(weights, gamma, config.label_smoothing, own)

    def losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss `(N,)` of logits `(N, K)` and labels `(N,)`, not yet weighted.

        It is float64 for logits in float64, else float32. In place of labels, probabilities `(N, K)` of
        the dtype of the loss may be given, but not with the focal loss.
        Focal loss: (1 - p)^γ times the cross-entropy, p the probability of the right class (Lin
        et al. 2017).
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.own.loss is not None:
            return self.own.losses(logits, labels)
        losses = nn.functional.cross_entropy(
            logits, labels, reduction="none", label_smoothing=self.smoothing
        )
        if self.gamma:
            right = torch.softmax(logits, dim=1).gather(1, labels[:, None])[:, 0]
            losses = losses * (1 - right) ** self.gamma
        return losses

    def judged(self, logits: torch.Tensor, labels: torch.Tensor) -> float:
        """Return the plain cross-entropy, weighted by class: what validation compares."""
        return float(nn.functional.cross_entropy(logits.float(), labels, self.weights))


def class_weights(labels: torch.Tensor, classes: int, *, balanced: bool) -> torch.Tensor:
    """Return `(K,)` float32: N / (K · N_k) where `balanced`, else ones."""
    if not balanced:
        return torch.ones(classes)
    sizes = torch.bincount(labels, minlength=classes).clamp(min=1)
    return len(labels) / (classes * sizes.float())


@dataclass(frozen=True)
class Mix:
    """The image with which each was mixed, and the share of itself that is left."""

    partners: torch.Tensor
    share: float


def mix(
    inputs: torch.Tensor, rng: np.random.Generator, *, mixup: float, cutmix: float
) -> tuple[torch.Tensor, Mix | None]:
    """Mix the images of a batch pairwise: mixup or, for inputs `(N, C, H, W)`, cutmix.

    The share of the image that stays is drawn from Beta(α, α) (Zhang et al. 2018, Yun et al.
    2019); with both settings, each is used half of the time.
    """
    if inputs.ndim != 4:
        cutmix = 0.0
    if not mixup and not cutmix:
        return inputs, None
    cutting = bool(cutmix) and (not mixup or rng.random() < 0.5)
    alpha = cutmix if cutting else mixup
    share = float(rng.beta(alpha, alpha))
    partners = torch.from_numpy(rng.permutation(len(inputs))).to(inputs.device)
    others = inputs[partners]
    if not cutting:
        return inputs * share + others * (1 - share), Mix(partners, share)
    top, bottom = _span(inputs.shape[2], share, rng)
    left, right = _span(inputs.shape[3], share, rng)
    mixed = inputs.clone()
    mixed[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
    area = (bottom - top) * (right - left) / (inputs.shape[2] * inputs.shape[3])
    return mixed, Mix(partners, 1 - area)


def _span(length: int, share: float, rng: np.random.Generator) -> tuple[int, int]:
    half = length * float(np.sqrt(1 - share)) / 2
    centre = float(rng.uniform(0, length))
    return max(0, round(centre - half)), min(length, round(centre + half))
