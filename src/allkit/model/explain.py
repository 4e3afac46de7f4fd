"""Explaining an answer: its map, the check of the map, and the nearest training images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from allkit.config.own import is_own
from allkit.data.dataset import Dataset
from allkit.errors import ConfigError, DatasetError
from allkit.features import BagPass, FeatureCache
from allkit.features.engines import FrozenPass
from allkit.images.given import one
from allkit.images.statistics import cell_mask
from allkit.model.explanation import Explanation, Faithfulness
from allkit.model.info import ModelInfo
from allkit.model.maps import Mapper, by_cells, enlarge, share_on
from allkit.network.modules import Network, Plain
from allkit.network.standardise import Standardise
from allkit.plugins import registry
from allkit.records import Backbone, Reference
from allkit.records import Explainer as Record
from allkit.report.pictures import Example
from allkit.runtime.answers import answers
from allkit.trust.space import signed_sqrt
from allkit.trust.verdict import Outputs, Trust
from allkit.types import Pixels, Singles

__all__ = ["Explainable", "Explainer"]

EXAMPLES = 5
"""Number of training images that are shown with an answer."""


class Explainable(Protocol):
    """What an explanation needs of a model; `Classifier` has it."""

    info: ModelInfo
    trust: Trust

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""

    def outputs(self, images: Sequence[Pixels]) -> Outputs:
        """Return logits, features and cells of images, `(H, W, 3)` uint8 RGB."""

    def features(self, dataset: Dataset, *, cache: FeatureCache | None = None) -> Singles:
        """Return the features `(N, D)` of every image of a set."""


class Explainer:
    """Explains the answers that one network gives; safe to share between threads.

    `frozen` is the pass through its backbone.
    """

    def __init__(
        self,
        network: Network,
        info: ModelInfo,
        frozen: FrozenPass | BagPass,
        device: torch.device,
    ) -> None:
        self._network, self._frozen, self._device = network, frozen, device
        self._spec = info.backbone.input
        self._standardise = Standardise(self._spec).to(device)
        self._mapper = Mapper(Plain(network), _layer_for_maps(info.backbone.reference))

    def explain(
        self,
        model: Explainable,
        image: Any,
        *,
        target: str | None,
        method: Any,
        check: bool,
        data: Dataset | None,
        cache: FeatureCache | None,
    ) -> Explanation:
        """Return the explanation that `Classifier.explain` describes."""
        subject = one(image)
        name, pixels = subject.name, subject.read()
        outputs = model.outputs([pixels])
        (answer,) = answers([(name, pixels)], outputs, model.trust)
        target = target or str(answer.label)
        if target not in model.classes:
            raise ConfigError(
                f"The model knows no class {target!r}. It knows: {', '.join(model.classes)}."
            )
        index = model.classes.index(target)
        faithfulness: Faithfulness | None = None
        notes, needs_layer = [], False
        if outputs.cells is not None:
            way, title = Reference("cells", "allkit"), "cell by cell"
            large = self._cell_map(outputs, index, method, pixels.shape[:2])
            notes.append(
                "The map shows how much the probability falls when a cell is left out."
                + (" The field as a whole counts as well." if self._spec.bag == "both" else "")
            )
        else:
            way = self._mapper.choose(method)
            record: Record = registry().get("explainer", way)
            title, needs_layer = record.title or record.name, record.needs_layer
            inputs = self._standardise(torch.from_numpy(pixels[None]).to(self._device))
            small = self._mapper.map(inputs, index, way)
            large = enlarge(small, (pixels.shape[0], pixels.shape[1]))
            if check and small.any():
                faithfulness = self._mapper.check(inputs, index, way, small)
        cells = cell_mask(pixels)
        if not large.any():
            notes.append("The map is empty: no place speaks for this class.")
        if method == "auto" and way.name == "occlusion":
            notes.append("This backbone names no layer for maps, so squares were covered instead.")
        return Explanation(
            answer=answer,
            target=target,
            method=way.name if way.package == "allkit" else way.qualified,
            title=title,
            settings=way.settings,
            layer=self._mapper.layer if needs_layer else None,
            map=large,
            image=pixels,
            on_cells=None if outputs.cells is not None else share_on(large, cells),
            cell_area=float(cells.mean()),
            check=faithfulness,
            neighbours=() if data is None else _neighbours(model, outputs, data, cache),
            notes=tuple(notes),
        )

    def _cell_map(
        self, outputs: Outputs, index: int, method: Any, shape: tuple[int, ...]
    ) -> Singles:
        """Return how much the log-probability of a class falls without each cell, as a map."""
        if method not in ("auto", "cells"):
            raise ConfigError(
                f"This model looks at single cells, which {Reference.of(method).qualified} cannot show. "
                f"Use `cells` or `auto`."
            )
        (cells,) = outputs.cells or ()
        if not isinstance(self._frozen, BagPass) or not len(cells.centres):
            return np.zeros(shape[:2], np.float32)
        with torch.inference_mode():
            features, seen = self._frozen.without_each(cells)
            without = self._network.classify(features.to(self._device)).float().cpu()
        logits = torch.cat([torch.from_numpy(outputs.logits), without])
        logs = torch.log_softmax(logits, dim=1)[:, index].numpy()
        falls = by_cells(seen, logs[0] - logs[1:], (shape[0], shape[1]))
        strongest = float(falls.max())
        return falls / strongest if strongest > 0 else falls


def _layer_for_maps(backbone: Reference) -> str | None:
    """Return the name of the layer that maps are made of; `None` where the backbone names none."""
    if is_own(backbone.name):
        return None
    record: Backbone = registry().get("backbone", backbone)
    return record.cam_layer


def _neighbours(
    model: Explainable, outputs: Outputs, data: Dataset, cache: FeatureCache | None
) -> tuple[Example, ...]:
    """Return the training images whose features are nearest to those of an answer.

    Distances are those of the out-of-distribution detection, where the model has one.
    """
    trained = set(model.info.data.images_sha256)
    learnt = [i for i, digest in enumerate(data.hashes) if digest in trained]
    if not learnt:
        raise DatasetError(
            f"None of the {len(data)} images of {data.name} was trained on. Give the images "
            f"that the model was trained on."
        )
    data = data.subset(learnt)
    here, others = signed_sqrt(outputs.features), signed_sqrt(model.features(data, cache=cache))
    if model.trust.content is not None:
        projection = model.trust.content.projection
        here, others = here @ projection, others @ projection
    distances = np.sqrt(((others - here) ** 2).sum(axis=1))
    return tuple(
        Example(data.samples[i].image, data.samples[i].label, float(distances[i]), data.read(i))
        for i in np.argsort(distances, kind="stable")[:EXAMPLES].tolist()
    )
