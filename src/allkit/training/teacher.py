"""The teacher of a student: what a classifier answers on the images that another one learns from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from allkit.config import TrainConfig
from allkit.data.dataset import Dataset
from allkit.errors import ConfigError, DatasetError
from allkit.evaluation.site_key import HiddenGroups
from allkit.features import Extractor
from allkit.images.same_field import match, unpack
from allkit.model.classifier import Classifier
from allkit.training.division import Division
from allkit.training.inputs import PreparedInputs, chosen_engine
from allkit.training.logistic import ABSENT
from allkit.training.run import TrainingRun
from allkit.training.session import Session, Teaching
from allkit.training.sources import FeatureSource
from allkit.types import Doubles, Floats, Indices, Singles

__all__ = [
    "Teacher",
    "has_seen",
    "notes_on_teacher",
    "require_known_classes",
    "require_student",
    "teacher_of",
    "trained_by_heads",
]

ROWS = 4096
"""Number of features that are answered at once."""

Answer = Callable[[torch.Tensor], torch.Tensor]
"""From features `(n, D)` to logits `(n, K)`, on one device."""


@dataclass
class Teacher:
    """A classifier that answers on the images of a student's training, and on their augmented copies.

    Heads of the student that are judged on images held out must not learn from answers that know these
    images. Where the classifier was trained on the set, such heads learn from a head of its settings that
    is trained, on its features, on the same images as they are (`again`). Its own answers are for the heads
    that answer in the end, and for all heads where the set is new to it.
    """

    model: Classifier
    classes: tuple[str, ...]
    """Those of the student, each of which the teacher knows."""
    source: FeatureSource
    """The teacher's features of the images and of their copies."""
    again: Session | None = None
    seen: bool = False
    """Whether the classifier was trained on images of the set."""

    @property
    def independent(self) -> bool:
        """Whether what heads learn from knows nothing of the images that are held out from them."""
        return self.again is not None or not self.seen

    def answers(self, learn: Indices, check: Indices) -> Doubles:
        """Return the probabilities `(V, n, K)` of each view of the images `learn` `(n,)`.

        They are for a head that is judged on the images `check`, if there are any.
        """
        if self.again is not None and len(check):
            # Nothing is held out of this head by itself: it is not judged.
            division = Division(self.again.division.dataset, [(learn, check[:0])], None)
            member, _ = replace(self.again, division=division).train(0)
            answer: Answer = member.head
            own = False
        else:
            answer, own = self.model.network.classify, True
        tables = [
            self._probabilities(self.source.rows(learn, view), answer, own=own)
            for view in range(len(self.source.views))
        ]
        return np.stack(tables).astype(np.float64)

    def _probabilities(self, features: Singles, answer: Answer, *, own: bool) -> Floats:
        """Return what is answered on features `(n, D)`, at the temperature of the classifier: `(n, K)`.

        The OOD score of images counts as usual: they lie among its references, or are copies of such.
        """
        columns = [self.model.classes.index(name) for name in self.classes]
        with torch.inference_mode():
            blocks = torch.split(torch.from_numpy(np.ascontiguousarray(features)), ROWS)
            parts = [answer(block.to(self.source.device)).float().cpu() for block in blocks]
        logits = torch.cat(parts).numpy()
        if not own:  # a head of the student's classes
            wide = np.full((len(logits), len(self.model.classes)), ABSENT, np.float32)
            wide[:, columns] = logits
            logits = wide
        return self.model.trust.probabilities_at(logits, np.zeros(len(logits)))[:, columns]


