"""Features of the frozen backbone, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from allkit.data.dataset import Dataset
from allkit.data.rows import unreadable
from allkit.errors import AllkitError, ImageError, PluginError
from allkit.features.bags import pass_through
from allkit.features.cache import FeatureCache
from allkit.features.engines import BLOCK
from allkit.images.arrays import large_array
from allkit.images.batches import read_ahead
from allkit.records import Augmentation, InputSpec
from allkit.types import Progress

__all__ = ["Extractor", "load_augmented", "row_key"]


def row_key(
    image_hash: str,
    identity: Sequence[str],
    spec: InputSpec,
    engine: Sequence[str],
    augment: Sequence[str] = (),
    copy: int = 0,
    seed: int = 0,
) -> bytes:
    """Return the key, 32 bytes, of what a frozen pass makes of one (augmented) image.

    `identity` names the module and holds the hash of its weights, `engine` is the signature of
    the `FrozenPass`, `augment` holds the names and versions of the augmentations.
    """
    augmented = [list(augment), copy, seed] if copy else []
    view = [spec.size, *spec.mean, *spec.std, spec.view, spec.bag]
    text = json.dumps([image_hash, list(identity), view, augmented, list(engine)])
    return hashlib.sha256(text.encode()).digest()


def load_augmented(
    dataset: Dataset,
    index: int,
    augment: Sequence[Augmentation] = (),
    copy: int = 0,
    seed: int = 0,
) -> npt.NDArray[np.uint8]:
    """Return image `index` `(H, W, 3)` uint8, or the copy of it with that number.

    `copy` 0 is the image as it is; copies 1, 2, … are augmented, each determined by the image's
    content, `seed` and the copy's number. Raises `ImageError`, and `PluginError` when an
    augmentation fails or does not keep shape and type.
    """
    image = dataset.read(index)
    if copy:
        rng = np.random.default_rng([seed, copy, int(dataset.hashes[index][:16], 16)])
        for record in augment:
            image = _augmented(record, image, rng)
    return image


@dataclass
class Extractor:
    """Computes features of images with one frozen backbone.

    `identity` holds whatever distinguishes this backbone from any other: its name, plugin and
    version, and the hash of its weights. `engine` is one of `ENGINES`.
    """

    backbone: nn.Module
    spec: InputSpec
    identity: tuple[str, ...]
    device: torch.device
    precision: str = "float32"
    cache: FeatureCache | None = None
    engine: str = "torch"

    def __post_init__(self) -> None:
        self.frozen = pass_through(
            self.backbone, self.spec, self.device, self.precision, self.engine
        )

    def key(self, image_hash: str, augment: Sequence[str], copy: int, seed: int) -> bytes:
        """Return the cache key of one (augmented) image, 32 bytes."""
        return row_key(
            image_hash, self.identity, self.spec, self.frozen.signature, augment, copy, seed
        )

    def compute(self, images: list[Any]) -> npt.NDArray[np.float32]:
        """Return the features `(N, D)` float32 of N images `(H, W, 3)` uint8 of any size.

        Where the bag holds cells, an image may be given as its `Cells`.
        """
        rows: npt.NDArray[np.float32] = self.frozen(images).numpy()
        return rows

    def extract(
        self,
        dataset: Dataset,
        *,
        augment: Sequence[Augmentation] = (),
        names: Sequence[str] = (),
        copy: int = 0,
        seed: int = 0,
        progress: Progress | None = None,
        label: str = "features",
    ) -> npt.NDArray[np.float32]:
        """Return the features `(N, D)` float32 of a set, from the cache where they are in it.

        `copy`, `augment` and `seed` are those of `load_augmented`; `names` are the names and
        versions of the augmentations. At most 64 decoded images are held, and features of more
        than 64 MiB lie in a temporary file that is mapped into memory.
        Raises `DatasetError` that lists every unreadable image.
        """
        total = len(dataset)
        keys = [self.key(digest, names, copy, seed) for digest in dataset.hashes]
        rows, found = self._from_cache(keys)
        # Byte-identical images are computed once.
        first = {keys[i]: i for i in range(total - 1, -1, -1) if not found[i]}
        todo = sorted(first.values())
        done = total - len(todo)
        report = progress or (lambda *_: None)
        report(label, done, total)
        errors: list[str] = []

        def load(index: int) -> npt.NDArray[np.uint8] | ImageError:
            try:
                return load_augmented(dataset, index, augment, copy, seed)
            except ImageError as error:
                return error

        for batch in read_ahead(todo, load, BLOCK):
            images = {i: image for i, image in batch if not isinstance(image, ImageError)}
            errors += [str(image) for _, image in batch if isinstance(image, ImageError)]
            if images and not errors:
                engine = self.frozen.signature
                self.frozen.prepare(list(images.values()))
                if self.frozen.signature != engine:  # the keys name the engine: begin again
                    return self.extract(
                        dataset, augment=augment, names=names, copy=copy, seed=seed,
                        progress=progress, label=label,
                    )  # fmt: skip
                block = BLOCK if total >= BLOCK else 0  # a handful need not be filled up
                fresh = self.frozen(list(images.values()), block=block).numpy()
                _require_finite(fresh, [dataset.samples[i].image for i in images], self.identity)
                if rows is None:
                    rows = large_array((total, fresh.shape[1]), np.float32)
                rows[list(images)] = fresh
                if self.cache:
                    self.cache.put(
                        dict(zip((keys[i] for i in images), fresh, strict=True)),
                        backbone=self.identity[0], engine=" ".join(self.frozen.signature),
                    )  # fmt: skip
            done += len(batch)
            report(label, done, total)
        if errors:
            dataset.verify()  # names every one, also those whose twin was read for them
            raise unreadable(errors, total, dataset.name)
        if rows is None:
            raise ValueError(f"{dataset.name} holds no images")
        for index in range(total):
            if not found[index] and first[keys[index]] != index:
                rows[index] = rows[first[keys[index]]]
        return rows

    def _from_cache(
        self, keys: Sequence[bytes]
    ) -> tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.bool_]]:
        rows = None
        found = np.zeros(len(keys), dtype=bool)
        for start in range(0, len(keys) if self.cache else 0, 1000):
            part = keys[start : start + 1000]
            known = self.cache.get(part) if self.cache else {}
            for index, key in enumerate(part, start):
                vector = known.get(key)
                if vector is not None:
                    if rows is None:
                        rows = large_array((len(keys), len(vector)), np.float32)
                    rows[index], found[index] = vector, True
        return rows, found


def _require_finite(
    rows: npt.NDArray[np.float32], images: Sequence[str], identity: Sequence[str]
) -> None:
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise AllkitError(
            f"The backbone {identity[0]!r} gave features that are no numbers for "
            f"{images[bad[0]]}. Its weights may be damaged; `--set precision=float32` may help "
            f"when they are not."
        )


def _augmented(
    record: Augmentation, image: npt.NDArray[np.uint8], rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    try:
        result = record.apply(image, rng)
    except Exception as error:
        raise PluginError(
            f"The augmentation {record.name!r} failed: {type(error).__name__}: {error}"
        ) from error
    if (
        not isinstance(result, np.ndarray)
        or result.dtype != np.uint8
        or result.shape != image.shape
    ):
        got = f"{getattr(result, 'shape', type(result).__name__)} {getattr(result, 'dtype', '')}"
        raise PluginError(
            f"The augmentation {record.name!r} returned {got} for {image.shape} uint8; it must "
            f"keep shape and type."
        )
    return result
