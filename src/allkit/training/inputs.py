"""Inputs that are computed once, before the training: features, and activations at the cut."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from copy import copy as copied
from dataclasses import dataclass, field

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from allkit.data.dataset import Dataset
from allkit.data.passes import Measure
from allkit.features import (
    BLOCK,
    HALF,
    WORTH_AN_ENGINE,
    ActivationStore,
    Extractor,
    FeatureCache,
    FrozenPass,
    describe_engine,
    row_key,
)
from allkit.images.arrays import large_array
from allkit.images.cells import FINDER
from allkit.network.calls import run
from allkit.network.modules import Oriented
from allkit.training.backbone import TrainingBackbone
from allkit.training.device import autocast
from allkit.training.sources import ActivationSource, FeatureSource, ImageSource, Request, Source
from allkit.training.workload import Workload
from allkit.types import Indices, Progress, Singles

__all__ = ["PreparedInputs", "chosen_engine"]

log = logging.getLogger(__name__)


def chosen_engine(setting: str, count: int) -> str:
    """Return the engine to ask for, by the setting and how many images and copies there are."""
    return "torch" if setting == "auto" and count < WORTH_AN_ENGINE else setting


@dataclass
class PreparedInputs:
    """Features and activations of the images, before anything is learnt.

    `prepare` goes over the original images once; `augment` once more for each augmented copy.
    With several processes each computes its share.
    """

    backbone: TrainingBackbone
    dataset: Dataset
    accelerator: Accelerator
    cache: FeatureCache | None = None
    progress: Progress | None = None
    learners: Indices = field(default_factory=lambda: np.empty(0, np.int64))
    """The images that any member learns from: only these are augmented."""
    views: list[Singles] = field(default_factory=list)
    """Features `(N, D)` of the images as they are, then those of each augmented copy of the learners."""

    def prepare(self, measures: Sequence[Measure]) -> None:
        """Go over every original image for its features; `measures` are taken in the same pass.

        This takes most of the time of a training: each image is decoded, and goes through the frozen
        part of the network, unless the cache has the result.
        """
        backbone, device = self.backbone, self.accelerator.device
        count = len(self.dataset) * (1 + backbone.copies)
        engine = chosen_engine(backbone.config.engine, count)
        self.trunk: FrozenPass | None = None
        self.extractor: Extractor | None = None
        # A frozen trunk reads the images in an order of its own, and several processes each read a
        # share: then all that is measured is measured before, in a pass of its own.
        alone = self.accelerator.num_processes == 1
        if not alone or backbone.cut is not None:
            self._measure(measures)
        if backbone.cut:
            self.trunk = FrozenPass(
                backbone.halves()[0],
                backbone.input,
                device,
                precision=backbone.precision,
                engine=engine,
            )
            if not self.trunk.settled:
                some = range(min(BLOCK, len(self.dataset)))
                self.trunk.prepare([self.dataset.read(index) for index in some])
            else:
                log.info(describe_engine(self.trunk.signature))
        if not backbone.keeps_activations:
            self.extractor = Extractor(
                backbone.module,
                backbone.input,
                backbone.identity,
                device,
                precision=backbone.precision,
                cache=self.cache,
                engine=engine,
                finder=backbone.finder or FINDER,
            )
            if self.extractor.frozen.settled:
                log.info(describe_engine(self.extractor.frozen.signature))
            if not self.extractor.missing(self.dataset):
                # Then the pass only decodes: its pace says nothing about that of the copies.
                self._measure(measures)
        self.stages = None if backbone.cut is None else self._stage_inputs()
        times = f" × {1 + backbone.copies}" if backbone.copies else ""
        self._work = Workload(f"features of {len(self.dataset):,} images{times}", self.progress)
        self.views = [self._features(np.arange(len(self.dataset)), 0, measures)]
        self._measure(measures)

    def _measure(self, measures: Sequence[Measure]) -> None:
        """Take what is not known yet of some image; an unreadable one is named here at the latest."""
        self.dataset.passes.measure(measures, cache=self.cache, progress=self.progress)

    def augment(self, learners: Indices) -> None:
        """Go over the images `learners` once more for each augmented copy."""
        self.learners = learners
        for copy in range(1, self.backbone.copies + 1):
            self.views.append(self._features(learners, copy))

    def features(self) -> FeatureSource:
        """Return the features as the source of the heads' training."""
        return FeatureSource(self.views, self.accelerator.device, self.learners)

    @property
    def signature(self) -> tuple[str, ...]:
        """What computed the frozen part: engine, version, device, precision."""
        if self.extractor is not None:
            return self.extractor.frozen.signature
        return self._trunk().signature

    def over_orientations(self, module: nn.Module, images: Indices, identity: str) -> Singles:
        """Return the mean of `module` over the eight orientations of images, `(n, D)`."""
        extractor = Extractor(
            Oriented(module),
            self.backbone.input,
            (*self.backbone.identity[:3], identity, "eight orientations"),
            self.accelerator.device,
            precision=self.backbone.precision,
            cache=self.cache,
            finder=self.backbone.finder or FINDER,
        )
        return self._extracted(
            extractor, images, progress=self.progress, label="eight orientations"
        )

    # ── features ───────────────────────────────────────────────────────────────────────────

    def _features(self, images: Indices, copy: int, measures: Sequence[Measure] = ()) -> Singles:
        label = f"augmented copy {copy}" if copy else "features"
        progress = self._work.of_pass(self._ahead(images, copy))
        if self.extractor is None:
            return self._through_tail(images, copy, progress)
        return self._extracted(
            self.extractor, images, copy=copy, measures=measures, progress=progress, label=label
        )

    def _ahead(self, images: Indices, copy: int) -> int:
        """Return how many images this process has to compute for the copies after number `copy`."""
        later = range(copy + 1, self.backbone.copies + 1)
        if self.progress is None or self.extractor is None:
            return len(images) * len(later)
        part = self.dataset.subset(images)
        if self.backbone.keeps_copies:
            missing = sum(self.extractor.missing(part, self.backbone.copy(c)) for c in later)
        else:
            missing = len(images) * len(later)
        return int(-(-missing // self.accelerator.num_processes))

    def _extracted(
        self,
        extractor: Extractor,
        images: Indices,
        *,
        copy: int = 0,
        measures: Sequence[Measure] = (),
        progress: Progress | None,
        label: str,
    ) -> Singles:
        """Extract the features, each process its share; every process gets all of them."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        if copy and not self.backbone.keeps_copies:
            # Another augmentation of that name may do something else: nothing of it is kept.
            extractor = copied(extractor)
            extractor.cache = None
        if world == 1:
            everything = len(images) == len(self.dataset)
            return extractor.extract(
                self.dataset if everything else self.dataset.subset(images),
                copy=self.backbone.copy(copy),
                measures=measures,
                progress=progress,
                label=label,
            )
        padded = np.resize(images, -(-len(images) // world) * world)
        share = extractor.extract(
            self.dataset.subset(padded[rank::world]),
            copy=self.backbone.copy(copy),
            progress=progress,
            label=label,
        )
        shares: list[Singles] = gather_object([share])
        return np.stack(shares, axis=1).reshape(len(padded), -1)[: len(images)]

    def _through_tail(self, images: Indices, copy: int, progress: Progress | None) -> Singles:
        """Compute the activations at the cut, keep them, and return the outputs of the tail."""
        if self.stages is None:
            raise ValueError("only a backbone that is cut has a tail")
        tail = self.backbone.halves()[1].eval().requires_grad_(False)
        # torch's types lack the form with a memory format.
        tail.to(self.accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        blocks = [images[start : start + BLOCK] for start in range(0, len(images), BLOCK)]
        requests = [Request(b, np.full(len(b), copy)) for b in blocks[rank::world]]
        share = large_array((sum(len(r.images) for r in requests), self.backbone.width), np.float32)
        done = 0
        if progress:
            progress("", 0, len(images))
        with torch.no_grad(), autocast(self.accelerator.device, self.backbone.precision):
            for _, rows in zip(requests, self.stages.stream(requests), strict=True):
                share[done : done + len(rows)] = run(tail, rows).float().cpu().numpy()
                done += len(rows)
                if progress:
                    progress("", min(done * world, len(images)), len(images))
        if world == 1:
            return share
        shares: list[Singles] = gather_object([share])
        whole = large_array((len(images), self.backbone.width), np.float32)
        for number, block in enumerate(blocks):
            start = number // world * BLOCK
            part = shares[number % world][start : start + len(block)]
            whole[number * BLOCK : number * BLOCK + len(block)] = part
        return whole

    # ── what the trained stages see ────────────────────────────────────────────────────────

    def _trunk(self) -> FrozenPass:
        if self.trunk is None:
            raise ValueError("only a backbone that is cut has a trunk")
        return self.trunk

    def _stage_inputs(self) -> Source:
        """Return the source of what the trained stages are given."""
        backbone, device = self.backbone, self.accelerator.device
        keeps = backbone.keeps_activations
        images = ImageSource(
            self.dataset,
            backbone,
            device=device,
            trunk=self.trunk,
            fresh=not keeps and bool(backbone.augment),
        )
        if not keeps or self.cache is None or (backbone.copies and not backbone.keeps_copies):
            return images
        trunk = self._trunk()
        identity = (*backbone.identity, f"net[:{backbone.cut}]")
        signature = trunk.signature
        blank = np.zeros((backbone.input.size, backbone.input.size, 3), np.uint8)
        store = ActivationStore.open(
            self.cache.path.parent / "activations",
            json.dumps([identity, signature]),
            trunk([blank]).shape[1:],
            HALF.get(backbone.precision, torch.float32),
            about={
                "backbone": backbone.record.name,
                "stage": f"net[:{backbone.cut}]",
                "engine": " ".join(signature),
            },
        )

        def key(image: int, copy: int) -> bytes:
            digest = self.dataset.passes.keys[image]
            augmented = backbone.copy(copy)
            return row_key(digest, identity, backbone.input, signature, copy=augmented)

        return ActivationSource(store, key, images.compute, copies=backbone.copies, device=device)
