"""What may be answered on a slide that was never seen: limits, each chosen on slides left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from allkit.trust.softmax import softmax
from allkit.types import Doubles, Floats

__all__ = [
    "LEAST_COARSE",
    "SIZES",
    "Limit",
    "SlideLimits",
    "SlideVerdict",
    "bound",
    "cooled",
    "least_evidence",
    "limit_of_slides",
]

SIZES = (1, 3, 5, 10, 20)
"""Numbers of fields for which a verdict on a slide is fitted."""
LEAST = 0.8
"""Probability of a class below which no reader takes an answer for more than a guess."""
LEAST_COARSE = 0.9
"""Probability of a group of classes below which a reader would call the answer a guess."""


class Limit(NamedTuple):
    """A limit, and whether it is `empirical`: too few slides were left out to promise the risk."""

    limit: float
    empirical: bool


def limit_of_slides(needs: Floats, risk: float, margin: float) -> Limit:
    """Return the limit for slides that were never seen, from what each of n left-out slides needs.

    `needs` `(n,)` are the smallest limits at which each slide is not answered wrongly. A new slide,
    exchangeable with these, needs more than the k-th smallest of them with probability 1 − k / (n + 1)
    at most (split conformal prediction, Vovk 2005). Where n slides suffice for the asked `risk`
    that k-th value is the limit. With fewer, nothing can be promised: it is then the strictest of all,
    raised by the share `margin` of itself, and `empirical`. Infinite for no slide.
    """
    count = len(needs)
    if not count:
        return Limit(math.inf, True)
    rank = math.ceil((count + 1) * (1 - risk) - 1e-9)
    if rank > count:
        strictest = float(np.max(needs))
        return Limit(strictest + margin * abs(strictest), True)
    return Limit(float(np.sort(needs)[rank - 1]), False)


def cooled(temperature: float) -> Doubles:
    """Return the temperatures `(S,)` of the mean evidence over `SIZES` fields, from that of one.

    The noise of fields goes from their mean with the square root of their number, that of their slide
    stays: the temperature falls with the fourth root.
    """
    temperatures: Doubles = temperature * np.array(SIZES, dtype=np.float64) ** -0.25
    return temperatures


def least_evidence(temperatures: Floats) -> Doubles:
    """Return the evidence `(S,)` at which the probability of a group is `LEAST_COARSE`."""
    return np.asarray(temperatures * math.log(LEAST_COARSE / (1 - LEAST_COARSE)), np.float64)


def bound(wrong: int, count: int, level: float = 0.95) -> float:
    """Return the exact one-sided upper bound of a share of which `wrong` of `count` were seen.

    Clopper & Pearson 1934. None of five slides: up to 0.451 at the level 0.95.
    """
    from scipy.stats import beta

    if not count or wrong >= count:
        return 1.0
    return float(beta.ppf(level, wrong + 1, count - wrong))


class SlideVerdict(NamedTuple):
    """The coarse answer for one slide: the position of its group, its probability, whether it may be
    accepted, and how many more fields would settle it (0 when settled, `None` when unknown)."""

    group: int
    probability: float
    accepted: bool
    fields_needed: int | None


@dataclass(frozen=True)
class SlideLimits:
    """What was fitted on slides that were left out of the training, one after another.

    Evidence is the log-odds of a group of classes against all others, from the logits as they come.
    On a slide that was not seen in training, a field is answered with group g where its evidence
    exceeds `of_group[g]` `(G,)`, infinite where no slide could tell. `of_fields` `(S, G)` are the same
    limits for the mean evidence over `SIZES[s]` fields of one slide. `temperatures` `(S,)` divide the
    evidence of so many fields into log-odds that are calibrated over the slides left out.
    `appearance` and `total` are the OOD scores, by appearance and in all, up to which a field counts
    as one of a known slide. `content` `(G,)` is the OOD score by content, of a field or the mean over
    several, up to which what is shown may be answered with each group.
    `counts` `(G,)` are the numbers of slides of each group that were left out, `tested` `(G,)` for how many
    the others sufficed to choose a limit without them, and `wrong` `(G,)` on how many of these that
    limit accepted a wrong answer. `one_slide` `(K,)` says which classes were seen on one slide only.
    """

    of_group: Floats
    of_fields: Floats
    temperatures: Floats
    appearance: float
    content: Floats
    total: float
    counts: Floats
    tested: Floats
    wrong: Floats
    one_slide: Floats
    risk: float
    margin: float
    empirical: bool = field(default=True)

    def probabilities(self, evidence: Floats, fields: int = 1) -> Floats:
        """Return the probabilities `(N, G)` of evidence `(N, G)`, of the mean over so many fields."""
        temperature = self.temperatures[self._size(fields)]
        if evidence.shape[1] == 2:
            # The log-odds of two groups are each other's negative: half of each gives their logits.
            return softmax(evidence / (2 * temperature))
        return softmax(evidence / temperature)

    def slide(self, evidence: Floats, ood_scores: Floats) -> SlideVerdict:
        """Return the coarse answer for a slide.

        It rests on the evidence `(n, G)` of its n fields and their OOD scores by content `(n,)`.
        """
        fields = len(evidence)
        mean = evidence.mean(axis=0)
        group = int(mean.argmax())
        probability = float(self.probabilities(mean[None], fields)[0, group])
        if not ood_scores.mean() <= self.content[group]:
            return SlideVerdict(group, probability, False, None)
        accepted = self._suffices(mean, group, fields)
        if accepted:
            return SlideVerdict(group, probability, True, 0)
        more = [size - fields for size in SIZES if size > fields]
        needed = next((n for n in more if self._suffices(mean, group, fields + n)), None)
        return SlideVerdict(group, probability, False, needed)

    def summary(self, groups: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
        """Return what is known of slides that were not seen in plain numbers, for the model card."""
        return {
            "groups": {
                name: {
                    "left_out": int(self.counts[group]),
                    "tested": int(self.tested[group]),
                    "accepted_wrongly": int(self.wrong[group]),
                    "limit": float(self.of_group[group]),
                }
                for group, name in enumerate(groups)
            },
            "risk": self.risk,
            "margin": self.margin,
            "empirical": self.empirical,
            "one_slide_classes": [
                name for name, alone in zip(classes, self.one_slide, strict=True) if alone
            ],
        }

    def _suffices(self, mean: Floats, group: int, fields: int) -> bool:
        likely = self.probabilities(mean[None], fields)[0, group] >= LEAST_COARSE
        return bool(likely and mean[group] > self.of_fields[self._size(fields), group])

    @staticmethod
    def _size(fields: int) -> int:
        """Return which of `SIZES` serves so many fields: the largest that is not more."""
        return max(0, sum(size <= fields for size in SIZES) - 1)
