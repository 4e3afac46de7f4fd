"""Leakage: whether the images of a set, their groups or their fields were trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt

from allkit.data.dataset import Dataset
from allkit.evaluation.site_key import HiddenGroups
from allkit.images.same_field import match, pack, unpack

__all__ = [
    "IMAGE_LEVEL",
    "TrainedOn",
    "cautions",
    "kept_signatures",
    "relations_hash",
    "signature_positions",
]

IMAGE_LEVEL = (
    "Image-level split: images of the same slide, even of the same field, were trained on and "
    "tested. This is the protocol of the published systems; its figures are inflated."
)


class TrainedOn(Protocol):
    """What a model keeps about its training images; `DataInfo` of `model.json` has it."""

    @property
    def images_sha256(self) -> tuple[str, ...]:
        """The SHA-256 of every image."""

    @property
    def groups_sha256(self) -> tuple[str, ...]:
        """Every group, as `hide_groups` gives them."""

    @property
    def slides_sha256(self) -> tuple[str, ...]:
        """Every known slide, as `hide_groups` gives them; empty in models of earlier versions."""

    @property
    def split_by(self) -> str | None:
        """How they were divided, `group` or `image`; `None` if the user gave the parts."""

    @property
    def drawn(self) -> bool:
        """Whether they were drawn."""


def relations_hash(dataset: Dataset) -> str:
    """Return a hash of which images belong together: by group and case, and by field.

    It holds hashes of images and no name. Every image is decoded, as for `Dataset.fields`.
    """
    partitions = []
    for numbers in (dataset.units, dataset.fields):
        members: dict[int, list[str]] = {}
        for number, digest in zip(numbers.tolist(), dataset.hashes, strict=True):
            members.setdefault(number, []).append(digest)
        partitions.append(sorted(sorted(digests) for digests in members.values()))
    return hashlib.sha256(json.dumps(partitions).encode()).hexdigest()


def cautions(
    trained_on: TrainedOn, training: Mapping[str, npt.NDArray[Any]], dataset: Dataset
) -> list[str]:
    """Return why the metrics of a model on a set may be too high, in sentences.

    `training` are the `kept_signatures` of the model's training images.
    """
    trained = set(trained_on.images_sha256)
    same_images = sum(digest in trained for digest in dataset.hashes)
    trained_groups = HiddenGroups(trained_on.groups_sha256)
    groups = [sample.group or sample.case for sample in dataset]
    of_known_groups = sum(map(trained_groups.holds, groups))
    notes = []
    if same_images:
        notes.append(
            f"{same_images} of these {len(dataset)} images were trained on: the figures are too high."
        )
    if of_known_groups > same_images:
        notes.append(
            f"{of_known_groups} of these {len(dataset)} images come from groups that were trained on: "
            f"the figures say nothing about new slides."
        )
    trained_slides = HiddenGroups(trained_on.slides_sha256)
    of_known_slides = sum(trained_slides.holds(sample.slide) for sample in dataset)
    if of_known_slides > max(same_images, of_known_groups):
        notes.append(
            f"{of_known_slides} of these {len(dataset)} images come from slides that were trained on: the "
            f"figures say nothing about new slides."
        )
    if not trained_groups.known and any(groups):
        notes.append(
            f"Whether these images come from groups that were trained on is unknown: the model keeps its "
            f"groups under the key of another site ({', '.join(trained_groups.others)}), which is not here."
        )
    same_fields = {index for index, _ in match(dataset.signatures, unpack(training))}
    same_fields -= {i for i, digest in enumerate(dataset.hashes) if digest in trained}
    if same_fields:
        notes.append(
            f"{len(same_fields)} of these {len(dataset)} images show a field that was trained on, "
            f"photographed again: the figures are too high."
        )
    searched = len(training.get("counts", ()))
    if training and searched < len(trained):
        notes.append(
            f"Images of the same field were searched for among {searched:,} of the {len(trained):,} "
            f"training images; the model keeps no more."
        )
    if "image" in (dataset.split_by, trained_on.split_by):
        notes.append(IMAGE_LEVEL)
    if trained_on.drawn:
        notes.append("The model was trained on drawn images: nothing follows for real smears.")
    return notes


KEPT = 10_000
"""Largest number of images whose signatures a model keeps; 3.5 KB each."""


def kept_signatures(dataset: Dataset) -> dict[str, npt.NDArray[Any]]:
    """Return the signatures of training images by which a model recognises fields, as plain arrays.

    Keypoints and bits of their surroundings, from which no image can be restored. Of more than
    10,000 images, that many are taken at equal distances.
    """
    return pack(dataset.subset(signature_positions(len(dataset))).signatures)


def signature_positions(count: int) -> range:
    """Return the positions of those of `count` images whose signatures are kept."""
    return range(0, count, max(1, -(-count // KEPT)))
