"""Slides that are left out in turn: how the heads answer on slides they have not seen."""

from __future__ import annotations

import numpy as np

from allkit.training.calibrating import answers_of_divisions
from allkit.training.session import Session
from allkit.trust.groups import ClassGroups
from allkit.trust.unseen import LeftOut, slides_to_leave_out

__all__ = ["left_out_slides"]


def left_out_slides(session: Session, groups: ClassGroups) -> list[LeftOut]:
    """Return the answers on each slide, and on each pair of slides of two groups, of heads that are
    trained for this alone, without them.

    Images that share a group, a case or a field with a slide are in no part of its training. A slide
    is not left out where a group of classes would have no images without it, nor one whose images
    have several labels: nothing can be learnt about such. Empty where the set does not know the
    slides, for strategies that train more than a head, and for students of a teacher that knows the slides.
    """
    dataset, teacher = session.division.dataset, session.teacher
    if session.config.strategy != "head" or not dataset.has_slides:
        return []
    if teacher is not None and not teacher.independent:
        return []
    slides, labels = dataset.slides, dataset.labels
    related = dataset.fields
    of_class = np.array(groups.of_class)
    single = [s for s in np.unique(slides) if len(np.unique(labels[slides == s])) == 1]
    group_of = {int(s): int(of_class[labels[slides == s][0]]) for s in single}
    parts, kept = [], []
    for left_out in slides_to_leave_out(group_of):
        test = np.isin(slides, left_out)
        learn = np.flatnonzero(~test & ~np.isin(related, related[test]))
        if len(np.unique(of_class[labels[learn]])) < len(groups):
            continue
        parts.append((learn, np.flatnonzero(test)))
        kept.append(left_out)
    answers = answers_of_divisions(session, parts, "heads without one or two slides")
    return [
        LeftOut(of_slides, held_out.images, held_out.logits)
        for of_slides, held_out in zip(kept, answers, strict=True)
    ]
