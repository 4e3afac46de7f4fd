"""Training: features of the frozen backbone, a head on them, and then the stages of the strategy."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from allkit.config import TrainConfig
from allkit.data.columns import table_of
from allkit.data.dataset import Dataset
from allkit.data.measures import statistics_by
from allkit.data.passes import Measure
from allkit.data.relations import SAME_FIELD, fields_of
from allkit.errors import AllkitError, ConfigError
from allkit.evaluation.leakage import kept_signatures
from allkit.features import Extractor, FeatureCache
from allkit.files import clear_stale, require_free
from allkit.images.cells import FINDER
from allkit.model.classifier import Classifier
from allkit.model.provenance import Provenance, division_hash, provenance_of
from allkit.network.around import ordinary
from allkit.network.device import choose_device
from allkit.network.hashes import arrays_hash
from allkit.network.modules import Network
from allkit.shown.progress import Asked, progress_of
from allkit.training.backbone import TrainingBackbone, load_backbone
from allkit.training.calibrating import further_held_out
from allkit.training.description import (
    HeldOut,
    backbone_info,
    model_info,
    validation_of,
)
from allkit.training.device import processes, threads
from allkit.training.division import (
    Division,
    divide,
    require_other_images,
    require_sets,
    require_trainable,
    whole_set,
)
from allkit.training.facts import division_facts, starting_facts
from allkit.training.finders import BatchSizes, LearningRates, batch_sizes, learning_rates
from allkit.training.finished import finished_model, is_finished
from allkit.training.inputs import PreparedInputs
from allkit.training.left_out import left_out_slides
from allkit.training.log import METRICS, open_log, require_trackers
from allkit.training.own import Callback, taken
from allkit.training.plan import Recorder
from allkit.training.run import TrainingRun, open_run
from allkit.training.session import Session
from allkit.training.teacher import notes_on_teacher, require_student, teacher_of
from allkit.trust.fit import Fitted, TrainingImages, TrustSettings, fit_trust
from allkit.trust.groups import ClassGroups, groups_of
from allkit.trust.unseen import LeftOut
from allkit.types import Progress

__all__ = ["Trainer"]


class Trainer:
    """Trains classifiers.

        model = allkit.Trainer(backbone="vgg16").fit(split.train, split.val)

    Settings are those of `allkit.config.TrainConfig`; unknown ones are refused. `backbone` may be a module
    of torch, a function that makes one, or an `allkit.Backbone`; `augment` may hold functions, transforms
    of albumentations and `allkit.Augmentation`s beside names; `loss`, `optimizer` and `scheduler` may be
    functions; each of `callbacks` is called with an `Epoch` after every epoch, and ends the phase by
    returning `True`. The description of the model names these parts, its folder does not hold them.

    Features and activations are kept in `cache`, by default the user's; `None` keeps none.
    `progress(what, done, total)` is called as the work goes on; `"auto"` shows it in a notebook, on a
    terminal and in a log (`allkit.progress_bar`), `None` shows nothing. `recorder.log(metrics)` is
    called after every epoch.

    With a `teacher` a *student* is trained: its head learns the calibrated answers of this classifier in
    place of the labels, on the training images and their augmented copies. It is judged, calibrated and
    limited by the labels like any other; a head that is judged on held-out images learns nothing of them
    by way of the teacher either (`allkit.training.teacher`). `allkit.distil` chooses the settings of a
    student and measures what it loses.

    With `torchrun` or `accelerate launch` every process runs the same program; they train together,
    and each ends with the same classifier.
    """

    def __init__(
        self,
        config: TrainConfig | None = None,
        *,
        cache: FeatureCache | str | None = "default",
        progress: Asked = "auto",
        recorder: Recorder | None = None,
        teacher: Classifier | None = None,
        callbacks: Sequence[Callback] | Callback = (),
        **settings: Any,
    ) -> None:
        if config is not None and not isinstance(config, TrainConfig):
            raise ConfigError(
                f"Trainer takes settings by their names, and {config!r:.60} has none. Type for example: "
                f"Trainer(backbone='vgg16')"
            )
        settings, self.own = taken(settings | {"callbacks": callbacks})
        # Only what was given: the rest follows from all that is given together.
        values = (config.model_dump(exclude_unset=True) if config else {}) | settings
        self.config = TrainConfig.parse(values, source="the settings of Trainer")
        self.own.require(self.config)
        self.own.require_known(self.config)  # a name that is none is said at once
        self.cache = FeatureCache() if isinstance(cache, str) else cache
        self.progress = progress
        self.recorder = recorder
        self.teacher = teacher
        if teacher is not None:
            require_student(self.config)

    def __repr__(self) -> str:
        fields = TrainConfig.model_fields
        given = {k: v for k, v in self.config.model_dump().items() if v != fields[k].default}
        shown = {"backbone": self.config.backbone} | given
        return f"Trainer({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @ordinary()
    def fit(
        self,
        train: Dataset,
        val: Dataset | None = None,
        *,
        out: str | Path | None = None,
        resume: bool = False,
        overwrite: bool = False,
    ) -> Classifier:
        """Train on `train` and return the classifier; `val` judges it, and stops AdamW's steps.

        Without `val`, the share `config.val` of the training images is held out for validation, by
        group. With `config.refit` the head is trained again on all images after it was judged on
        this part. With `config.folds` = k there are k divisions, each with another k-th held out,
        and the validation metrics are pooled over the held-out parts. For each
        division `config.members` members are trained from different seeds; the classifier answers
        with the mean of all. The same images, settings and seed give the same weights on one kind
        of processor.

        With `out` the model is saved there, and the state of the training is kept in `OUT.run`
        until then: if the training is killed, the same call with `resume=True` ends with the same
        weights, on a CPU to the bit. A finished model is returned if it was trained with these
        settings and images; otherwise an error names the difference.

        Raises `DatasetError` (unreadable images, a class that cannot be on both sides),
        `ConfigError`, `PluginError`, and `AllkitError` when the loss is no longer a number or the
        memory does not suffice.
        """
        with progress_of(self.progress) as told:
            trainer = copy.copy(self)
            trainer.progress = told
            trainer.config = self.own.in_full(self.config)  # as the model keeps them
            return trainer._fit(train, val, out=out, resume=resume, overwrite=overwrite)

    def _fit(
        self,
        train: Dataset,
        val: Dataset | None,
        *,
        out: str | Path | None,
        resume: bool,
        overwrite: bool,
    ) -> Classifier:
        if resume and out is None:
            raise ConfigError("resume=True needs `out`, the place of the model to go on with.")
        if resume and self.teacher is not None:
            raise ConfigError("The training of a student is not resumed. Leave out resume=True.")
        require_sets(train, val)
        config, folder = self.config, None if out is None else Path(out)
        if config.slide is not None:
            train = train.with_slides(config.slide)
            val = None if val is None else val.with_slides(config.slide)
        device = choose_device(config.device)
        if folder is not None:
            clear_stale(folder)  # a model that was being replaced is back before it is asked for
            if resume and is_finished(folder):
                return finished_model(folder, config, train, val, device=device, own=self.own)
            require_free(folder, overwrite=overwrite or resume, former="model.json")
        require_trackers(config.trackers)
        require_trainable(config, train, val)
        require_other_images(train, val)
        run_folder = None if folder is None else folder.with_name(f"{folder.name}.run")
        with (
            processes(device) as accelerator,
            open_run(
                run_folder, resume=resume, overwrite=overwrite, main=accelerator.is_main_process
            ) as run,
        ):
            accelerator.wait_for_everyone()
            with self._recording(run, accelerator.is_main_process) as recorder:
                model = self._trained(train, val, accelerator, run=run, recorder=recorder)
            if folder is not None and accelerator.is_main_process:
                try:
                    model.save(folder, overwrite=overwrite or resume)
                except AllkitError as error:
                    raise AllkitError(f"{error} {run.where()}") from error
                run.done()
            accelerator.wait_for_everyone()
        return model

    def _trained(
        self,
        train: Dataset,
        val: Dataset | None,
        accelerator: Accelerator,
        *,
        run: TrainingRun,
        recorder: Recorder | None,
    ) -> Classifier:
        """Return the classifier: all steps of a training, in order."""
        config, cache, progress = self.config, self.cache, self._told
        dataset = whole_set(train, val)
        groups = groups_of(config.class_groups, dataset.classes)
        backbone = self._backbone(accelerator.device)
        run.begin(starting_facts(backbone, dataset, accelerator))
        with threads(run.facts["threads"] if accelerator.device.type == "cpu" else None):
            # Prepare: the one pass over the images, for their features, their statistics, and the
            # search for images of the same field. This takes most of the time.
            prepared = PreparedInputs(
                backbone, dataset, accelerator, cache=cache, progress=progress
            )
            prepared.prepare([*SAME_FIELD, _statistics_of(backbone)])

            # Divide: which images are learnt from, and which are held out. Only the former are augmented.
            division = divide(config, dataset, learning=len(train))
            run.add(division_facts(division))
            prepared.augment(division.learners)

            # Train, and judge each member on its held-out images.
            session = Session(
                config=config,
                accelerator=accelerator,
                division=division,
                prepared=prepared,
                run=run,
                progress=progress,
                recorder=recorder,
                own=self.own,
            )
            if self.teacher is not None:
                session.teacher = teacher_of(self.teacher, session)
            members, histories, held_out = session.all_divisions()

            # Refit: on all images, in place of the members that were judged.
            if division.refit:
                members = session.refitted()
            network = session.network(members)

            # Calibrate: on the held-out images, and on further answers made for this alone; for unseen
            # slides on those of heads that were trained without one slide, or two.
            answers = [*held_out, *further_held_out(session)]
            left_out = [] if groups is None else left_out_slides(session, groups)
            trust = self._calibrated(
                prepared, division, answers, network, groups=groups, left_out=left_out
            )

        # Describe: metrics on the held-out images, settings, hashes of images and weights.
        judged = sum(len(part.images) for part in held_out)
        info = model_info(
            config,
            division,
            backbone_info(backbone, network),
            validation=validation_of(division, held_out, trust.probabilities[:judged], groups),
            histories=histories,
            trust_notes=(*trust.notes, *notes_on_teacher(session.teacher)),
            teacher=self.teacher,
            own=self.own,
            provenance=self._provenance(prepared, division, network),
        )
        return Classifier(
            network,
            info,
            trust=trust.trust,
            device=accelerator.device,
            training=kept_signatures(dataset),
        )

    @ordinary()
    def find_learning_rate(self, train: Dataset, val: Dataset | None = None) -> LearningRates:
        """Try a hundred rising learning rates on a copy, and suggest one.

        It is for `learning_rate` with the strategy head, else for `finetune_learning_rate`. A training
        afterwards gives the same weights as without it. Raises `ConfigError` with the solver lbfgs,
        which takes no steps.
        """
        self._require_steps()
        with self._session(train, val) as session:
            return learning_rates(session.last_loop())

    @ordinary()
    def find_batch_size(self, train: Dataset, val: Dataset | None = None) -> BatchSizes:
        """Try how many images go through the network and back at once, on a copy.

        With the strategy head, a batch of features is never too large for the memory. Raises
        `ConfigError` with the solver lbfgs, which takes no batches.
        """
        self._require_steps()
        with self._session(train, val) as session:
            return batch_sizes(session.last_loop())

    def _backbone(self, device: torch.device) -> TrainingBackbone:
        return load_backbone(self.config, device, own=self.own)

    @property
    def _told(self) -> Progress | None:
        """What is called as the work goes on; `fit` has put it in the place of `"auto"`."""
        return self.progress if callable(self.progress) else None

    def _require_steps(self) -> None:
        """Raise `ConfigError` when there is nothing to find."""
        if self.config.head_solver == "lbfgs":
            raise ConfigError(
                "With head_solver lbfgs there is no learning rate and no batch size to find: the head "
                "is not trained in steps. Give head_solver=adamw, or the strategy last, full or lora."
            )

    @contextlib.contextmanager
    def _session(self, train: Dataset, val: Dataset | None) -> Iterator[Session]:
        """Give a training that is ready to begin; nothing of it is kept."""
        config = self.config
        require_sets(train, val)
        require_trainable(config, train, val)
        with processes(choose_device(config.device)) as accelerator:
            dataset = whole_set(train, val)
            backbone = self._backbone(accelerator.device)
            prepared = PreparedInputs(
                backbone, dataset, accelerator, cache=self.cache, progress=self._told
            )
            prepared.prepare(SAME_FIELD)
            division = divide(config, dataset, learning=len(train))
            prepared.augment(division.learners)
            yield Session(
                config=config,
                accelerator=accelerator,
                division=division,
                prepared=prepared,
                run=TrainingRun(),
                progress=self._told,
                own=replace(self.own, callbacks=()),
            )

    @contextlib.contextmanager
    def _recording(self, run: TrainingRun, main: bool) -> Iterator[Recorder | None]:
        """Give the recorder of the metrics of every epoch: the user's, or the log of the run folder."""
        if self.recorder is not None or not main:
            yield self.recorder
            return
        if run.folder is not None and not run.resumed:
            (run.folder / METRICS).unlink(missing_ok=True)
        name = "allkit" if run.folder is None else run.folder.stem
        settings = self.config.model_dump(mode="json")
        with open_log(run.folder, self.config.trackers, name=name, config=settings) as log:
            yield log

    def _calibrated(
        self,
        prepared: PreparedInputs,
        division: Division,
        held_out: list[HeldOut],
        network: Network,
        *,
        groups: ClassGroups | None,
        left_out: list[LeftOut],
    ) -> Fitted:
        """Fit calibration and out-of-distribution detection on the held-out images of the members."""
        config, dataset = self.config, division.dataset
        if config.strategy == "head" and not config.tta:
            features = prepared.views[0]
        else:
            # The backbone is no longer what it was, so its features are not either.
            extractor = Extractor(
                network.embedding(),
                prepared.backbone.input,
                backbone_info(prepared.backbone, network).identity,
                prepared.accelerator.device,
                cache=self.cache,
                finder=prepared.backbone.finder or FINDER,
            )
            features = extractor.extract(
                dataset, progress=self._told, label="features of the finished model"
            )
        (statistics,) = dataset.passes.measure(
            [_statistics_of(prepared.backbone)], cache=self.cache
        )
        images = TrainingImages(
            classes=dataset.classes,
            labels=dataset.labels,
            units=dataset.units,
            fields=dataset.fields,
            grouped=dataset.has_groups,
            statistics=table_of(statistics),
            features=features,
            slides=dataset.slides if dataset.has_slides else None,
            same_field=fields_of(
                dataset.samples, np.arange(len(dataset), dtype=np.int64), dataset.duplicates
            ),
        )
        return fit_trust(
            images,
            np.concatenate([part.images for part in held_out]),
            np.concatenate([part.logits for part in held_out]),
            settings=TrustSettings(config.coverage, config.familiar, slide_risk=config.slide_risk),
            divisions=division.parts,
            frozen=config.strategy == "head",
            groups=groups,
            left_out=left_out,
        )

    def _provenance(
        self, prepared: PreparedInputs, division: Division, network: Network
    ) -> Provenance:
        """Return what the result depends on, and the hash of the result."""
        dataset, accelerator = division.dataset, prepared.accelerator
        provenance = provenance_of(
            data=dataset.fingerprint,
            division=division_hash(dataset.hashes, division.parts),
            seed=self.config.seed,
            weights=prepared.backbone.fingerprint,
            engine=prepared.signature,
            device=accelerator.device,
            plugins=prepared.backbone.plugins | dataset.passes.readers,
            processes=accelerator.num_processes,
        )
        return provenance.model_copy(update={"result": arrays_hash(network.state_dict())})


def _statistics_of(backbone: TrainingBackbone) -> Measure:
    """Return the statistics that verdicts of a model of this backbone rest on."""
    return statistics_by(backbone.finder)
