"""All random numbers of a training, each drawn from the seed and the place in the training.

No generator keeps a state from one step to the next: the draws of step `s` of epoch `e` depend on
the settings only. So a training can be resumed at any step, by any number of processes, with the
same draws.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

__all__ = ["epoch_order", "generator", "seed_of"]


def seed_of(*place: int | str) -> int:
    """Return a seed, 0 to 2⁶³ - 1, that is a function of `place` alone."""
    digest = hashlib.sha256("/".join(map(str, place)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*place: int | str) -> np.random.Generator:
    """Return NumPy's generator for `place`, for instance (seed, member, phase, epoch)."""
    return np.random.default_rng(seed_of(*place))


def epoch_order(
    rng: np.random.Generator, labels: npt.NDArray[np.int64], *, balanced: bool
) -> npt.NDArray[np.int64]:
    """Return the positions `(N,)` of an epoch's images, in the order in which they are learnt from.

    Every image once; `balanced`: N draws with replacement in which every class is alike likely.
    """
    if not balanced:
        return rng.permutation(len(labels))
    sizes = np.bincount(labels)
    chances = 1.0 / sizes[labels]
    return rng.choice(len(labels), size=len(labels), p=chances / chances.sum())
