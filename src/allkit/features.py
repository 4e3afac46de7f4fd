"""Features of the frozen backbone, computed once and kept on disk."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import sqlite3
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from allkit.data.dataset import Dataset, unreadable
from allkit.errors import ConfigError, ImageError, PluginError
from allkit.images import read_image
from allkit.records import Augmentation, InputSpec
from allkit.transforms import Standardise, to_batches

__all__ = ["Extractor", "FeatureCache", "Progress", "native_bfloat16", "weights_hash"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""

BATCH = 16
LIMIT_BYTES = 2 * 2**30


class FeatureCache:
    """Feature vectors on disk, by the hash of everything that made them.

    One SQLite file, safe with several writers; at `limit` bytes (2 GiB, or `ALLKIT_CACHE_LIMIT`
    in megabytes) the vectors unused for longest make room. The folder is `ALLKIT_CACHE`, or the
    user's cache folder. A cache that cannot be used costs time, never a result: it is left out
    with a warning.
    """

    def __init__(self, folder: Path | None = None, *, limit: int | None = None) -> None:
        self.path = (folder or _default_folder()) / "features.sqlite"
        self.limit = limit if limit is not None else _default_limit()
        self._broken = False

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            exists = connection.execute(
                "SELECT 1 FROM sqlite_master WHERE name='features'"
            ).fetchone()
            if exists is None:
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS features "
                    "(key BLOB PRIMARY KEY, vector BLOB NOT NULL, used REAL NOT NULL)"
                )
            connection.execute("PRAGMA synchronous=NORMAL")
            yield connection
        finally:
            connection.close()

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if not self._broken:
                warnings.warn(
                    f"The feature cache {self.path} cannot be used ({error}); features are "
                    f"computed again. Point ALLKIT_CACHE at a folder that can be written.",
                    stacklevel=4,
                )
            self._broken = True

    def get(self, keys: Sequence[bytes]) -> dict[bytes, npt.NDArray[np.float32]]:
        """Return the vectors, `(D,)` float32, of those keys that are there."""
        found: dict[bytes, npt.NDArray[np.float32]] = {}
        if self._broken or not self.path.exists():
            return found
        with self._tolerant(), self._open() as connection:
            for chunk in _chunks(sorted(set(keys)), 500):
                marks = ",".join("?" * len(chunk))
                rows = connection.execute(
                    f"SELECT key, vector FROM features WHERE key IN ({marks})", chunk
                )
                found |= {key: np.frombuffer(vector, np.float32) for key, vector in rows}
            now = time.time()
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "UPDATE features SET used=? WHERE key=? AND used<?",
                [(now, key, now - 3600) for key in found],
            )
            connection.execute("COMMIT")
        return found

    def put(self, vectors: dict[bytes, npt.NDArray[np.float32]]) -> None:
        """Keep vectors, and drop the ones unused for longest when there are too many bytes."""
        if self._broken or not vectors:
            return
        now = time.time()
        rows = [(k, np.ascontiguousarray(v, np.float32).tobytes(), now) for k, v in vectors.items()]
        with self._tolerant(), self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR REPLACE INTO features VALUES (?,?,?)", rows)
            connection.execute("COMMIT")
            self._make_room(connection)

    def _make_room(self, connection: sqlite3.Connection) -> None:
        if self._bytes(connection) <= self.limit:
            return
        connection.execute("BEGIN IMMEDIATE")
        while (size := self._bytes(connection)) > 0.9 * self.limit:
            count = connection.execute("SELECT COUNT(*) FROM features").fetchone()[0]
            if not count:
                break
            surplus = max(1, round(count * (1 - 0.9 * self.limit / size)))
            connection.execute(
                "DELETE FROM features WHERE key IN "
                "(SELECT key FROM features ORDER BY used LIMIT ?)", (surplus,)
            )  # fmt: skip
        connection.execute("COMMIT")
        # As a script, because `execute` stops after the first page that was freed.
        connection.executescript("PRAGMA incremental_vacuum")

    @staticmethod
    def _bytes(connection: sqlite3.Connection) -> int:
        pages, free, size = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size


def _default_folder() -> Path:
    setting = os.environ.get("ALLKIT_CACHE")
    if setting:
        return Path(setting)
    import platformdirs

    return Path(platformdirs.user_cache_dir("allkit", appauthor=False))


def _default_limit() -> int:
    setting = os.environ.get("ALLKIT_CACHE_LIMIT")
    if setting is None:
        return LIMIT_BYTES
    if not setting.isdigit():
        raise ConfigError(f"ALLKIT_CACHE_LIMIT is {setting!r}; give whole megabytes, as in 2000.")
    return int(setting) * 2**20


def _chunks(items: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    return (items[i : i + size] for i in range(0, len(items), size))


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
