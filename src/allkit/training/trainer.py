"""Training: features of the frozen backbone once, a head on them, and then what the strategy says."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from allkit.config import TrainConfig
from allkit.data.dataset import Dataset
from allkit.data.measured import dataset_statistics
from allkit.errors import ConfigError
from allkit.evaluation.leakage import kept_signatures, relations_hash
from allkit.features import Extractor, FeatureCache
from allkit.files import clear_stale, require_free
from allkit.model.classifier import Classifier
from allkit.model.info import BackboneInfo
from allkit.model.provenance import division_hash, provenance_of
from allkit.network.hashes import arrays_hash
from allkit.network.modules import Network
from allkit.training.calibrating import further_held_out
from allkit.training.description import HeldOut, describe, figures_of, version
from allkit.training.device import choose_device, processes, threads
from allkit.training.division import Division, divide
from allkit.training.finders import BatchSizes, LearningRates, batch_sizes, learning_rates
from allkit.training.finished import finished_model, is_finished
from allkit.training.inputs import PreparedInputs
from allkit.training.log import METRICS, open_log, require_trackers
from allkit.training.member import Member
from allkit.training.plan import History, Recorder
from allkit.training.run import Run, open_run
from allkit.training.session import Session
from allkit.trust.fit import Fitted, TrainingImages, TrustSettings, fit_trust
from allkit.types import Progress

__all__ = ["Trainer"]


class Trainer:
    """Trains classifiers.

        model = allkit.Trainer(backbone="vgg16").fit(split.train, split.val)

    Settings are those of `allkit.config.TrainConfig`; unknown ones are refused. Features and
    activations are kept in `cache`, by default the user's; `None` keeps none. `progress(what, done,
    total)` is called as the work goes on, and `recorder.log(figures)` after every epoch.

    Started by `torchrun` or `accelerate launch`, every process runs the same program and they
    train together; each ends with the same classifier.
    """

    def __init__(
        self,
        config: TrainConfig | None = None,
        *,
        cache: FeatureCache | str | None = "default",
        progress: Progress | None = None,
        recorder: Recorder | None = None,
        **settings: Any,
    ) -> None:
        values = (config.model_dump() if config else {}) | settings
        self.config = TrainConfig.parse(values, source="the settings of Trainer")
        self.cache = FeatureCache() if isinstance(cache, str) else cache
        self.progress = progress
        self.recorder = recorder

    def fit(
        self,
        train: Dataset,
        val: Dataset | None = None,
        *,
        out: str | Path | None = None,
        resume: bool = False,
        overwrite: bool = False,
    ) -> Classifier:
        """Train on `train` and return the classifier; `val` decides when to stop.

        Without `val`, the share `config.val` of the training images is kept for it, by group. With
        `config.refit` a head is trained again on all these images once it has been judged on them.
        With `config.folds` = k there are k divisions, each with another k-th kept for validation,
        and the validation figure is pooled over the parts that were not learnt from. For each
        division `config.members` members are trained from different seeds; the classifier answers
        with the mean of all. The same images, settings and seed give the same weights on one kind
        of processor.

        With `out` the model is saved there, and the state of the training is kept in `OUT.run`
        until then: after it was killed, the same call with `resume=True` ends with the same
        weights, on a CPU to the bit. A model that is finished is returned when these settings and
        images are those it was trained with, and refused with the difference when they are not.

        Raises `DatasetError` (unreadable images, a class that cannot be on both sides),
        `ConfigError`, `PluginError`, and `AllkitError` when the loss is no longer a number or the
        memory does not suffice.
        """
        if resume and out is None:
            raise ConfigError("resume=True needs `out`, the place of the model to go on with.")
        folder = None if out is None else Path(out)
        state = None if folder is None else folder.with_name(f"{folder.name}.run")
        device = choose_device(self.config.device)
        if folder is not None and state is not None:
            if resume and is_finished(folder):
                return finished_model(folder, self.config, train, val, device)
            require_free(folder, overwrite=overwrite or resume)
        require_trackers(self.config.trackers)
        with (
            processes(device) as accelerator,
            open_run(
                state, resume=resume, overwrite=overwrite, main=accelerator.is_main_process
            ) as run,
        ):
            accelerator.wait_for_everyone()
            with self._recording(run, accelerator.is_main_process) as recorder:
                model = self._fit(train, val, accelerator, run, recorder)
            if folder is not None and accelerator.is_main_process:
                clear_stale(folder)
                model.save(folder, overwrite=overwrite or run.resumed)
                run.done()
            accelerator.wait_for_everyone()
        return model

    def find_learning_rate(self, train: Dataset, val: Dataset | None = None) -> LearningRates:
        """Try a hundred rising learning rates on a copy, and suggest one.

        It is for `learning_rate` with the strategy head, else for `finetune_learning_rate`. A training
        afterwards gives the same weights as without it.
        """
        with self._prepared(train, val) as session:
            return learning_rates(session.last_loop())

    def find_batch_size(self, train: Dataset, val: Dataset | None = None) -> BatchSizes:
        """Try how many images go through the network and back at once, on a copy.

        With the strategy head, a batch of features is never too large for the memory.
        """
        with self._prepared(train, val) as session:
            return batch_sizes(session.last_loop())

    @contextlib.contextmanager
    def _prepared(self, train: Dataset, val: Dataset | None) -> Iterator[Session]:
        with processes(choose_device(self.config.device)) as accelerator:
            division, prepared = self._material(train, val, accelerator)
            features = prepared.features()
            yield Session(
                self.config, accelerator, division, prepared, features, Run(), self.progress
            )

    def _material(
        self, train: Dataset, val: Dataset | None, accelerator: Accelerator
    ) -> tuple[Division, PreparedInputs]:
        """Return who learns from what, and the backbone with what it makes of the images."""
        division = divide(self.config, train, val)
        learners = np.unique(np.concatenate([learn for learn, _ in division.trainings]))
        return division, PreparedInputs(
            self.config, division.dataset, learners, accelerator, self.cache, self.progress
        )

    @contextlib.contextmanager
    def _recording(self, run: Run, main: bool) -> Iterator[Recorder | None]:
        """Give what takes the figures of every epoch: the user's, or the log of the run folder."""
        if self.recorder is not None or not main:
            yield self.recorder
            return
        if run.folder is not None and not run.resumed:
            (run.folder / METRICS).unlink(missing_ok=True)
        name = "allkit" if run.folder is None else run.folder.stem
        settings = self.config.model_dump(mode="json")
        with open_log(run.folder, self.config.trackers, name=name, config=settings) as log:
            yield log

    def _fit(
        self,
        train: Dataset,
        val: Dataset | None,
        accelerator: Accelerator,
        run: Run,
        recorder: Recorder | None,
    ) -> Classifier:
        config = self.config
        division, prepared = self._material(train, val, accelerator)
        run.begin(_facts(config, division, prepared, accelerator))
        with threads(run.facts["threads"] if accelerator.device.type == "cpu" else None):
            # The pass over all images, before anything is learnt from them. A training that is
            # taken up goes through it again, mostly out of the cache.
            features = prepared.features()
            session = Session(
                config, accelerator, division, prepared, features, run, self.progress, recorder
            )
            members: list[Member] = []
            histories: list[History] = []
            held_out: list[HeldOut] = []
            for part in range(len(division.parts)):
                numbers = [part * config.members + seed for seed in range(config.members)]
                trained = [session.train(number) for number in numbers]
                group = [member for member, _ in trained]
                held_out.append(session.held_out(numbers, group))
                members += group
                histories += [history for _, history in trained]
            if division.refit:
                # In place of those that were judged.
                first = len(division.parts) * config.members
                members = [session.train(first + seed)[0] for seed in range(config.members)]
            further = further_held_out(session)
        network = session.network(members)
        backbone = session.backbone_info(network)
        fitted = self._trust(session, division, [*held_out, *further], network, backbone)
        own = sum(len(part.images) for part in held_out)
        figures = figures_of(division, held_out, fitted.probabilities[:own])
        info = describe(config, division, backbone, figures, histories, fitted.notes)
        provenance = provenance_of(
            data=division.dataset.fingerprint,
            division=division_hash(division.dataset.hashes, division.parts), seed=config.seed,
            weights=prepared.fingerprint, engine=prepared.signature, device=accelerator.device,
            plugins=info.plugins, processes=accelerator.num_processes,
        )  # fmt: skip
        result = arrays_hash(network.state_dict())
        info = info.model_copy(
            update={"provenance": provenance.model_copy(update={"result": result})}
        )
        return Classifier(
            network, info, trust=fitted.trust, device=accelerator.device,
            training=kept_signatures(division.dataset),
        )  # fmt: skip

    def _trust(
        self,
        session: Session,
        division: Division,
        held_out: list[HeldOut],
        network: Network,
        backbone: BackboneInfo,
    ) -> Fitted:
        """Fit calibration and familiarity on what the members did not learn from."""
        config = self.config
        if config.strategy == "head" and not config.tta:
            features = session.features.views[0]
        else:
            extractor = Extractor(
                network.embedding(), session.prepared.record.input, backbone.identity,
                session.accelerator.device, cache=self.cache,
            )  # fmt: skip
            features = extractor.extract(
                division.dataset, progress=self.progress, label="features of the finished model"
            )
        dataset = division.dataset
        images = TrainingImages(
            dataset.classes,
            dataset.labels,
            dataset.units,
            dataset.fields,
            dataset.has_groups,
            statistics=dataset_statistics(dataset, cache=self.cache, progress=self.progress),
            features=features,
        )
        return fit_trust(
            images,
            np.concatenate([part.images for part in held_out]),
            np.concatenate([part.logits for part in held_out]),
            settings=TrustSettings(config.coverage, config.familiar),
            divisions=division.parts, frozen=config.strategy == "head",
        )  # fmt: skip


def _facts(
    config: TrainConfig, division: Division, prepared: PreparedInputs, accelerator: Accelerator
) -> dict[str, Any]:
    """Return everything on which the weights depend: a resumed training must share it."""
    settings = config.model_dump(mode="json")
    settings["weights"] = Path(config.weights).name  # its content counts, not its place
    dataset = division.dataset
    parts = [[learn.tolist(), check.tolist()] for learn, check in division.parts]
    return {
        "config": settings,
        "images": _digest([dataset.hashes, dataset.labels.tolist()]),
        "relations": relations_hash(dataset),
        "validation": _digest(parts),
        "backbone": prepared.fingerprint,
        "precision": prepared.precision,
        "processes": accelerator.num_processes,
        "device": accelerator.device.type,
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in ("allkit", "torch", "numpy", *prepared.plugins)},
    }


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
