"""What is computed once, before anything is learnt: features, and activations at the cut."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from allkit.config import TrainConfig
from allkit.data.dataset import Dataset
from allkit.errors import ConfigError
from allkit.features import (
    BLOCK,
    HALF,
    ActivationStore,
    Extractor,
    FeatureCache,
    FrozenPass,
    row_key,
)
from allkit.images.arrays import large_array
from allkit.network.hashes import weights_hash
from allkit.network.modules import Oriented, build_backbone, cut, measure_width
from allkit.network.standardise import CELL_SIZE
from allkit.plugins import registry, resolve_weights
from allkit.records import Augmentation, Backbone
from allkit.training.device import autocast, choose_precision
from allkit.training.member import cut_index
from allkit.training.sources import ActivationSource, FeatureSource, ImageSource, Request, Source
from allkit.types import Indices, Progress, Singles

__all__ = ["PreparedInputs", "untrained_backbone"]

WORTH_AN_ENGINE = 500


def untrained_backbone(config: TrainConfig) -> nn.Module:
    """Return the backbone as it is before the training."""
    host = registry()
    record: Backbone = host.get("backbone", config.backbone)
    origin = host.provider("backbone", config.backbone).origin
    return build_backbone(record, resolve_weights(record.name, config.weights), origin)


@dataclass
class PreparedInputs:
    """The backbone, where it is cut, and what it makes of the images.

    `learners` are the positions of the images that some member learns from: only these are ever
    shown augmented.
    """

    config: TrainConfig
    dataset: Dataset
    learners: Indices
    accelerator: Accelerator
    cache: FeatureCache | None
    progress: Progress | None

    record: Backbone = field(init=False)
    backbone: nn.Module = field(init=False)
    cut: int | None = field(init=False)
    """The trained stages are `net[cut:]`; `None` when only a head is trained."""

    def __post_init__(self) -> None:
        config, host = self.config, registry()
        self.record = host.get("backbone", config.backbone)
        if config.bag != "field" and config.strategy != "head":
            raise ConfigError(
                f"bag = {config.bag} is only learnt by the strategy head, not by {config.strategy}: "
                f"the stages are trained on whole fields. Choose `bag: field` or `strategy: head`."
            )
        shown = replace(self.record.input, view=config.view, bag=config.bag)
        self.record = replace(self.record, input=shown)
        self.provider = host.provider("backbone", config.backbone)
        self.augment: list[Augmentation] = [host.get("augmentation", n) for n in config.augment]
        self.sources = [f"{n} {host.provider('augmentation', n).origin}" for n in config.augment]
        self.precision = choose_precision(config.precision, self.accelerator.device)
        self.copies = config.copies if self.augment else 0
        self.backbone = untrained_backbone(config)
        self.width = self._measure_width()
        self.fingerprint = weights_hash(self.backbone)
        self.cut = None
        if config.strategy != "head":
            self.cut = cut_index(self.backbone, self.record, config)

        # To convert the network for another engine takes seconds, which few images do not repay.
        few = len(self.dataset) * (1 + self.copies) < WORTH_AN_ENGINE
        self.engine = "torch" if few and config.engine == "auto" else config.engine

    def _measure_width(self) -> int:
        """Return D of the features of an image, of its field and its cells together."""
        spec, name = self.record.input, self.record.name
        if spec.bag == "field":
            return measure_width(self.backbone, spec, name)
        try:
            width = measure_width(self.backbone, replace(spec, size=CELL_SIZE), name)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(
                f"The backbone {name!r} cannot take pictures of single cells, {CELL_SIZE} pixels a "
                f"side: {str(error)[:200]} Choose `bag: field` or another backbone."
            ) from None
        return width * (2 if spec.bag == "both" else 1)

    @property
    def signature(self) -> tuple[str, ...]:
        """What computed the frozen part: engine, version, device, precision."""
        return self._trunk.signature if self.cached else self._extractor.frozen.signature

    @property
    def cached(self) -> bool:
        """Whether the activations at the cut are the same in every epoch, and worth keeping."""
        return bool(self.cut) and self.config.strategy != "full"

    @property
    def identity(self) -> tuple[str, ...]:
        """What tells the features of this backbone from any others."""
        provider = self.provider
        return (self.record.name, provider.distribution, provider.version, self.fingerprint)

    @property
    def plugins(self) -> list[str]:
        """The distributions that the backbone and the augmentations come from."""
        host = registry()
        used = [self.provider]
        used += [host.provider("augmentation", name) for name in self.config.augment]
        return sorted({plugin.distribution for plugin in used})

    def halves(self) -> tuple[nn.Module, nn.Module]:
        """Return the frozen trunk and the tail, which share their modules with the backbone."""
        return cut(self.backbone, self.cut or 0)

    # ── features ───────────────────────────────────────────────────────────────────────────

    def features(self) -> FeatureSource:
        """Return the features of every image as it is, and of the augmented copies of learners."""
        everything = np.arange(len(self.dataset))
        views = []
        for copy in range(self.copies + 1):
            images = self.learners if copy else everything
            label = f"augmented copy {copy}" if copy else "features"
            rows = self._through_tail(images, copy, label) if self.cached else None
            if rows is None:
                rows = self._extracted(images, copy, label)
            views.append(rows)
        return FeatureSource(views, self.accelerator.device, self.learners)

    def over_orientations(self, backbone: nn.Module, images: Indices, identity: str) -> Singles:
        """Return the mean of `backbone` over the eight orientations of images, `(n, D)`."""
        extractor = Extractor(
            Oriented(backbone), self.record.input, (*self.identity[:3], identity, "eight orientations"),
            self.accelerator.device, self.precision, self.cache,
        )  # fmt: skip
        return self._shared(extractor, images, 0, "eight orientations")

    def _extracted(self, images: Indices, copy: int, label: str) -> Singles:
        return self._shared(self._extractor, images, copy, label)

    @cached_property
    def _extractor(self) -> Extractor:
        return Extractor(
            self.backbone, self.record.input, self.identity, self.accelerator.device,
            self.precision, self.cache, self.engine,
        )  # fmt: skip

    def _shared(self, extractor: Extractor, images: Indices, copy: int, label: str) -> Singles:
        """Extract, each process its share, and return the whole in each."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        padded = np.resize(images, -(-len(images) // world) * world)
        own = extractor.extract(
            self.dataset.subset(padded[rank::world]), augment=self.augment, names=self.sources,
            copy=copy, seed=self.config.seed, progress=self.progress, label=label,
        )  # fmt: skip
        if world == 1:
            return own
        every: list[Singles] = gather_object([own])
        return np.stack(every, axis=1).reshape(len(padded), -1)[: len(images)]

    def _through_tail(self, images: Indices, copy: int, label: str) -> Singles | None:
        """Compute the activations at the cut, keep them, and return what the tail makes of them."""
        source, tail = self.inputs(), self.halves()[1].eval().requires_grad_(False)
        # torch's types lack the form with a memory format.
        tail.to(self.accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        blocks = [images[start : start + BLOCK] for start in range(0, len(images), BLOCK)]
        requests = [Request(b, np.full(len(b), copy)) for b in blocks[rank::world]]
        own = large_array((sum(len(r.images) for r in requests), self.width), np.float32)
        done = 0
        with torch.no_grad(), autocast(self.accelerator.device, self.precision):
            for _, rows in zip(requests, source.stream(requests), strict=True):
                own[done : done + len(rows)] = tail(rows).float().cpu().numpy()
                done += len(rows)
                if self.progress:
                    self.progress(label, min(done * world, len(images)), len(images))
        if world == 1:
            return own
        every: list[Singles] = gather_object([own])
        whole = large_array((len(images), self.width), np.float32)
        for number, block in enumerate(blocks):
            start = number // world * BLOCK
            part = every[number % world][start : start + len(block)]
            whole[number * BLOCK : number * BLOCK + len(block)] = part
        return whole

    # ── what the trained stages see ────────────────────────────────────────────────────────

    def inputs(self) -> Source:
        """Return the source of what the trained stages are given."""
        device, config = self.accelerator.device, self.config
        images = ImageSource(
            self.dataset, self.augment, self.record.input, config.seed, self.copies, device,
            self._trunk if self.cut else None, fresh=not self.cached and bool(self.augment),
        )  # fmt: skip
        if not self.cached or self.cache is None:
            return images
        identity = (*self.identity, f"net[:{self.cut}]")
        signature = self._trunk.signature
        example = self._trunk([images.load((0, 0))])
        store = ActivationStore.open(
            self.cache.path.parent / "activations", json.dumps([identity, signature]),
            example.shape[1:], HALF.get(self.precision, torch.float32),
            about={
                "backbone": self.record.name, "stage": f"net[:{self.cut}]",
                "engine": " ".join(signature),
            },
        )  # fmt: skip

        def key(image: int, copy: int) -> bytes:
            digest = self.dataset.hashes[image]
            return row_key(
                digest, identity, self.record.input, signature, self.sources, copy, config.seed
            )

        return ActivationSource(store, key, images.compute, self.copies, device)

    @cached_property
    def _trunk(self) -> FrozenPass:
        """The pass through the frozen stages, by the engine that was found to agree."""
        frozen = FrozenPass(
            self.halves()[0], self.record.input, self.accelerator.device, self.precision, self.engine
        )  # fmt: skip
        frozen.prepare([self.dataset.read(i) for i in range(min(4, len(self.dataset)))])
        return frozen
