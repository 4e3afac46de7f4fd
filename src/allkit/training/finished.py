"""A training that is started again after its model was written: the same model, or a refusal."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from allkit.config import TrainConfig
from allkit.config.part import PARTS
from allkit.config.spelling import argument, flag
from allkit.data.dataset import Dataset
from allkit.errors import ConfigError
from allkit.evaluation.leakage import relations_hash, signature_positions
from allkit.evaluation.site_key import HiddenGroups
from allkit.model.classifier import Classifier
from allkit.model.info import ModelInfo
from allkit.model.parts import read_parts
from allkit.model.provenance import PACKAGES, division_hash, package_versions
from allkit.network.hashes import weights_hash
from allkit.records import Reference
from allkit.training.backbone import untrained_backbone
from allkit.training.division import divide, require_trainable, whole_set
from allkit.training.own import NOTHING, OwnParts

__all__ = ["finished_model", "is_finished"]

AGAIN = f"{flag('overwrite')} in place of {flag('resume')}"
NO_PART = ("weights", "trackers", "device")
"""Settings that do not change the model's answers: the weights are compared by their content."""


def is_finished(folder: Path) -> bool:
    """Return whether the training into `folder` is finished, so that nothing is left to resume."""
    return folder.exists() and not (folder.with_name(f"{folder.name}.run") / "run.json").exists()


def finished_model(
    folder: Path,
    config: TrainConfig,
    train: Dataset,
    val: Dataset | None,
    *,
    device: torch.device,
    own: OwnParts = NOTHING,
) -> Classifier:
    """Return the model in `folder`, if it was trained with these settings and images.

    No features are computed: files are hashed, the backbone is built, and fields that were
    photographed twice are searched for. Other versions of packages, and facts that an older
    allkit did not record, give a warning.

    Raises `ConfigError` that names the first difference.
    """
    network, info, trust, training = read_parts(folder, own.given)
    model = Classifier(network, info, trust=trust, device=device, training=training)
    if model.info.adaptations:
        raise ConfigError(
            f"{folder} was adapted to images of a laboratory after its training "
            f"({model.info.adaptations[-1].created}), so no training gives this model. Choose "
            f"another {argument('out')}, or train again with {AGAIN}."
        )
    if model.info.distillation is not None:
        raise ConfigError(
            f"{folder} holds a student, which learnt the answers of another model. Choose another "
            f"{argument('out')}, or train with {AGAIN}."
        )
    unsaid: list[str] = []
    difference = next(_differences(model, config, train, val, unsaid=unsaid, own=own), "")
    if difference:
        raise ConfigError(
            f"The training of {folder} is finished, and it was trained with {difference}. Give the "
            f"same, or train again with {AGAIN}."
        )
    if unsaid:
        warnings.warn(
            f"{folder} was written by allkit {model.info.allkit}, which recorded less of the "
            f"training, so this was not compared: {', '.join(unsaid)}.",
            stacklevel=3,
        )
    newer = _other_versions(model.info, device)
    if newer:
        warnings.warn(
            f"The training of {folder} is finished: the model is returned as it was. It was "
            f"trained with {', '.join(newer)}; a new training may give other weights.",
            stacklevel=3,
        )
    return model


def _differences(
    model: Classifier,
    config: TrainConfig,
    train: Dataset,
    val: Dataset | None,
    *,
    unsaid: list[str],
    own: OwnParts,
) -> Iterator[str]:
    """Yield the differences in words, those that are cheap to compare first.

    Facts that the model does not hold are added to `unsaid`.
    """
    info, provenance = model.info, model.info.provenance
    before = info.config.model_dump(mode="json")
    given = val is not None and len(val) > 0
    for key, value in config.model_dump(mode="json").items():
        if key in NO_PART or (key == "val" and given and provenance is not None):
            continue  # the division itself is compared
        if key not in info.config.model_fields_set:
            unsaid.append(key)
        elif before[key] != value and not (key in PARTS and _short(value) == before[key]):
            yield f"{key} = {before[key]!r}, not {value!r}"
    if own.told(config) != info.own:
        yield f"the own parts {', '.join(info.own) or 'none'}"
    whole = whole_set(train, val)
    yield from _other_images(model, whole, unsaid)
    start = (provenance and provenance.weights) or info.backbone.pretrained_sha256
    if not start and not info.backbone.trained:
        start = info.backbone.weights_sha256
    if not start:
        unsaid.append("the weights of the backbone")
    elif weights_hash(untrained_backbone(config, own)) != start:
        yield "other weights of the backbone"
    if provenance is None:
        unsaid.append("which images were kept for validation")
    else:
        require_trainable(config, train, val)
        division = divide(config, whole, len(train))
        if division_hash(division.dataset.hashes, division.parts) != provenance.division:
            yield "other images kept for validation"


def _short(value: Any) -> Any:
    """Return the names of parts alone, as models of before contract version 2 held them."""
    if isinstance(value, list):
        return [_short(one) for one in value]
    return value if value is None else Reference.of(value).name


def _other_images(model: Classifier, whole: Dataset, unsaid: list[str]) -> Iterator[str]:
    info = model.info
    if sorted(set(whole.hashes)) != list(info.data.images_sha256):
        yield "other images"
    if set(whole.classes) == set(info.classes) and whole.classes != info.classes:
        yield f"the classes in the order {', '.join(info.classes)}, not {', '.join(whole.classes)}"
    if whole.fingerprint != info.data.fingerprint:
        yield "other labels of the images"
    groups = HiddenGroups(info.data.groups_sha256)
    if "groups_sha256" not in info.data.model_fields_set:
        unsaid.append("groups")
    elif not groups.known:
        unsaid.append("groups, which are kept under the key of another site")
    elif not groups.are(whole.origins):
        yield "other groups of the images"
    if not info.data.relations_sha256:
        unsaid.append("which images belong together")
    elif relations_hash(whole) != info.data.relations_sha256:
        yield "other groups, cases or repeated fields of the images"
    if "sha256" not in model.training:
        unsaid.append("the order of the images")
    else:
        before = [row.tobytes().hex() for row in model.training["sha256"]]
        if [whole.hashes[i] for i in signature_positions(len(whole))] != before:
            yield "the images in another order, which decides the batches"


def _other_versions(info: ModelInfo, device: torch.device) -> list[str]:
    """Return in words which packages had another version, and whether the device was another."""
    if info.provenance is None:
        return []
    now = package_versions(PACKAGES) | {"python": platform.python_version()}
    found = [
        f"{name} {version} (now {now[name]})"
        for name, version in info.provenance.versions.items()
        if now.get(name, version) != version
    ]
    before = info.provenance.hardware.get("device", "")
    here = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return found + ([f"the device {before} (now {here})"] if before not in ("", here) else [])
