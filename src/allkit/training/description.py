"""The results of a training: answers on held-out images, metrics, description."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit import __version__
from allkit.config import TrainConfig
from allkit.config.own import is_own
from allkit.data.dataset import Dataset
from allkit.data.labels import display_name
from allkit.data.slides import known_names
from allkit.evaluation.coarse import coarse_metrics
from allkit.evaluation.leakage import IMAGE_LEVEL, relations_hash
from allkit.evaluation.result import Evaluation, by_fold, evaluate
from allkit.evaluation.site_key import hide_groups
from allkit.model.classifier import Classifier
from allkit.model.distillation import Distillation
from allkit.model.info import BackboneInfo, DataInfo, ModelInfo, lowest_format
from allkit.model.own import structure_of
from allkit.model.provenance import Provenance
from allkit.network.hashes import weights_hash
from allkit.network.modules import Branches, Network, fingerprint
from allkit.network.standardise import view_fingerprint
from allkit.training.backbone import TrainingBackbone
from allkit.training.division import Division
from allkit.training.own import NOTHING, OwnParts
from allkit.training.plan import History
from allkit.trust.groups import ClassGroups

__all__ = ["HeldOut", "backbone_info", "model_info", "used_plugins", "validation_of", "version"]


@dataclass(frozen=True)
class HeldOut:
    """The outputs of the members of one division for the images that they did not learn from.

    `images` are positions `(n,)` in the set; `logits` `(n, K)` float32 are the mean over the
    members of this division; `features` `(n, D)` float32 are the ones its heads see (those of
    several members with stages of their own side by side). With test-time augmentation both are
    over the eight orientations.
    """

    images: npt.NDArray[np.int64]
    features: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]


def validation_of(
    division: Division,
    held_out: Sequence[HeldOut],
    probabilities: npt.NDArray[np.floating[Any]],
    groups: ClassGroups | None = None,
) -> Evaluation | None:
    """Return the metrics over all held-out images, each judged by members that did not see it.

    `probabilities` `(n, K)` are those of the held-out images, in their order. If there are several
    divisions, the metrics of each are in `extra` under `folds`. The coarse answer is the group of
    classes with the highest log-odds.
    """
    images = np.concatenate([part.images for part in held_out])
    if not len(images):
        return None
    part = division.dataset.subset(images)
    ends = np.cumsum([len(fold.images) for fold in held_out])[:-1]
    folds = [
        by_fold(part.classes, labels, rows)
        for labels, rows in zip(
            np.split(part.labels, ends), np.split(probabilities, ends), strict=True
        )
    ]
    extra: dict[str, Any] = {"folds": folds} if len(folds) > 1 else {}
    if groups is not None:
        evidence = groups.log_odds(np.concatenate([fold.logits for fold in held_out]))
        extra["coarse"] = coarse_metrics(
            groups.names,
            np.array(groups.of_class)[part.labels],
            evidence.argmax(axis=1),
            verdicts=None,
        )
    return evaluate(
        part.labels,
        probabilities,
        part.classes,
        verdicts=None,  # they were set on these very images
        units=part.units if part.has_groups else None,
        notes=[IMAGE_LEVEL] if division.by == "image" else [],
        extra=extra,
    )


def backbone_info(backbone: TrainingBackbone, network: Network) -> BackboneInfo:
    """Return the description of the backbone as it answers in `network`."""
    record, provider = backbone.record, backbone.provider
    tuned = backbone.cut is not None
    trained: tuple[str, ...] = ()
    if tuned:
        names = [name for name, _ in backbone.halves()[1].named_children()]
        trained = tuple(n for n in record.stages if n in names) or ("all",)
    return BackboneInfo(
        name=record.name,
        distribution=provider.distribution,
        version=provider.version,
        settings=dict(backbone.settings),
        width=backbone.width,
        members=len(network.heads),
        license=record.license,
        weights_sha256=weights_hash(network.backbone) if tuned else backbone.fingerprint,
        pretrained_sha256=backbone.fingerprint,
        cut=backbone.cut if isinstance(network.backbone, Branches) else None,
        trained=trained,
        orientations=network.orientations,
        input=record.input,
        finder=backbone.finder,
        tiles=record.input.bag != "field",
        fingerprint=fingerprint(network.backbone, record.input),
        view_fingerprint=view_fingerprint(record.input),
        structure=structure_of(backbone.module) if is_own(record.name) else "",
    )


def model_info(
    config: TrainConfig,
    division: Division,
    backbone: BackboneInfo,
    *,
    validation: Evaluation | None,
    histories: Sequence[History],
    trust_notes: Sequence[str],
    provenance: Provenance,
    teacher: Classifier | None = None,
    own: OwnParts = NOTHING,
) -> ModelInfo:
    """Return the description that is saved with the model."""
    dataset = division.dataset
    return ModelInfo(
        allkit=__version__,
        format=lowest_format(backbone, config),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        classes=dataset.classes,
        display_names={name: display_name(name) for name in dataset.classes},
        backbone=backbone,
        plugins=used_plugins(config, own),
        own=own.told(config),
        config=_shareable(config),
        data=_data_info(division),
        validation=None
        if validation is None
        else validation.to_dict() | _protocol(division, config),
        trust_notes=tuple(trust_notes),
        history=tuple(tuple(history) for history in histories),
        versions={n: version(n) for n in ("torch", "timm", "numpy", "pillow")}
        | {"python": platform.python_version()},
        passport=provenance,
        distillation=None
        if teacher is None
        else Distillation(teacher=teacher.content_hash(), backbone=teacher.info.backbone.name),
    )


def _protocol(division: Division, config: TrainConfig) -> dict[str, str]:
    how = {"group": "by group", "image": "by image", None: "given by the user"}[division.by]
    if config.folds:
        return {"protocol": f"{config.folds}-fold cross-validation {how}, pooled"}
    stopping = ", also used to decide when to stop" if config.head_solver == "adamw" else ""
    then = ", before the head was trained again on all images" if division.refit else ""
    return {"protocol": f"Validation part, divided {how}{stopping}{then}"}


def _data_info(division: Division) -> DataInfo:
    dataset: Dataset = division.dataset
    return DataInfo(
        fingerprint=dataset.fingerprint,
        counts={name: dataset.counts[name] for name in dataset.classes},
        images_sha256=tuple(sorted(set(dataset.hashes))),
        groups_sha256=hide_groups(dataset.origins),
        slides_sha256=hide_groups(known_names(dataset.samples)),
        relations_sha256=relations_hash(dataset),
        split_by=division.by,
        drawn=dataset.drawn,
    )


def _shareable(config: TrainConfig) -> TrainConfig:
    """Return the settings as the model keeps them: without the folder of the weights file."""
    return config.model_copy(update={"weights": Path(config.weights).name})


def used_plugins(config: TrainConfig, own: OwnParts = NOTHING) -> dict[str, str]:
    """Return the distributions of the plugins that are used, with their versions."""
    return {plugin.distribution: plugin.version for plugin in own.plugins(config)}


def version(name: str) -> str:
    """Return the installed version of a distribution."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
