"""Whether the arrays of a model folder are those that its description speaks of.

Asked before a network is made for them: a description that lies about its size would fill the memory.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from allkit.model.info import ModelInfo
from allkit.trust.arrays import PREFIXES
from allkit.trust.sound import fault

__all__ = ["unfit"]

SIGNATURES = {
    "data.sha256": (torch.uint8, 32),
    "data.sizes": (torch.int32, 2),
    "data.counts": (torch.int32, None),
    "data.keypoints": (torch.int16, 4),
    "data.descriptors": (torch.uint8, 32),
}
"""The arrays by which fields of the training are recognised: kind, and numbers in a row."""


def unfit(info: ModelInfo, arrays: Mapping[str, torch.Tensor]) -> str:
    """Return what is wrong with the arrays of a model folder, or an empty string."""
    known = ("network.", "data.", *PREFIXES)
    for name, array in arrays.items():
        if not name.startswith(known):
            return f"it holds an array {name[:80]!r}, which allkit does not write"
        of_network = name.startswith("network.") and array.dtype.is_floating_point
        if of_network and not bool(torch.isfinite(array).all()):
            return f"{name} holds what is not a number"
    return _of_heads(info, arrays) or _of_training(info, arrays) or _of_trust(info, arrays)


def _of_heads(info: ModelInfo, arrays: Mapping[str, torch.Tensor]) -> str:
    """Return where the heads are others than `width`, `members` and `classes` say."""
    width, members, classes = info.backbone.width, info.backbone.members, len(info.classes)
    heads = {name.split(".")[2] for name in arrays if name.startswith("network.heads.")}
    if len(heads) != members:
        return f"backbone.members = {members}, and the arrays are those of {len(heads)}"
    shapes = {"mean": (width,), "scale": (width,), "linear.weight": (classes, width)}
    for head in range(members):
        for part, shape in {**shapes, "linear.bias": (classes,)}.items():
            name = f"network.heads.{head}.{part}"
            if name not in arrays:
                return f"it lacks the array {name}"
            if tuple(arrays[name].shape) != shape:
                return (
                    f"{name} has the shape {tuple(arrays[name].shape)}, and backbone.width = {width} with "
                    f"{classes} classes needs {shape}"
                )
    tails = {n.split(".")[3] for n in arrays if n.startswith("network.backbone.tails.")}
    if info.backbone.cut is not None and len(tails) != members:
        return (
            f"backbone.cut is for {members} members, and the arrays hold the stages of {len(tails)}"
        )
    return ""


def _of_training(info: ModelInfo, arrays: Mapping[str, torch.Tensor]) -> str:
    """Return where the signatures of the training images are none."""
    given = {name: array for name, array in arrays.items() if name.startswith("data.")}
    if not given:
        return ""
    for name in [*SIGNATURES, *given]:
        if name not in given:
            return f"it lacks the array {name}"
        if name not in SIGNATURES:
            return f"it holds an array {name[:80]!r}, which allkit does not write"
        kind, row = SIGNATURES[name]
        shape = given[name].shape
        if given[name].dtype != kind or len(shape) != (1 if row is None else 2):
            return f"{name} has the shape {tuple(shape)} and the kind {given[name].dtype}"
        if row is not None and shape[1] != row:
            return f"{name} has {shape[1]} numbers in a row, not {row}"
    counts = given["data.counts"]
    images, points = len(counts), len(given["data.keypoints"])
    if len(given["data.sha256"]) != images or len(given["data.sizes"]) != images:
        return (
            f"data.counts is for {images} images, and data.sha256 for {len(given['data.sha256'])}"
        )
    # Images of the training, and those of a laboratory to which the model was adapted.
    total = sum(info.data.counts.values()) + len(info.data.images_sha256)
    if images > total:
        return f"data.counts is for {images} images, and the model was trained on {total} at most"
    if images and (int(counts.min()) < 0 or int(given["data.sizes"].min()) < 1):
        return "data.counts or data.sizes holds what is no size"
    if int(counts.sum()) != points or len(given["data.descriptors"]) != points:
        return f"data.counts adds up to {int(counts.sum())} keypoints, and there are {points}"
    return ""


def _of_trust(info: ModelInfo, arrays: Mapping[str, torch.Tensor]) -> str:
    of_trust: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if name.startswith(PREFIXES):
            if array.dtype == torch.bfloat16:
                return f"{name} is of the kind {array.dtype}"
            of_trust[name] = array.numpy()
    members = info.backbone.members if info.backbone.cut is not None else 1
    return fault(of_trust, len(info.classes), info.backbone.width * members)
