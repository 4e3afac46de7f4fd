"""Groups of classes, such as benign and malignant: the coarse question and its evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from allkit.errors import ConfigError
from allkit.trust.softmax import log_sum_exp
from allkit.types import Floats

__all__ = ["ClassGroups", "groups_of"]

ALL_GROUPS = {"benign": ("Benign",), "malignant": ("Early", "Pre", "Pro")}
"""The groups of acute lymphoblastic leukaemia: hematogones against the three stages."""


@dataclass(frozen=True)
class ClassGroups:
    """G groups of K classes: `names` `(G,)`, and `of_class` `(K,)`, the position of each class's group."""

    names: tuple[str, ...]
    of_class: tuple[int, ...]

    @classmethod
    def of(cls, groups: Mapping[str, Sequence[str]], classes: Sequence[str]) -> Self:
        """Return the groups of the settings; a class that is in none or in two raises `ConfigError`.

        Classes of a group that the set does not have are left out, and a group that has no class left
        as well: a training without one slide may lack a class.
        """
        if len(groups) < 2:
            raise ConfigError(
                f"class_groups: there is one group, {', '.join(groups)}, so there is nothing to tell "
                f"apart. Give two groups of classes or more."
            )
        owner: dict[str, str] = {}
        for name, members in groups.items():
            for label in members:
                if label in owner:
                    raise ConfigError(
                        f"class_groups: {label!r} is in {owner[label]!r} and in {name!r}. Each class "
                        f"belongs to one group."
                    )
                owner[label] = name
        missing = [label for label in classes if label not in owner]
        if missing:
            raise ConfigError(
                f"class_groups: no group holds {', '.join(missing)}. Every class needs one; the classes "
                f"are {', '.join(classes)}."
            )
        names = tuple(name for name in groups if any(owner[label] == name for label in classes))
        return cls(names, tuple(names.index(owner[label]) for label in classes))

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def members(self) -> npt.NDArray[np.bool_]:
        """Which classes belong to each group, `(G, K)`."""
        table: npt.NDArray[np.bool_] = (
            np.arange(len(self.names))[:, None] == np.array(self.of_class)[None, :]
        )
        return table

    @cached_property
    def single(self) -> npt.NDArray[np.bool_]:
        """Which groups hold one class, `(G,)`: to name the group is to name the class."""
        alone: npt.NDArray[np.bool_] = self.members.sum(axis=1) == 1
        return alone

    def log_odds(self, logits: Floats) -> Floats:
        """Return the log-odds `(N, G)` of each group against all others, from logits `(N, K)`.

        Logarithms of probabilities serve as logits. log Σ exp(zₖ) over the group less the same over
        the other classes.
        """
        values = logits.astype(np.float64)
        columns = [
            log_sum_exp(values[:, inside]) - log_sum_exp(values[:, ~inside])
            for inside in self.members
        ]
        return np.stack(columns, axis=1)

    def probabilities(self, table: Floats) -> Floats:
        """Return the sum of probabilities `(N, K)` over the classes of each group, `(N, G)`."""
        result: Floats = table.astype(np.float64) @ self.members.T
        return result


def groups_of(
    settings: Mapping[str, Sequence[str]] | None, classes: Sequence[str]
) -> ClassGroups | None:
    """Return the groups by the settings, or those of the ALL label set; `None` where there are none.

    One group alone asks no question, and is none.
    """
    if settings is None:
        known = {label for members in ALL_GROUPS.values() for label in members}
        settings = ALL_GROUPS if set(classes) <= known else None
    if not settings:
        return None
    groups = ClassGroups.of(settings, classes)
    return groups if len(groups) > 1 else None
