"""A head fitted again to a few fields, with the trained head as the prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.network.modules import Branches, Network
from allkit.trust.softmax import softmax
from allkit.trust.verdict import Trust
from allkit.types import Floats, Ints

__all__ = ["STRENGTHS", "UNCHANGED", "Anchors", "Change", "anchors_of", "fit_change"]
__all__ += ["head_inputs", "head_logits", "move_mean"]


UNCHANGED = "unchanged"
STRENGTHS = {UNCHANGED: np.inf, "weak": 10.0, "medium": 1.0, "strong": 0.1}
"""Weight of the change of the head, relative to the loss on the new fields."""
MOST_ANCHORS = 200


@dataclass(frozen=True)
class Anchors:
    """Signed square roots `(A, D)` of the features of training images, and their classes `(A,)`."""

    roots: Floats
    owners: Ints


@dataclass(frozen=True)
class Change:
    """The change of the weights `(K, D)` and the bias `(K,)` of each head."""

    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]

    def logits(self, inputs: Sequence[Floats]) -> Floats:
        """Return what is added to the logits `(N, K)` of images, by the inputs of each head."""
        added: Floats = np.mean(
            [x @ w.T + b for x, w, b in zip(inputs, self.weights, self.biases, strict=True)], axis=0
        )
        return added

    def apply(self, network: Network) -> None:
        """Change the heads of a network."""
        import torch

        for head, weights, bias in zip(network.heads, self.weights, self.biases, strict=True):
            linear: Any = head.linear
            with torch.no_grad():
                linear.weight += torch.from_numpy(weights.astype(np.float32)).to(linear.weight)
                linear.bias += torch.from_numpy(bias.astype(np.float32)).to(linear.bias)


def move_mean(network: Network, shift: Floats) -> None:
    """Move the mean that the heads subtract by `shift` `(D,)`, in signed square roots of features."""
    import torch

    count = len(network.heads)
    branched = isinstance(network.backbone, Branches)
    parts = np.split(shift, count) if branched else [shift] * count
    for head, part in zip(network.heads, parts, strict=True):
        mean: Any = head.mean
        with torch.no_grad():
            mean += torch.from_numpy(part.astype(np.float32)).to(mean)


def head_inputs(network: Network, roots: Floats) -> list[Floats]:
    """Return the inputs `(N, D)` of each head's linear layer for signed square roots of features."""
    count = len(network.heads)
    parts = (
        np.split(roots, count, axis=1)
        if isinstance(network.backbone, Branches)
        else [roots] * count
    )
    inputs = []
    for head, part in zip(network.heads, parts, strict=True):
        mean, scale = (
            getattr(head, name).cpu().numpy().astype(np.float64) for name in ("mean", "scale")
        )
        inputs.append((part - mean) * scale)
    return inputs


def head_logits(network: Network, inputs: Sequence[Floats]) -> Floats:
    """Return the logits `(N, K)` of the heads as they are."""
    parts = []
    for head, rows in zip(network.heads, inputs, strict=True):
        linear: Any = head.linear
        weight, bias = (
            t.detach().cpu().numpy().astype(np.float64) for t in (linear.weight, linear.bias)
        )
        parts.append(rows @ weight.T + bias)
    logits: Floats = np.mean(parts, axis=0)
    return logits


def anchors_of(trust: Trust, seed: int = 0) -> Anchors | None:
    """Return features of training images that the model keeps; `None` where it keeps none.

    Out-of-distribution detection keeps them in the strongest directions of their features. Projected
    back they lack the other directions; on the public set the head still names the class of 97 to
    98 % of them. At most 200 are used, equally many of each class.
    """
    space = trust.content
    if space is None:
        return None
    rng = np.random.default_rng(seed)
    of_classes = [np.flatnonzero(space.owners == index) for index in range(len(trust.classes))]
    most = MOST_ANCHORS // max(1, sum(len(rows) > 0 for rows in of_classes))
    rows = np.concatenate(
        [
            rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))
            for rows in of_classes
        ]
    )
    back = np.linalg.pinv(space.projection.astype(np.float64))
    return Anchors(space.mean + space.references[rows] @ back, space.owners[rows])


