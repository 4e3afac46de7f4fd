"""What was found out about the images of a set, kept so that nobody has to look again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from allkit.images.same_field import DuplicatePair, Signature

__all__ = ["Known"]


@dataclass
class Known:
    """Hashes, signatures and pairs of one field, in the order of the images; `None`: not yet.

    A set fills it in the first time it is asked, and hands it to sets of the same images.
    """

    hashes: tuple[str, ...] | None = None
    signatures: tuple[Signature, ...] | None = None
    duplicates: tuple[DuplicatePair, ...] | None = None

    def at(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> Known:
        """Return what is known of the images at `indices`, in that order."""
        hashes, signatures = self.hashes, self.signatures
        return Known(
            None if hashes is None else tuple(hashes[i] for i in indices),
            None if signatures is None else tuple(signatures[i] for i in indices),
        )

    def same(self) -> Known:
        """Return it for another set of the same images."""
        return replace(self)

    def and_then(self, other: Known) -> Known:
        """Return what is known of these images and those of `other` behind them."""
        hashes, signatures = self.hashes, self.signatures
        return Known(
            None if hashes is None or other.hashes is None else hashes + other.hashes,
            None
            if signatures is None or other.signatures is None
            else signatures + other.signatures,
        )
