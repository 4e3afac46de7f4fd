"""Several fields of one patient make one answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from allkit.errors import DatasetError
from allkit.records import CasePrediction, Prediction
from allkit.runtime.coarse import (
    CoarseAnswer,
    FineAnswer,
    answer_coarsely,
    coarse_by_class,
    with_coarse,
)
from allkit.trust.reasons import (
    FEW_ACCEPTED,
    FIELDS_DISAGREE,
    NO_FIELD,
    TILE_OF_SLIDE,
    codes_of,
    texts_of,
)
from allkit.trust.verdict import Trust
from allkit.types import Doubles

__all__ = ["combine"]


def combine(
    predictions: Sequence[Prediction],
    case: str = "",
    *,
    logits: bool = True,
    trust: Trust | None = None,
) -> CasePrediction:
    """Combine the answers for the fields of one patient, slide or folder.

    Fields that were refused or could not be read are listed and take no part. The answer rests
    on the accepted fields, or, where none was accepted, on those for review, and then is for
    review itself. It is the mean of their calibrated logits (with `logits=False`, of their
    probabilities, which one confident field moves less). The case is accepted when at least half
    of the readable fields were, and the accepted ones agree on the class. With the `trust` of the
    model that answered, the classes that it cannot rule out are in `prediction_set`.

    With a `trust` whose classes are in groups there is a coarse answer too: by the mean evidence of
    all fields that were not refused, for which limits were fitted on slides that were left out of the
    training. Fields for review count: on the slides that were left out this was measured to be safe.
    A class is then accepted only within an accepted group, and always where it is the group's only
    one. Fields that were accepted for different groups settle nothing.

    A case with tiles of whole slides is never accepted, as no answer about a tile is. Its probabilities are
    the mean of those of the tiles, also for the groups: tiles beside each other show the same smear, so that
    many of them make nothing surer, and how sure several fields are was measured on chosen fields only.

    Raises `DatasetError` when there is no field at all.
    """
    if not predictions:
        raise DatasetError(f"The case {case!r} has no fields. Give at least one image.")
    refused = tuple(p.image for p in predictions if p.verdict == "refused")
    unreadable = tuple(p.image for p in predictions if p.verdict == "unreadable")
    readable = [p for p in predictions if p.verdict in ("accepted", "review")]
    accepted = [p for p in readable if p.verdict == "accepted"]
    used = accepted or readable
    if not used:
        grouped = trust is not None and trust.groups is not None
        return CasePrediction(
            case=case,
            verdict="refused",
            reasons=texts_of((NO_FIELD,)),
            reason_codes=(NO_FIELD,),
            fields=len(predictions),
            used=0,
            refused=refused,
            unreadable=unreadable,
            coarse_verdict="refused" if grouped else None,
        )
    classes = list(used[0].probabilities)
    table = np.array([[p.probabilities[name] for name in classes] for p in used])
    tiles = any(TILE_OF_SLIDE in p.reason_codes for p in readable)
    mean = _mean(table, logits=logits and not tiles)
    votes: Mapping[str, int] = Counter(str(p.label) for p in used)
    codes = []
    if 2 * len(accepted) < len(predictions) - len(unreadable):
        codes.append(FEW_ACCEPTED)
    if len(votes) > 1:
        codes.append(FIELDS_DISAGREE)
    reasons = list(zip(texts_of(codes), codes, strict=True))
    if not accepted:
        reasons += sorted({reason for p in used for reason in _reasons(p)})
    answer = FineAnswer(mean, classes, "review" if reasons else "accepted", reasons)
    coarse = None
    if tiles:
        answer, coarse = _of_tiles(answer, trust)
    elif trust is not None and (coarse := answer_coarsely(readable, answer, trust)):
        answer = with_coarse(answer, coarse)
    best = int(answer.probabilities.argmax())
    return CasePrediction(
        case=case,
        verdict=answer.verdict,
        reasons=tuple(text for text, _ in answer.reasons),
        reason_codes=tuple(code for _, code in answer.reasons),
        label=classes[best],
        probability=float(answer.probabilities[best]),
        probabilities={
            name: float(p) for name, p in zip(classes, answer.probabilities, strict=True)
        },
        prediction_set=_possible(answer.probabilities, classes, trust),
        votes={name: votes.get(name, 0) for name in classes},
        agreement=float(votes.get(classes[best], 0) / len(used)),
        spread=float(table[:, best].std()),
        fields=len(predictions),
        used=len(used),
        refused=refused,
        unreadable=unreadable,
        fields_needed=None if coarse is None else coarse.fields_needed,
        coarse=None if coarse is None else coarse.group,
        coarse_probability=None if coarse is None else coarse.probability,
        coarse_verdict=None if coarse is None else coarse.verdict,
    )


def _of_tiles(answer: FineAnswer, trust: Trust | None) -> tuple[FineAnswer, CoarseAnswer | None]:
    """Return the answers of a case as they may stand where tiles of whole slides are among its fields."""
    (text,) = texts_of((TILE_OF_SLIDE,))
    said = any(code == TILE_OF_SLIDE for _, code in answer.reasons)
    reasons = [*answer.reasons, *([] if said else [(text, TILE_OF_SLIDE)])]
    coarse = None if trust is None else coarse_by_class(answer, trust, TILE_OF_SLIDE)
    return answer._replace(verdict="review", reasons=reasons), coarse


def _possible(mean: Doubles, classes: Sequence[str], trust: Trust | None) -> tuple[str, ...]:
    """Return the classes that a calibrated model cannot rule out at probabilities `(K,)`."""
    if trust is None or not trust.calibrated:
        return ()
    members = trust.sets(mean[None].astype(np.float32))[0]
    return tuple(name for name, possible in zip(classes, members, strict=True) if possible)


def _mean(table: Doubles, *, logits: bool) -> Doubles:
    """Return the mean `(K,)` of probabilities `(N, K)`, or of their logits, as probabilities."""
    if not logits:
        plain: Doubles = table.mean(axis=0)
        return plain
    # The mean of the logits is the mean of the log-probabilities, but for a constant.
    mean: Doubles = np.exp(np.log(np.maximum(table, 1e-12)).mean(axis=0))
    mean /= mean.sum()
    return mean


def _reasons(prediction: Prediction) -> Iterator[tuple[str, str]]:
    """Return the reasons of an answer as (text, code), also where it gives texts only."""
    codes = prediction.reason_codes or codes_of(prediction.reasons)
    return zip(prediction.reasons, codes, strict=True)
