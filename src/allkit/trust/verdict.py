"""The one place where a verdict is decided, from plain arrays and without torch.

`Trust` holds what was fitted on images that the model had not learnt from: a temperature,
thresholds of the prediction sets, and where the training images lie, by which an image of an
unknown slide is recognised. The functions that fit it are in `allkit.trust.fit`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from allkit.images.statistics import STATISTIC_NAMES
from allkit.records import Verdict
from allkit.trust import arrays as stored
from allkit.trust import reasons
from allkit.trust.decision import (
    CoarseDecision,
    Decision,
    Outputs,
    Rule,
    groups_disagree,
    no_more_than,
    set_table,
    unusual_aspects,
)
from allkit.trust.groups import ClassGroups, groups_of
from allkit.trust.slides import LEAST, LEAST_COARSE, SlideLimits
from allkit.trust.softmax import softmax
from allkit.trust.space import HIGHEST_SCORE, Space, signed_sqrt
from allkit.types import Floats

__all__ = ["CoarseDecision", "Decision", "Outputs", "Trust", "set_table"]


FLAT = 0.05
"""Optical density between the background and the dark end below which a picture is empty."""
MOST_ASPECTS = 2
"""Unusual aspects that are named of an image, those farthest from the training images."""

_BACKGROUND = [STATISTIC_NAMES.index(f"background_{c}") for c in "rgb"]
_DARKEST = [STATISTIC_NAMES.index(f"darkest_{c}") for c in "rgb"]
_SHARE = STATISTIC_NAMES.index("cell_share")


class _Ood(NamedTuple):
    """How far N images lie from the training images: OOD scores `(N,)` by content, by appearance
    and in all, whether they are `foreign`: unlike anything trained on, and whether by appearance
    the class that was answered is the nearest one."""

    content: Floats
    appearance: Floats
    total: Floats
    foreign: npt.NDArray[np.bool_]
    nearest: npt.NDArray[np.bool_]


class _Coarse(NamedTuple):
    """The coarse answers of N images: evidence and probabilities `(N, G)`, the answered groups
    `(N,)`, which answers may be accepted if nothing stands against the image, and which images are
    `divided`: parts of them speak for different groups."""

    evidence: Floats
    probabilities: Floats
    group: npt.NDArray[np.int64]
    accepted: npt.NDArray[np.bool_]
    divided: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Trust:
    """What a model knows about how far it can be trusted; every part may be missing.

    `temperature` divides the logits of an image that lies among the training images;
    `density_slope` says how it rises for each standard deviation of the OOD score by content.
    `thresholds` `(K,)`: a class is in the set of an image when 1 − its probability does not exceed
    its threshold; infinite where there were too few examples to promise `coverage`. `confidence`
    is the probability below which an answer is for review. A slide is unfamiliar when its OOD
    score, summed over `appearance` and `content`, exceeds `familiar`. `ranges` `(M, 2)` are the
    0.5 and 99.5 % quantiles of the training images' statistics; `cell_floor` the share of stained
    cells below which there is nothing to see. `offset` `(K,)` gives, added to the logits, those
    before the head followed a stain without labels: what was not accepted by them is not accepted.
    `groups` are those of the coarse question, and `slides` the limits for slides that were not seen
    in training; without these a coarse answer is for review.
    """

    classes: tuple[str, ...]
    temperature: float | None = None
    density_slope: float = 0.0
    coverage: float = 0.95
    thresholds: Floats | None = None
    confidence: float = 0.0
    appearance: Space | None = None
    content: Space | None = None
    familiar: float = np.inf
    ranges: Floats | None = None
    cell_floor: float = 0.0
    offset: Floats | None = None
    groups: ClassGroups | None = None
    slides: SlideLimits | None = None

    @property
    def calibrated(self) -> bool:
        """Whether probabilities are calibrated and prediction sets can be made."""
        return self.temperature is not None and self.thresholds is not None

    # ── probabilities and prediction sets ──────────────────────────────────────────────────

    def probabilities(self, outputs: Outputs) -> npt.NDArray[np.float32]:
        """Return `(N, K)` float32 probabilities, calibrated where the model is."""
        if self.content is None or not self.density_slope:
            return self.probabilities_at(outputs.logits, np.zeros(len(outputs.logits)))
        distance = self.content.distances(signed_sqrt(outputs.features), len(self.classes))
        answered = np.arange(len(distance)), outputs.logits.argmax(axis=1)
        return self.probabilities_at(outputs.logits, self.content.ood_score(distance[answered]))

    def probabilities_at(self, logits: Floats, ood_scores: Floats) -> npt.NDArray[np.float32]:
        """Return the probabilities `(N, K)` of logits `(N, K)` at OOD scores by content `(N,)`."""
        rise = np.exp(self.density_slope * np.clip(ood_scores, 0, HIGHEST_SCORE))
        scaled = logits.astype(np.float64) / ((self.temperature or 1.0) * rise)[:, None]
        return softmax(scaled).astype(np.float32)

    def sets(self, probabilities: Floats) -> npt.NDArray[np.bool_]:
        """Return which classes are in the prediction sets, `(N, K)`; none without calibration."""
        if self.thresholds is None:
            return np.zeros(probabilities.shape, dtype=bool)
        members: npt.NDArray[np.bool_] = (1 - probabilities.astype(np.float64)) <= self.thresholds
        return members

    # ── verdicts ───────────────────────────────────────────────────────────────────────────

    def decide(self, outputs: Outputs, statistics: Floats) -> list[Decision]:
        """Return the verdict on each of N images; `statistics` is `(N, M)`."""
        return self.judge(outputs, statistics)[1]

    def judge(
        self, outputs: Outputs, statistics: Floats
    ) -> tuple[npt.NDArray[np.float32], list[Decision]]:
        """Return the probabilities `(N, K)` and the verdict on each of N images."""
        probabilities, decisions = self._judged(outputs, statistics)
        if self.offset is None or not len(statistics):
            return probabilities, decisions
        before = outputs._replace(logits=(outputs.logits + self.offset).astype(np.float32))
        _, earlier = self._judged(before, statistics)
        same = before.logits.argmax(axis=1) == outputs.logits.argmax(axis=1)
        return probabilities, [
            no_more_than(now, then, alike=bool(alike))
            for now, then, alike in zip(decisions, earlier, same, strict=True)
        ]

    def _judged(
        self, outputs: Outputs, statistics: Floats
    ) -> tuple[npt.NDArray[np.float32], list[Decision]]:
        """Return the probabilities and verdicts by the logits as they are."""
        if not len(statistics):
            return np.empty((0, len(self.classes)), np.float32), []
        ood = self._ood(outputs, statistics)
        probabilities = self.probabilities_at(outputs.logits, ood.content)
        members = self.sets(probabilities) & self.calibrated
        answered = outputs.logits.argmax(axis=1)
        confidence = probabilities[np.arange(len(members)), answered]
        recognised = self._recognised(ood)
        coarse = self._coarse(outputs, probabilities, recognised, ood=ood)
        clear = recognised | self._named_by_group(coarse)
        doubts = (
            *self._rules_of_the_image(outputs, statistics, ood, clear),
            *self._rules_of_the_slide(answered, clear, coarse),
            *self._rules_of_the_answer(members, confidence),
        )
        return probabilities, [
            self._with_coarse(
                self._decision(doubts, row, statistics[row], members[row]),
                coarse,
                row,
                ood_score=None if self.content is None else float(ood.content[row]),
            )
            for row in range(len(statistics))
        ]

    def _recognised(self, ood: _Ood) -> npt.NDArray[np.bool_]:
        """Return which of N images look like those of a slide that was in the training."""
        # Not `>`: a distance that is not a number must not pass for near.
        if self.slides is None:
            return (ood.total <= self.familiar) & ~ood.foreign
        near = (ood.appearance <= self.slides.appearance) & (ood.total <= self.slides.total)
        return near & ood.nearest & ~ood.foreign

    def _far(self, ood: _Ood) -> npt.NDArray[np.bool_]:
        """Return which of N images show the head what is unlike anything it learnt of any group."""
        if self.slides is None:
            return np.zeros(len(ood.content), dtype=bool)
        return np.asarray(~(ood.content <= self.slides.content.max()), np.bool_)

    def _coarse(
        self,
        outputs: Outputs,
        probabilities: npt.NDArray[np.float32],
        recognised: npt.NDArray[np.bool_],
        *,
        ood: _Ood,
    ) -> _Coarse | None:
        """Return the coarse answers of N images; `None` where the classes are in no groups."""
        if self.groups is None:
            return None
        evidence = self.groups.log_odds(outputs.logits)
        group = evidence.argmax(axis=1)
        rows = np.arange(len(group))
        # The class with the highest probability may be of another group: then neither is accepted.
        alike = np.array(self.groups.of_class)[outputs.logits.argmax(axis=1)] == group
        by_class = self.groups.probabilities(probabilities)
        if self.slides is None:
            none = np.zeros(len(group), dtype=bool)
            return _Coarse(evidence, by_class, group, accepted=none, divided=none)
        # What was shown without labels is no longer refused as foreign, but nobody said what it is.
        far = ~(ood.content <= self.slides.content[group]) | ood.foreign
        by_slide = self.slides.probabilities(evidence)
        # The temperature of unseen slides knows nothing of what is far from all of them.
        table = np.where((recognised | far)[:, None], by_class, by_slide)
        likely = table[rows, group] >= LEAST_COARSE
        beyond = evidence[rows, group] > self.slides.of_group[group]
        # On a known slide the answer is as sure as the probability; on others it has to pass the limit.
        accepted = likely & (beyond | (recognised & (table[rows, group] >= self.confidence)))
        divided = self._divided(outputs)
        accepted &= alike & (recognised | ~far) & self.calibrated & ~divided
        return _Coarse(evidence, table, group, accepted=accepted, divided=divided)

    def _rules_of_the_image(
        self,
        outputs: Outputs,
        statistics: Floats,
        ood: _Ood,
        clear: npt.NDArray[np.bool_],
    ) -> tuple[Rule, ...]:
        """Return what may stand against N images, whatever was answered, in order."""
        every = np.ones(len(statistics), dtype=bool)
        unfamiliar, far = ~clear, self._far(ood)
        seen = self._seen(outputs, statistics)
        no_space = self.appearance is None and self.content is None
        # What was shown without labels is a smear, and stays for review: nobody said of which class.
        return (
            Rule(reasons.NOTHING_TO_SEE, self._empty(statistics), "refused"),
            Rule(reasons.UNLIKE_TRAINING, ood.foreign & ~seen, "refused", aspects=True),
            Rule(reasons.NOT_CALIBRATED, every & (not self.calibrated), "review"),
            Rule(reasons.NO_OOD_DETECTION, every & no_space, "review"),
            Rule(reasons.UNLIKE_TRAINING, unfamiliar & far, "review", aspects=True),
            Rule(reasons.UNFAMILIAR_SLIDE, unfamiliar & ~far, "review", aspects=True),
            Rule(reasons.SEEN_WITHOUT_LABELS, unfamiliar & seen, "review"),
        )

    def _divided(self, outputs: Outputs) -> npt.NDArray[np.bool_]:
        """Return which of N images have tiles that speak for different groups."""
        groups, slides = self.groups, self.slides
        if groups is None or slides is None or outputs.tiles is None:
            return np.zeros(len(outputs.logits), dtype=bool)
        divided = [t is not None and groups_disagree(t, groups, slides) for t in outputs.tiles]
        return np.array(divided, dtype=bool)

    def _named_by_group(self, coarse: _Coarse | None) -> npt.NDArray[np.bool_] | bool:
        """Return which classes are said with their group: it has no other, and is accepted."""
        if coarse is None or self.groups is None or self.slides is None:
            return False
        return coarse.accepted & self.groups.single[coarse.group]

    def _rules_of_the_slide(
        self,
        answered: npt.NDArray[np.int64],
        clear: npt.NDArray[np.bool_],
        coarse: _Coarse | None,
    ) -> tuple[Rule, ...]:
        """Return what may stand against the answers for N images since their slide is not known.

        The class of an image is `clear` where its slide is recognised, or its group says it.
        """
        if self.groups is None or coarse is None:
            return ()
        if self.slides is None:
            every = np.ones(len(answered), dtype=bool)
            return (Rule(reasons.NOT_CALIBRATED_FOR_SLIDES, every, "accepted"),)
        several = ~self.groups.single[coarse.group]
        one_slide = self.slides.one_slide[answered].astype(bool)
        return (
            Rule(reasons.PARTS_DISAGREE, coarse.divided, "review"),
            Rule(reasons.GROUP_UNCERTAIN, ~coarse.accepted, "review"),
            Rule(reasons.SUBTYPE_UNKNOWN, coarse.accepted & several & ~clear, "review"),
            Rule(reasons.ONE_SLIDE_CLASS, one_slide & ~clear, "review"),
        )

    def _rules_of_the_answer(
        self,
        members: npt.NDArray[np.bool_],
        confidence: Floats,
    ) -> tuple[Rule, ...]:
        """Return what may stand against N answers with these sets `(N, K)` and probabilities."""
        if self.thresholds is None or not self.calibrated:
            return ()
        size = members.sum(axis=1)
        unpromised = members[:, np.isinf(self.thresholds)].any(axis=1)
        least = self.confidence
        if self.slides is not None:
            least = max(least, LEAST)
        return (
            Rule(reasons.EMPTY_SET, size == 0, "review"),
            Rule(reasons.AMBIGUOUS, size > 1, "review"),
            Rule(reasons.TOO_FEW_EXAMPLES, (size > 1) & unpromised, "review"),
            Rule(reasons.LOW_CONFIDENCE, confidence < least, "review"),
        )

    def _decision(
        self, rules: Sequence[Rule], row: int, statistics: Floats, members: npt.NDArray[np.bool_]
    ) -> Decision:
        """Return the decision on image `row` by all rules that hold, up to the first refusal."""
        verdict: Verdict = "accepted"
        codes: list[str] = []
        for rule in rules:
            if not rule.holds[row]:
                continue
            # A rule that only says something leaves the verdict as it is.
            verdict = verdict if rule.leads_to == "accepted" else rule.leads_to
            codes.append(rule.code)
            if rule.aspects:
                codes += unusual_aspects(statistics, self.ranges, MOST_ASPECTS)
            if verdict == "refused":
                break
        return Decision(verdict, tuple(codes), tuple(int(i) for i in np.flatnonzero(members)))

    def _with_coarse(
        self, decision: Decision, coarse: _Coarse | None, row: int, *, ood_score: float | None
    ) -> Decision:
        """Return the decision with the coarse answer for image `row`, and its OOD score by content."""
        if coarse is None:
            return decision
        group = int(coarse.group[row])
        verdict: Verdict = "review"
        if decision.verdict == "refused":
            verdict = "refused"
        elif coarse.accepted[row]:
            verdict = "accepted"
        return decision._replace(
            coarse=CoarseDecision(
                group,
                float(coarse.probabilities[row, group]),
                verdict,
                evidence=tuple(float(value) for value in coarse.evidence[row]),
                ood_score=ood_score,
            )
        )

    def _ood(self, outputs: Outputs, statistics: Floats) -> _Ood:
        """Return how far N images lie from the training images of the class that was answered."""
        answered = np.arange(len(statistics)), outputs.logits.argmax(axis=1)
        scores: dict[str, Floats] = {}
        foreign = np.zeros(len(statistics), dtype=bool)
        nearest = np.ones(len(statistics), dtype=bool)
        for name, space, vectors in self._spaces(outputs, statistics):
            distance = space.distances(vectors, len(self.classes))
            scores[name] = space.ood_score(distance[answered])
            # Not `>`: a distance that is not a number must not pass for near.
            foreign |= ~(distance.min(axis=1) <= space.foreign)
            if name == "appearance":
                nearest = distance.argmin(axis=1) == answered[1]
        none: Floats = np.zeros(len(statistics))
        return _Ood(
            content=scores.get("content", none),
            appearance=scores.get("appearance", none),
            total=sum(scores.values(), none),
            foreign=foreign,
            nearest=nearest,
        )

    def _spaces(self, outputs: Outputs, statistics: Floats) -> list[tuple[str, Space, Floats]]:
        """Return each space that there is by its name, with the N images as vectors of it."""
        spaces = [
            ("appearance", self.appearance, statistics),
            ("content", self.content, signed_sqrt(outputs.features)),
        ]
        return [(name, space, vectors) for name, space, vectors in spaces if space is not None]

    def _seen(self, outputs: Outputs, statistics: Floats) -> npt.NDArray[np.bool_]:
        """Return which images are as near to those shown without labels as known slides are."""
        spaces = self._spaces(outputs, statistics)
        if len(spaces) < 2 or any(not len(space.seen) for _, space, _ in spaces):
            return np.zeros(len(statistics), dtype=bool)
        scores = [space.ood_score(space.distance_to_seen(vectors)) for _, space, vectors in spaces]
        near: npt.NDArray[np.bool_] = np.sum(scores, axis=0) <= self.familiar
        return near

    def _empty(self, statistics: Floats) -> npt.NDArray[np.bool_]:
        """Return which pictures are blank, or hold no stained cells."""
        contrast = np.max(statistics[:, _DARKEST] - statistics[:, _BACKGROUND], axis=1)
        share = np.exp(statistics[:, _SHARE]) - 0.003
        result: npt.NDArray[np.bool_] = (contrast < FLAT) | (share < self.cell_floor)
        return result

    # ── keeping ────────────────────────────────────────────────────────────────────────────

    def summary(self) -> dict[str, Any]:
        """Return what was fitted in a few plain numbers, for the model card."""
        spaces = {"appearance": self.appearance, "content": self.content}
        nothing_promised = np.full(len(self.classes), np.inf)
        thresholds = nothing_promised if self.thresholds is None else self.thresholds
        return {
            "temperature": self.temperature,
            "coverage": self.coverage,
            "softening": self.density_slope,
            "confidence": self.confidence,
            "familiar": self.familiar,
            "promised": [
                name
                for name, threshold in zip(self.classes, thresholds, strict=True)
                if np.isfinite(threshold)
            ],
            "familiarity": {
                name: {
                    "references": len(space.references),
                    "dimensions": space.references.shape[1],
                    "foreign": space.foreign,
                }
                for name, space in spaces.items()
                if space is not None
            },
            "slides": None
            if self.groups is None or self.slides is None
            else self.slides.summary(self.groups.names, self.classes),
        }

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything as arrays: `calibration.`, `familiarity.`, `groups.`, `slides.`."""
        return stored.pack({part.name: getattr(self, part.name) for part in fields(self)})

    def to_bytes(self) -> bytes:
        """Return everything as a safetensors file, for exported files."""
        return stored.to_bytes(self.to_arrays())

    @classmethod
    def from_bytes(cls, classes: Sequence[str], data: bytes | None) -> Self:
        """Take what `to_bytes` made; `None` for a file that was exported without."""
        return cls.from_arrays(classes, stored.from_bytes(data))

    @classmethod
    def from_arrays(cls, classes: Sequence[str], arrays: Mapping[str, Any]) -> Self:
        """Take the arrays that `to_arrays` made; what is not there is left out.

        The ALL label set has its groups also in what was written before there were groups.
        """
        parts = stored.unpack(arrays)
        return cls(tuple(classes), **{"groups": groups_of(None, classes)} | parts)
