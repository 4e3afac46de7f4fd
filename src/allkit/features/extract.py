"""Features of the frozen backbone, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from allkit.data.dataset import Dataset, unreadable
from allkit.errors import ImageError, PluginError
from allkit.features.cache import FeatureCache
from allkit.images import read_image
from allkit.records import Augmentation, InputSpec
from allkit.transforms import Standardise, to_batches

__all__ = ["Extractor", "Progress", "native_bfloat16", "weights_hash"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""

BATCH = 16


def weights_hash(module: nn.Module) -> str:
    """Return SHA-256 over the names and values of a module's tensors."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
                     if tensor.ndim else str(tensor.item()).encode())  # fmt: skip
    return total.hexdigest()


def native_bfloat16(device: torch.device) -> bool:
    """Say whether `device` computes bfloat16 in hardware; emulated, it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


@dataclass
class Extractor:
    """Computes features of images with one frozen backbone.

    `identity` holds whatever distinguishes this backbone from any other: its name, plugin and
    version, and the hash of its weights.
    """

    backbone: nn.Module
    spec: InputSpec
    identity: tuple[str, ...]
    device: torch.device
    precision: str = "float32"
    cache: FeatureCache | None = None

    def __post_init__(self) -> None:
        self.backbone.eval().requires_grad_(False)
        # Twice as fast for convolutions on CPUs, and a plain view elsewhere.
        self.backbone.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._standardise = Standardise(self.spec).to(self.device)

    def key(self, image_hash: str, augment: Sequence[str], copy: int, seed: int) -> bytes:
        """Return the cache key of one (augmented) image, 32 bytes."""
        augmented = [list(augment), copy, seed] if copy else []
        engine = ["torch", torch.__version__, self.device.type, self.precision]
        spec = [self.spec.size, *self.spec.mean, *self.spec.std, "rgb"]
        text = json.dumps([image_hash, list(self.identity), spec, augmented, engine])
        return hashlib.sha256(text.encode()).digest()

    @torch.inference_mode()
    def compute(self, images: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Return the features `(N, D)` float32 of N images `(H, W, 3)` uint8 of any size."""
        rows: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)] * len(images)
        for indices, pixels in to_batches(images):
            inputs = self._standardise(pixels.to(self.device))
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            half = self.precision == "bfloat16"
            with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                features = self.backbone(inputs)
            for index, row in zip(indices, features.float().cpu().numpy(), strict=True):
                rows[index] = row
        return np.stack(rows)

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

        `copy` 0 is the images as they are; copy 1, 2, … are augmented ones, each determined by
        the image's content, `seed` and the copy's number. At most 64 decoded images are held.
        Raises `DatasetError` that lists every unreadable image.
        """
        keys = [self.key(digest, names, copy, seed) for digest in dataset.hashes]
        known = self.cache.get(keys) if self.cache else {}
        missing = [i for i, key in enumerate(keys) if key not in known]
        # Byte-identical images are computed once.
        todo = list({keys[i]: i for i in reversed(missing)}.values())[::-1]
        errors: list[str] = []
        report = progress or (lambda *_: None)
        report(label, len(keys) - len(todo), len(keys))

        def load(index: int) -> npt.NDArray[np.uint8] | ImageError:
            sample = dataset.samples[index]
            try:
                image = read_image(sample.source.read(), name=sample.image)
            except ImageError as error:
                return error
            if copy:
                entropy = [seed, copy, int(dataset.hashes[index][:16], 16)]
                rng = np.random.default_rng(entropy)
                for record in augment:
                    image = _augmented(record, image, rng)
            return image

        done = len(keys) - len(todo)
        for batch in _ahead(todo, load, BATCH):
            images = {i: image for i, image in batch if not isinstance(image, ImageError)}
            errors += [str(image) for _, image in batch if isinstance(image, ImageError)]
            if images and not errors:
                rows = self.compute(list(images.values()))
                fresh = {keys[i]: row for i, row in zip(images, rows, strict=True)}
                if self.cache:
                    self.cache.put(fresh)
                known |= fresh
            done += len(batch)
            report(label, done, len(keys))
        if errors:
            dataset.verify()  # names every one, also those whose twin was read for them
            raise unreadable(errors, len(dataset), dataset.name)
        return np.stack([known[key] for key in keys])


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


def _ahead(
    todo: Sequence[int],
    load: Callable[[int], npt.NDArray[np.uint8] | ImageError],
    size: int,
) -> Iterator[list[tuple[int, npt.NDArray[np.uint8] | ImageError]]]:
    """Yield batches in order, while threads load the next three."""
    waiting: deque[tuple[int, Future[npt.NDArray[np.uint8] | ImageError]]] = deque()
    remaining = iter(todo)
    with ThreadPoolExecutor(
        max_workers=min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4)
    ) as pool:
        waiting.extend((i, pool.submit(load, i)) for i in itertools.islice(remaining, 3 * size))
        while waiting:
            batch = [waiting.popleft() for _ in range(min(size, len(waiting)))]
            ready = [(i, future.result()) for i, future in batch]
            waiting.extend(
                (i, pool.submit(load, i)) for i in itertools.islice(remaining, len(batch))
            )
            yield ready
