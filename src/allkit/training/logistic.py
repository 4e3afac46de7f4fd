"""The head on frozen features as a logistic regression: a convex loss, which has one solution."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from allkit.config import TrainConfig
from allkit.errors import AllkitError
from allkit.images.arrays import large_array
from allkit.network.modules import Head
from allkit.training.objective import Objective, class_weights
from allkit.training.plan import History
from allkit.training.sources import FeatureSource
from allkit.types import Floats, Indices

__all__ = ["ABSENT", "ITERATIONS", "TOLERANCE", "LogisticHead"]

ITERATIONS = 1000
"""At most so many; 60 were enough on 1,907 smears."""
TOLERANCE = 1e-5
"""The solution: no element of the gradient is larger. Logits are then right to 0.01."""
MEMORY = 50
"""Steps by which the solver knows how the loss is curved. With the usual 10 it comes so slowly to the
solution that rounding in float32 hides it, and most of the time goes into steps that find nothing."""
ABSENT = -30.0
"""Logit of a class that no image to learn from has. The largest of the others is never below 0."""
ROWS = 4096
"""Number of features that are standardised at once."""


@dataclass
class LogisticHead:
    """Fits a head to the images `learn`, and judges it on the images `check` after each iteration.

    `learn` and `check` are positions in the set, `(N,)` int64; `labels` are those of the whole set,
    on the CPU. The head's mean and scale are fitted already. All copies of an image count alike.

    What is minimised: Σ wᵢ · lossᵢ / Σ wᵢ + `head_penalty` / 2 · ‖W‖², where wᵢ is the weight of
    the image's class, the loss is that of `Objective`, and W are the weights without the biases.
    It is computed on the CPU whatever the device: products of matrices in float32, everything else
    in float64. The same inputs and number of threads give the same bits.
    """

    config: TrainConfig
    head: Head
    source: FeatureSource
    learn: Indices
    check: Indices
    labels: torch.Tensor
    targets: Floats | None = None
    """`(V, n, K)` probabilities, learnt in place of the labels, of each view of the images `learn`: what
    a teacher answers. Classes are weighed by the labels all the same."""
    report: Callable[[dict[str, float], float], None] | None = None
    """Takes the metrics of each iteration, and how long it took in seconds; `None` has only the last
    written down, as for heads of which nothing but their answers is wanted."""
    history: History = field(default_factory=list)

    def __post_init__(self) -> None:
        classes = self.head.linear.out_features
        learnt = self.labels[torch.from_numpy(self.learn)]
        weights = class_weights(learnt, classes, balanced=self.config.class_weights)
        self.objective = Objective.of(self.config, weights)
        # A class without images has no finite solution: its bias would fall for ever.
        self.present = torch.unique(learnt)
        self._present_only = Objective.of(self.config, weights[self.present])
        self._targets = torch.searchsorted(self.present, learnt).repeat(len(self.source.views))
        self._taught = self._targets if self.targets is None else self._of_teacher(self.targets)
        shares = weights[learnt].double().repeat(len(self.source.views))
        self._shares = shares / shares.sum()

    def fit(self) -> History:
        """Give the head its weights; return the metrics of every iteration.

        A warning says when `ITERATIONS` were not enough. Raises `AllkitError` when a feature is
        infinite or no number.
        """
        from scipy.optimize import minimize

        if not bool(torch.isfinite(self.head.mean).all() & torch.isfinite(self.head.scale).all()):
            raise AllkitError(
                "Features of the training images are infinite or no numbers, so no head can be "
                "trained on them. Check the backbone and its weights."
            )
        self._rows = self._standardised(self.learn, range(len(self.source.views)))
        self._judged = self._standardised(self.check, range(1))
        self._last = time.perf_counter()
        start = np.zeros(len(self.present) * (self._rows.shape[1] + 1))
        options = {"maxiter": ITERATIONS, "gtol": TOLERANCE, "ftol": 0.0}
        options |= {"maxfun": 10 * ITERATIONS, "maxcor": MEMORY}
        solution = minimize(
            self.loss,
            start,
            jac=True,
            method="L-BFGS-B",
            callback=None if self.report is None else self._note,
            options=options,
        )
        if not self.history:  # not wanted, or one class alone: the start is the solution
            self._note(solution.x)
        steepest = float(np.abs(solution.jac).max())
        # Rounding in float32 may hide where the loss still falls, with logits that are right to 0.1.
        if steepest > 100 * TOLERANCE:
            warnings.warn(
                f"The head did not reach its solution in {solution.nit} iterations: its gradient "
                f"is {steepest:.1g}, not {TOLERANCE:.0e}. Raise head_penalty (now "
                f"{self.config.head_penalty:g}).",
                stacklevel=2,
            )
        weights, biases = self._split(solution.x)
        with torch.no_grad():
            self.head.linear.weight.copy_(weights)
            self.head.linear.bias.copy_(biases)
        return self.history

    def loss(self, flat: Floats) -> tuple[float, Floats]:
        """Return the penalised loss, and its gradient, of the weights and biases of each class.

        `flat` and the gradient are `(C · (D + 1),)` float64, C the classes that are learnt.
        """
        table = torch.tensor(flat).view(len(self.present), -1).requires_grad_()
        weights = table[:, :-1]
        logits = (self._rows @ weights.float().T).double() + table[:, -1]
        plain = (self._shares * self._present_only.losses(logits, self._taught)).sum()
        total = plain + self.config.head_penalty / 2 * weights.square().sum()
        total.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        self._seen = flat.copy(), logits.detach(), float(plain.detach())
        gradient: Floats = table.grad.numpy().ravel()  # type: ignore[union-attr]  # it was asked for
        return float(total.detach()), gradient

    def _of_teacher(self, targets: Floats) -> torch.Tensor:
        """Return a teacher's probabilities `(V · n, C)` float64 of the classes that are learnt."""
        flat = torch.from_numpy(targets).double().flatten(0, 1)[:, self.present].clamp(min=1e-12)
        return flat / flat.sum(dim=1, keepdim=True)

    def _note(self, flat: Floats) -> None:
        """Write down the metrics of an iteration that ended with these weights and biases."""
        if not np.array_equal(self._seen[0], flat):
            self.loss(flat)
        _, logits, loss = self._seen
        entry = {
            "epoch": float(len(self.history) + 1),
            "train_loss": loss,
            "train_accuracy": float((logits.argmax(1) == self._targets).double().mean()),
        }
        if len(self.check):
            weights, biases = self._split(flat)
            answers = self._judged @ weights.float().T + biases.float()
            labels = self.labels[torch.from_numpy(self.check)]
            entry["val_loss"] = self.objective.judged(answers, labels)
            entry["val_accuracy"] = float((answers.argmax(1) == labels).float().mean())
        self.history.append(entry)
        now = time.perf_counter()
        if self.report is not None:
            self.report(entry, now - self._last)
        self._last = now

    def _split(self, flat: Floats) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weights `(K, D)` and biases `(K,)` float64 of all classes.

        Their mean over the classes that are learnt is zero, which changes no answer; so the logits
        of these add up to zero, and the largest is not below it.
        """
        table = torch.tensor(flat).view(len(self.present), -1)
        table = table - table.mean(dim=0)
        classes = self.head.linear.out_features
        weights = torch.zeros(classes, table.shape[1] - 1, dtype=torch.float64)
        biases = torch.full((classes,), ABSENT, dtype=torch.float64)
        weights[self.present], biases[self.present] = table[:, :-1], table[:, -1]
        return weights, biases

    def _standardised(self, images: Indices, copies: range) -> torch.Tensor:
        """Return what the head's linear layer sees of images, copy after copy: `(n, D)` float32."""
        rows = large_array((len(copies) * len(images), len(self.head.mean)), np.float32)
        at = 0
        with torch.no_grad():
            for copy in copies:
                for start in range(0, len(images), ROWS):
                    features = self.source.rows(images[start : start + ROWS], copy)
                    block = self.head.standardised(torch.from_numpy(features))
                    rows[at : at + len(block)] = block.numpy()
                    at += len(block)
        return torch.from_numpy(rows)