def fit_change(
    network: Network,
    roots: Floats,
    labels: Ints,
    *,
    strength: str,
    anchors: Anchors | None,
) -> Change:
    """Return the change of the heads with the smallest loss on new fields, under a prior.

    `roots` `(N, D)` are the signed square roots of the fields' features, `labels` `(N,)` their
    classes. The loss is the cross-entropy of the new fields, with equal weight for every class; plus
    the cross-entropy between the new and the old answers on the anchors, with as much weight as the
    new fields; plus the squared length of the change, weighted by `strength`: a Gaussian prior
    around the trained head (MAP adaptation, Gauvain & Lee 1994).
    """
    inputs = head_inputs(network, roots)
    # torch says of what a list of modules holds only that they are modules.
    classes = int(network.heads[0].linear.out_features)  # type: ignore[union-attr, arg-type]
    if strength == UNCHANGED:
        return Change(
            tuple(np.zeros((classes, x.shape[1])) for x in inputs),
            tuple(np.zeros(classes) for _ in inputs),
        )
    wanted = np.eye(classes)[labels]
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    present = len(np.unique(labels))
    weight = len(labels) / (present * counts[labels])
    before = head_logits(network, inputs)
    if anchors is not None:
        of_anchors = head_inputs(network, anchors.roots)
        logits = head_logits(network, of_anchors)
        inputs = [np.concatenate([x, y]) for x, y in zip(inputs, of_anchors, strict=True)]
        before = np.concatenate([before, logits])
        wanted = np.concatenate([wanted, softmax(logits)])
        weight = np.concatenate([weight, np.full(len(logits), len(labels) / len(logits))])
    prior = STRENGTHS[strength]
    added = [_least(x, before, wanted, weight=weight, prior=prior) for x in inputs]
    return Change(tuple(weights for weights, _ in added), tuple(bias for _, bias in added))


def _least(
    inputs: Floats, before: Floats, wanted: Floats, *, weight: Floats, prior: float
) -> tuple[Floats, Floats]:
    """Return weights `(K, D)` and bias `(K,)` to add to a head so that its loss is smallest.

    `inputs` `(N, D)` are the inputs of the head for N images, `before` `(N, K)` its logits, `wanted`
    `(N, K)` the target probabilities, and `weight` `(N,)` the weight of each image.
    """
    from scipy.linalg import eigh
    from scipy.optimize import minimize

    # The change lies in the span of the images: as many unknowns as images, not as features. The
    # span comes from the products of the images; a decomposition of the images themselves has failed
    # to converge (LAPACK's gesdd).
    squares, left = eigh(inputs @ inputs.T, driver="evd")
    used = squares > 1e-10 * squares[-1]
    left, sizes = left[:, used], np.sqrt(squares[used])
    rows, right = left * sizes, (left / sizes).T @ inputs
    pull = prior * float((inputs**2).sum(axis=1).mean())
    classes = before.shape[1]

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        table = flat.reshape(classes, -1)
        weights, bias = table[:, :-1], table[:, -1]
        p = softmax(before + rows @ weights.T + bias)
        value = -(weight[:, None] * wanted * np.log(np.maximum(p, 1e-300))).sum()
        gap = weight[:, None] * (p - wanted)
        gradient = np.column_stack([gap.T @ rows + pull * weights, gap.sum(axis=0) + pull * bias])
        return float(value + pull / 2 * (flat**2).sum()), gradient.ravel()

    start = np.zeros(classes * (rows.shape[1] + 1))
    best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    table = best.reshape(classes, -1)
    return table[:, :-1] @ right, table[:, -1]
