"""Further held-out answers, for calibration only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from allkit.training.description import HeldOut
from allkit.training.division import Division
from allkit.training.run import TrainingRun
from allkit.training.session import Session
from allkit.trust.ood import grouped_parts
from allkit.types import Indices

__all__ = ["answers_of_divisions", "further_held_out"]


def further_held_out(session: Session) -> list[HeldOut]:
    """Return held-out answers on the training images, of heads that are trained for this alone.

    One validation part holds few groups, often one or two of a class: too few for thresholds that
    are valid on the next ones. A head takes seconds, so `config.calibration_folds` more are trained,
    each without another part of the training images, on which it then answers. They do not become
    part of the model. Nothing is returned where folds cover every image already, and for strategies
    that train more than a head.
    """
    config, division = session.config, session.division
    if config.strategy != "head" or config.folds or config.calibration_folds < 2:
        return []
    learners = division.parts[0][0]
    dataset = division.dataset
    labels = dataset.labels[learners]
    parts = []
    for learn, check in grouped_parts(
        labels, dataset.fields[learners], config.calibration_folds, config.seed
    ):
        # A head cannot name a class that it has not seen: images of that class would tell nothing.
        check = check[np.isin(labels[check], labels[learn])]
        if len(check):
            parts.append((learners[learn], learners[check]))
    return answers_of_divisions(session, parts, "heads for calibration")


def answers_of_divisions(
    session: Session, parts: Sequence[tuple[Indices, Indices]], label: str
) -> list[HeldOut]:
    """Return the answers on the second part of each division of a head trained on the first alone.

    `label` names the work for the progress. Nothing of it becomes part of the model.
    """
    config, division = session.config, session.division
    crossed = replace(
        session,
        config=config.model_copy(update={"members": 1}),
        division=Division(division.dataset, list(parts), division.by),
        run=TrainingRun(),  # nothing of it is taken up: a head takes seconds
        progress=None,
        recorder=None,
        own=replace(session.own, callbacks=()),
        aside=True,
    )
    tell = session.progress or (lambda *_: None)
    held_out = []
    tell(label, 0, len(parts))
    for number in range(len(parts)):
        member, _ = crossed.train(number)
        held_out.append(crossed.held_out([number], [member]))
        tell(label, number + 1, len(parts))
    return held_out
