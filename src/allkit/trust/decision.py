"""What a network gives, and what may be done with it: outputs, decisions and the rules behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from allkit.images.statistics import STATISTIC_NAMES
from allkit.records import Verdict
from allkit.trust import reasons
from allkit.trust.groups import ClassGroups
from allkit.trust.slides import LEAST_COARSE, SlideLimits
from allkit.types import Floats

if TYPE_CHECKING:
    from allkit.images.cells import Cells

__all__ = [
    "CoarseDecision",
    "Decision",
    "Outputs",
    "Rule",
    "groups_disagree",
    "no_more_than",
    "set_table",
    "unusual_aspects",
]


class Outputs(NamedTuple):
    """What a network gives for N images: logits `(N, K)` and pooled features `(N, D)`, float32.

    Where the bag holds cells, `cells` are those of each image, and `tiles` the logits `(T, K)` of each
    tile of an image by itself, `None` for an image of one tile.
    """

    logits: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    cells: Sequence[Cells] | None = None
    tiles: Sequence[npt.NDArray[np.float32] | None] | None = None

    @classmethod
    def of_probabilities(cls, probabilities: npt.NDArray[np.float32]) -> Self:
        """Take what a file gives that was exported with probabilities `(N, K)` only."""
        logits = np.log(np.maximum(probabilities, 1e-12))
        return cls(logits, np.empty((len(probabilities), 0), np.float32))


class CoarseDecision(NamedTuple):
    """The answer to the coarse question: the position of the group of classes, its probability, and
    what may be done with it. `evidence` holds the log-odds of every group, in order, and `ood_score`
    says how unlike the training images the content is, `None` where that is not known."""

    group: int
    probability: float
    verdict: Verdict
    evidence: tuple[float, ...]
    ood_score: float | None = None


class Decision(NamedTuple):
    """What may be done with an answer, the codes of the reasons against accepting it
    (`allkit.trust.reasons`), the classes that cannot be ruled out (positions), and the coarse
    answer, where the classes are in groups."""

    verdict: Verdict
    codes: tuple[str, ...]
    prediction_set: tuple[int, ...]
    coarse: CoarseDecision | None = None

    def refused(self, codes: tuple[str, ...]) -> Decision:
        """Return the decision, but refused for these reasons; as it is where there are none."""
        if not codes:
            return self
        coarse = None if self.coarse is None else self.coarse._replace(verdict="refused")
        return Decision("refused", (*codes, *self.codes), self.prediction_set, coarse)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons in words."""
        return reasons.texts_of(self.codes)


class Rule(NamedTuple):
    """A reason against accepting an answer: its code, for which of N images it holds `(N,)`, and
    the verdict it leads to. With `aspects` it also says what is unusual about the image."""

    code: str
    holds: npt.NDArray[np.bool_]
    leads_to: Verdict
    aspects: bool = False


def groups_disagree(logits: Floats, groups: ClassGroups, slides: SlideLimits) -> bool:
    """Return whether parts of one image, logits `(T, K)`, speak for different groups of classes.

    Each at a probability that is no guess.
    """
    table = slides.probabilities(groups.log_odds(logits))
    sure = table.max(axis=1) >= LEAST_COARSE
    return len(np.unique(table.argmax(axis=1)[sure])) > 1


def unusual_aspects(statistics: Floats, ranges: Floats | None, most: int) -> tuple[str, ...]:
    """Return codes of at most so many aspects of an image that lie farthest outside `ranges`.

    `statistics` `(M,)` are those of the image, and `ranges` `(M, 2)` what is usual, if known.
    """
    if ranges is None:
        return ()
    low, high = ranges[:, 0], ranges[:, 1]
    width = np.maximum(high - low, 1e-6)
    outside = np.maximum(low - statistics, statistics - high) / width
    codes: list[str] = []
    for index in np.argsort(-outside):
        if outside[index] <= 0 or len(codes) == most:
            break
        code = reasons.UNUSUAL[STATISTIC_NAMES[index].split("_")[0]]
        if code not in codes:
            codes.append(code)
    return tuple(codes)


def no_more_than(now: Decision, before: Decision, *, alike: bool) -> Decision:
    """Return a decision by a head that followed a stain, but accept no more than `before` it did."""
    coarse, earlier = now.coarse, before.coarse
    if coarse is not None and coarse.verdict == "accepted":
        same = earlier is not None and earlier.group == coarse.group
        if not same or earlier is None or earlier.verdict != "accepted":
            now = now._replace(coarse=coarse._replace(verdict="review"))
    if now.verdict == "accepted" and (not alike or before.verdict != "accepted"):
        return now._replace(verdict="review", codes=(*now.codes, reasons.BY_STAIN_ONLY))
    return now


def set_table(decisions: Sequence[Decision], classes: int) -> npt.NDArray[np.bool_]:
    """Return the prediction sets as a table, `(N, K)` bool."""
    table = np.zeros((len(decisions), classes), dtype=bool)
    for row, decision in enumerate(decisions):
        table[row, list(decision.prediction_set)] = True
    return table