def teacher_of(model: Classifier, session: Session) -> Teacher:
    """Return `model` as the teacher of a student's training, with its features of all images.

    They come from the cache of the training where it has them. Raises `DatasetError` for a class that
    the model does not know.
    """
    prepared = session.prepared
    backbone, dataset = prepared.backbone, prepared.dataset
    require_known_classes(model, dataset)
    info = model.info
    extractor = Extractor(
        model.network.embedding(),
        model.spec,
        info.backbone.identity,
        model.device,
        precision=backbone.precision,
        cache=prepared.cache,
        # The engine of its own training, whose features may be in the cache.
        engine=chosen_engine(info.config.engine, len(dataset) * (1 + _copies(model))),
        finder=model.finder,
        tiled=model.tiled,
    )
    views = [
        extractor.extract(dataset, progress=prepared.progress, label="features of the teacher")
    ]
    learners = dataset.subset(prepared.learners)
    for number in range(1, backbone.copies + 1):
        views.append(
            extractor.extract(
                learners,
                copy=backbone.copy(number),
                progress=prepared.progress,
                label=f"teacher, augmented copy {number}",
            )
        )
    source = FeatureSource(views, model.device, prepared.learners)
    seen = has_seen(model, dataset)
    again = _again(model, session, source) if seen and trained_by_heads(model) else None
    return Teacher(model, dataset.classes, source, again=again, seen=seen)


def require_student(config: TrainConfig) -> None:
    """Raise `ConfigError` for settings with which a head cannot learn what a teacher answers."""
    for name, value in (("strategy", "head"), ("head_solver", "lbfgs"), ("loss", "cross_entropy")):
        given = getattr(config, name)
        if given != value:
            raise ConfigError(
                f"A head learns a teacher's answers by logistic regression only, but {name} is {given}. "
                f"Leave it out, or give {name}={value}."
            )


def notes_on_teacher(teacher: Teaching | None) -> list[str]:
    """Return what a student's teacher does not allow to be said, in sentences."""
    if teacher is None or teacher.independent:
        return []
    return [
        "The teacher was trained on these images, or may have been, and more of it than its head, so its "
        "answers know what is held out of the student's trainings: the figures of the validation may be "
        "too high, and no limits for unseen slides can be chosen."
    ]


def require_known_classes(model: Classifier, dataset: Dataset) -> None:
    """Raise `DatasetError` when a set has a class that the teacher does not know."""
    strange = [name for name in dataset.classes if name not in model.classes]
    if strange:
        raise DatasetError(
            f"{dataset.name} has the classes {', '.join(strange)}, which the teacher does not know: "
            f"it knows {', '.join(model.classes)}. Leave these images out, or rename the classes."
        )


def has_seen(model: Classifier, dataset: Dataset) -> bool:
    """Return whether the model was trained on an image of a set, of one of its groups or fields.

    True as well where the set has groups and the key that shows those of the model is not here: then
    it may have been.
    """
    data = model.info.data
    if not set(data.images_sha256).isdisjoint(dataset.hashes):
        return True
    groups = HiddenGroups(data.groups_sha256)
    if any(map(groups.holds, dataset.origins)) or (dataset.origins and not groups.known):
        return True
    return any(True for _ in match(dataset.signatures, unpack(model.training)))


def trained_by_heads(model: Classifier) -> bool:
    """Return whether trainings of the model differ in nothing but its heads: they take seconds."""
    config = model.info.config
    return config.strategy == "head" and not config.tta


def _copies(model: Classifier) -> int:
    """Return from how many augmented copies of an image the model learnt."""
    config = model.info.config
    return config.copies if config.augment else 0


def _again(model: Classifier, session: Session, source: FeatureSource) -> Session:
    """Return a session that trains heads of the model's settings on its features.

    They learn from as many augmented copies of an image as the model did, if there are so many.
    """
    info, prepared = model.info, session.prepared
    config = info.config.model_copy(update={"members": 1, "folds": 0})
    record = replace(prepared.backbone.record, name=info.backbone.name, input=model.spec)
    backbone = replace(
        prepared.backbone,
        config=config,
        record=record,
        module=model.network.backbone,
        width=info.backbone.width,
        fingerprint=info.backbone.weights_sha256,
    )
    inputs = PreparedInputs(
        backbone,
        prepared.dataset,
        session.accelerator,
        learners=prepared.learners,
        views=list(source.views[: 1 + _copies(model)]),
    )
    return Session(
        config=config,
        accelerator=session.accelerator,
        division=session.division,
        prepared=inputs,
        run=TrainingRun(),
    )
