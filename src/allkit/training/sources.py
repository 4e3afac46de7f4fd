"""Where the inputs of a training step come from: features, cached activations, or images.

A source answers requests, each a batch of (image, copy) pairs, in order, and reads ahead in
threads while the network works. Copy 0 is the image as it is; copy c ≥ 1 the augmented one with
that number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from allkit.data.dataset import Dataset
from allkit.errors import AllkitError, PluginError
from allkit.features import BLOCK, ActivationStore, FrozenPass
from allkit.images.batches import read_ahead
from allkit.network.standardise import Standardise, to_batches
from allkit.training.backbone import TrainingBackbone
from allkit.types import Indices, Pixels

__all__ = ["ActivationSource", "FeatureSource", "ImageSource", "Request", "Source"]


class Request(NamedTuple):
    """The images of a batch by position in the set, and which copy of each."""

    images: Indices
    copies: Indices


class Source(Protocol):
    """Gives the inputs of batches."""

    fresh: bool
    """Whether every epoch gets copies of its own; otherwise they are drawn from 0 to `copies`."""
    waited: float
    """Seconds since the start in which the network had to wait for its inputs."""

    @property
    def copies(self) -> int:
        """The augmented copies there are."""

    def stream(self, requests: Sequence[Request]) -> Generator[torch.Tensor, None, None]:
        """Yield the inputs of each request, `(n, …)`, on the device, in order."""


@dataclass
class FeatureSource:
    """Features of the whole backbone.

    `views[0]` is `(N, D)` float32, those of every image as it is; `views[c]` those of copy c of the
    images `learners`, in ascending order, or of all.
    """

    views: Sequence[npt.NDArray[np.float32]]
    device: torch.device
    learners: Indices | None = None
    fresh: bool = False
    waited: float = 0.0

    @property
    def copies(self) -> int:
        """The augmented copies there are."""
        return len(self.views) - 1

    def rows(self, images: Indices, copy: int) -> npt.NDArray[np.float32]:
        """Return the features `(n, D)` float32 of one copy of some images."""
        if copy and self.learners is not None:
            images = np.searchsorted(self.learners, images)
        return self.views[copy][images]

    def stream(self, requests: Sequence[Request]) -> Generator[torch.Tensor, None, None]:
        """Yield `(n, D)` float32 for each request."""
        for images, copies in requests:
            rows = np.empty((len(images), self.views[0].shape[1]), np.float32)
            for copy in np.unique(copies):
                chosen = copies == copy
                rows[chosen] = self.rows(images[chosen], int(copy))
            yield torch.from_numpy(rows).to(self.device)


@dataclass
class ActivationSource:
    """Activations at the cut of the backbone, read from disk; missing ones are computed."""

    store: ActivationStore
    key: Callable[[int, int], bytes]
    """The key of (image, copy)."""
    compute: Callable[[Request], torch.Tensor]
    """The activations of a request, through the trunk."""
    copies: int
    device: torch.device
    fresh: bool = False
    waited: float = 0.0

    def fetch(self, request: Request) -> torch.Tensor:
        """Return the activations `(n, C, H, W)` of a request on the CPU."""
        keys = [self.key(int(i), int(c)) for i, c in zip(*request, strict=True)]
        return self.store.fetch(
            keys, lambda at: self.compute(Request(request.images[at], request.copies[at]))
        )

    def stream(self, requests: Sequence[Request]) -> Generator[torch.Tensor, None, None]:
        """Yield `(n, C, H, W)` in the store's dtype for each request."""
        ready = read_ahead(requests, self.fetch, 1, workers=1)
        for _ in requests:
            start = time.perf_counter()
            ((_, rows),) = next(ready)
            self.waited += time.perf_counter() - start
            yield _to(rows, self.device)


@dataclass
class ImageSource:
    """Images: read and augmented in threads, standardised and passed through the trunk, if any."""

    dataset: Dataset
    backbone: TrainingBackbone
    device: torch.device
    trunk: FrozenPass | None = None
    fresh: bool = False
    waited: float = 0.0

    def __post_init__(self) -> None:
        self._standardise = Standardise(self.backbone.input).to(self.device)

    @property
    def copies(self) -> int:
        """The augmented copies there are."""
        return self.backbone.copies

    def load(self, item: tuple[int, int]) -> Pixels:
        """Return one (image, copy), `(H, W, 3)` uint8."""
        image, number = item
        frame = self.dataset.passes.frame(image)
        copy = self.backbone.copy(number)
        return frame.pixels if copy is None else copy.of(frame)

    def stream(self, requests: Sequence[Request]) -> Generator[torch.Tensor, None, None]:
        """Yield `(n, 3, S, S)` float32, or what the trunk makes of them, for each request."""
        items = [(int(i), int(c)) for request in requests for i, c in zip(*request, strict=True)]
        size = max((len(request.images) for request in requests), default=1)
        images = (image for batch in read_ahead(items, self.load, size) for _, image in batch)
        for request in requests:
            start = time.perf_counter()
            batch = [next(images) for _ in request.images]
            self.waited += time.perf_counter() - start
            yield self.place(batch)

    def place(self, images: list[npt.NDArray[np.uint8]]) -> torch.Tensor:
        """Return the inputs of decoded images on the device."""
        if self.trunk is not None:
            # A copy, because a tensor that was made in inference mode cannot be learnt from.
            return _to(self.trunk(images, block=BLOCK).clone(), self.device)
        parts: list[torch.Tensor] = []
        order: list[int] = []
        for indices, pixels in to_batches(images):
            parts.append(self._standardise(pixels.to(self.device)))
            order += indices
        inputs = torch.cat(parts)[torch.argsort(torch.tensor(order))]
        return inputs.contiguous(memory_format=torch.channels_last)

    def compute(self, request: Request) -> torch.Tensor:
        """Return the inputs of one request; a failure of the trunk is reported as the plugin's."""
        images = [self.load((int(i), int(c))) for i, c in zip(*request, strict=True)]
        try:
            return self.place(images)
        except AllkitError:
            raise
        except Exception as error:
            raise PluginError(
                f"The backbone failed on {len(images)} images: {type(error).__name__}: {error}"
            ) from error


def _to(rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    rows = rows.to(device)
    return rows.contiguous(memory_format=torch.channels_last) if rows.ndim == 4 else rows
