"""Features of the frozen backbone, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from allkit.config.spelling import setting
from allkit.data.dataset import Dataset
from allkit.data.passes import Frame, Measure
from allkit.errors import PluginError
from allkit.features.bags import pass_through
from allkit.features.cache import FeatureCache
from allkit.features.engines import BLOCK
from allkit.images.arrays import large_array
from allkit.images.cells import FINDER, Cells
from allkit.plugins import calling
from allkit.records import Augmentation, InputSpec
from allkit.types import Pixels, Progress

__all__ = ["AugmentedCopy", "Extractor", "row_key"]

log = logging.getLogger(__name__)


def row_key(
    image_hash: str,
    identity: Sequence[str],
    spec: InputSpec,
    engine: Sequence[str],
    *,
    copy: AugmentedCopy | None = None,
) -> bytes:
    """Return the key, 32 bytes, of the output of a frozen pass for one image, or a copy of it.

    `identity` names the module and holds the hash of its weights, `engine` is the signature of
    the `FrozenPass`.
    """
    augmented = [list(copy.names), copy.number, copy.seed] if copy else []
    view = [spec.size, *spec.mean, *spec.std, spec.view, spec.bag]
    if spec.bag != "field":
        view += [spec.cell_size, spec.max_cells, spec.spread]
    text = json.dumps([image_hash, list(identity), view, augmented, list(engine)])
    return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True)
class AugmentedCopy:
    """Makes the augmented copy number `number` (from 1) of each image, determined by its content.

    `names` are the names and versions of the augmentations, which are part of cache keys.
    """

    number: int
    augment: Sequence[Augmentation]
    names: Sequence[str]
    seed: int

    def of(self, frame: Frame) -> Pixels:
        """Return the copy of an image, `(H, W, 3)` uint8 as it is.

        Raises `PluginError` when an augmentation fails or does not keep shape and type.
        """
        rng = np.random.default_rng([self.seed, self.number, int(frame.sha256[:16], 16)])
        image = frame.pixels
        for record in self.augment:
            image = _augmented(record, image, rng)
        return image


@dataclass
class Extractor:
    """Computes features of images with one frozen backbone.

    `identity` distinguishes this backbone from all others: its name, plugin and version, and the
    hash of its weights. `engine` is one of `ENGINES`, `finder` the version of the finder of cells,
    `tiled` whether large fields are cut into tiles.
    """

    backbone: nn.Module
    spec: InputSpec
    identity: tuple[str, ...]
    device: torch.device
    precision: str = "float32"
    cache: FeatureCache | None = None
    engine: str = "torch"
    finder: str = FINDER
    tiled: bool = True

    def __post_init__(self) -> None:
        self.frozen = pass_through(
            self.backbone,
            self.spec,
            self.device,
            precision=self.precision,
            engine=self.engine,
            finder=self.finder,
            tiled=self.tiled,
        )

    def key(self, image_hash: str, copy: AugmentedCopy | None = None) -> bytes:
        """Return the cache key, 32 bytes, of an image or of an augmented copy of it."""
        return row_key(image_hash, self.identity, self.spec, self.frozen.signature, copy=copy)

    def missing(self, dataset: Dataset, copy: AugmentedCopy | None = None) -> int:
        """Return how many images of a set have to be computed, because the cache lacks them."""
        keys = {self.key(digest, copy) for digest in dataset.passes.keys}
        return len(keys) - (self.cache.count(list(keys)) if self.cache else 0)

    def compute(self, images: list[Any]) -> npt.NDArray[np.float32]:
        """Return the features `(N, D)` float32 of N images `(H, W, 3)` uint8 of any size.

        Where the bag holds cells, an image may be given as its `Cells`.
        """
        rows: npt.NDArray[np.float32] = self.frozen(images).numpy()
        _require_finite(rows, ["an image"] * len(images), self.identity)
        return rows

    def extract(
        self,
        dataset: Dataset,
        *,
        copy: AugmentedCopy | None = None,
        measures: Sequence[Measure] = (),
        progress: Progress | None = None,
        label: str = "features",
    ) -> npt.NDArray[np.float32]:
        """Return the features `(N, D)` float32 of a set; those in the cache are not computed.

        They are those of the images as they are, or of an augmented `copy`. For the images as they
        are, `measures` are taken in the same pass, so that each is decoded once. At most 64 decoded
        images are in memory, and features of more than 64 MiB are in a temporary file that is mapped
        into memory. Raises `DatasetError` that lists every unreadable image.
        """
        total = len(dataset)
        if not total:
            raise ValueError(f"{dataset.name} holds no images")
        keys = [self.key(digest, copy) for digest in dataset.passes.keys]
        rows, there = self._from_cache(keys)
        if there.any():
            # Work inside other work has no progress of its own, and is not told by itself.
            tell = log.debug if progress is None else log.info
            tell("%s: %s of %s images are in the cache.", label, f"{there.sum():,}", f"{total:,}")
        # Byte-identical images are computed once.
        first = {keys[i]: i for i in range(total - 1, -1, -1) if not there[i]}
        block = BLOCK if total >= BLOCK else 0  # a handful need not be filled up
        engine = self.frozen.signature
        wanted = list(first.values())
        for batch in self._passing(
            dataset, wanted, copy=copy, measures=measures, progress=progress, label=label
        ):
            indices, images = [index for index, _ in batch], [image for _, image in batch]
            self.frozen.prepare(images)
            if self.frozen.signature != engine:  # the keys name the engine: begin again
                return self.extract(
                    dataset, copy=copy, measures=measures, progress=progress, label=label
                )
            fresh = self.frozen(images, block=block).numpy()
            _require_finite(fresh, [dataset.samples[i].image for i in indices], self.identity)
            if rows is None:
                rows = large_array((total, fresh.shape[1]), np.float32)
            rows[indices] = fresh
            if self.cache:
                self.cache.put(
                    dict(zip((keys[i] for i in indices), fresh, strict=True)),
                    backbone=self.identity[0],
                    engine=" ".join(engine),
                )
        if rows is None:
            raise ValueError(f"no features of {dataset.name} were computed")
        for index in range(total):
            if not there[index] and first[keys[index]] != index:
                rows[index] = rows[first[keys[index]]]
        return rows

    def _passing(
        self,
        dataset: Dataset,
        wanted: Sequence[int],
        *,
        copy: AugmentedCopy | None,
        measures: Sequence[Measure],
        progress: Progress | None,
        label: str,
    ) -> Iterator[list[tuple[int, Any]]]:
        """Yield batches of (position, image) for the pass through the backbone.

        If the bag holds cells, the reading threads search for them.
        """
        of_cells = self.spec.bag != "field"

        def ready(frame: Frame) -> Pixels | Cells:
            return frame.cells(self.finder) if of_cells else frame.pixels

        def augmented(frame: Frame) -> Pixels | Cells:
            if copy is None:
                return ready(frame)
            return ready(replace(frame, pixels=copy.of(frame)))

        return dataset.passes.survey(
            measures,
            wanted,
            ready if copy is None else augmented,
            cache=self.cache,
            progress=progress,
            label=label,
            size=BLOCK,
        )

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
        name, package, version = identity[:3]
        raise PluginError(
            f"The backbone {name!r} of {package} {version} gave features that are no numbers for "
            f"{images[bad[0]]}. Its weights may be damaged; {setting('precision', 'float32')} may help "
            f"when they are not."
        )


def _augmented(
    record: Augmentation, image: npt.NDArray[np.uint8], rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    whose = getattr(record.apply, "origin", "")
    named = f"{whose}: the augmentation" if whose else "The augmentation"
    # A record of the registry names itself; a user's own function is named here.
    own = f"The augmentation {record.name!r} failed: "
    given = image.view()
    given.flags.writeable = not whose  # who writes into the image changes it for others
    with calling("", "augmentation", record.name, "apply", failed=lambda w: PluginError(own + w)):
        result = record.apply(given, rng)
    if (
        not isinstance(result, np.ndarray)
        or result.dtype != np.uint8
        or result.shape != image.shape
    ):
        got = f"{getattr(result, 'shape', type(result).__name__)} {getattr(result, 'dtype', '')}"
        raise PluginError(
            f"{named} {record.name!r} returned {got} for {image.shape} uint8; it must "
            f"keep shape and type."
        )
    # One that gives back what it was given gives what nobody may write to.
    return result if result.flags.writeable else result.copy()
