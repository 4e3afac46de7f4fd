"""Several fields of one patient make one answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from allkit.errors import DatasetError
from allkit.records import CasePrediction, Prediction, Verdict

__all__ = ["combine"]

NO_FIELD = "no field to answer from"
DISAGREE = "fields disagree"
FEW_ACCEPTED = "fewer than half of the fields accepted"


def combine(
    predictions: Sequence[Prediction], case: str = "", *, logits: bool = True
) -> CasePrediction:
    """Combine the answers for the fields of one patient.

    Fields that were refused or could not be read are listed and take no part. The answer rests
    on the accepted fields, or, where none was accepted, on those for review, and then is for
    review itself. It is the mean of their calibrated logits (with `logits=False`, of their
    probabilities, which one confident field moves less). The case is accepted when at least half
    of the readable fields were, and the accepted ones agree on the class.

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
        return CasePrediction(
            case=case, verdict="refused", reasons=(NO_FIELD,), fields=len(predictions), used=0,
            refused=refused, unreadable=unreadable,
        )  # fmt: skip
    classes = list(used[0].probabilities)
    table = np.array([[p.probabilities[name] for name in classes] for p in used])
    if logits:
        # The mean of the logits is the mean of the log-probabilities, but for a constant.
        mean = np.exp(np.log(np.maximum(table, 1e-12)).mean(axis=0))
        mean /= mean.sum()
    else:
        mean = table.mean(axis=0)
    best = int(mean.argmax())
    votes: Mapping[str, int] = Counter(str(p.label) for p in used)
    agreeing = votes.get(classes[best], 0) / len(used)
    reasons = []
    if 2 * len(accepted) < len(predictions) - len(unreadable):
        reasons.append(FEW_ACCEPTED)
    if len(votes) > 1:
        reasons.append(DISAGREE)
    if not accepted:
        reasons += sorted({reason for p in used for reason in p.reasons})
    verdict: Verdict = "review" if reasons else "accepted"
    return CasePrediction(
        case=case, verdict=verdict, reasons=tuple(reasons),
        label=classes[best], probability=float(mean[best]),
        probabilities={name: float(p) for name, p in zip(classes, mean, strict=True)},
        votes={name: votes.get(name, 0) for name in classes},
        agreement=float(agreeing),
        spread=float(table[:, best].std()),
        fields=len(predictions), used=len(used), refused=refused, unreadable=unreadable,
    )  # fmt: skip
