"""What a trained classifier answers: the part of `Classifier` that is asked about images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from allkit.data.dataset import Dataset
from allkit.data.passes import Measure
from allkit.errors import ImageError
from allkit.features import WORTH_AN_ENGINE, Extractor, FeatureCache
from allkit.images.bags import of_tiles
from allkit.images.cells import FINDER, Cells, find_cells
from allkit.images.selection import Selection
from allkit.model.info import ModelInfo
from allkit.network.around import ordinary
from allkit.network.modules import Network
from allkit.records import CasePrediction, InputSpec, Prediction
from allkit.runtime.answers import stream
from allkit.runtime.cases import combine
from allkit.runtime.inputs import asked
from allkit.runtime.predictions import Predictions, predicted
from allkit.trust.verdict import Outputs, Trust
from allkit.types import Pixels, Progress, Singles

__all__ = ["Answering"]


class Answering:
    """Answers for images; `Classifier` adds judging, explaining and keeping."""

    info: ModelInfo
    trust: Trust
    network: Network
    device: torch.device
    engine: str
    _extractor: Extractor

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return self.info.classes

    @property
    def spec(self) -> InputSpec:
        """How an image is standardised for the backbone."""
        return self.info.backbone.input

    @property
    def finder(self) -> str:
        """The version of the finder of white cells that the model was trained with."""
        return self.info.backbone.finder or FINDER

    @property
    def tiled(self) -> bool:
        """Whether large fields are cut into tiles, as since there are any."""
        return self.info.backbone.tiles

    @property
    def classes_(self) -> npt.NDArray[np.str_]:
        """`(K,)`: `classes` as an array, by the name that scikit-learn has for it."""
        return np.array(self.classes)

    @property
    def module(self) -> Network:
        """The module of PyTorch: standardised images to logits `(N, K)`. Do not train it in place."""
        return self.network

    def predict(self, images: Any, *, batch_size: int = 16) -> Predictions:
        """Return one answer per image, in order, as a list that is also a table (`to_frame`).

        An image is a path, the bytes of an encoded file, a file object opened with `"rb"`, a Pillow
        image, an `(H, W, 3)` uint8 RGB array (`(H, W)`: grey), a uint8 tensor, also `(3, H, W)`, or a
        sample of a `Dataset`. `images` is one of these, an iterable of them, an array `(N, H, W, 3)` or
        tensor `(N, 3, H, W)` of uint8, a `Dataset`, or a data frame of pandas with a column `image`; the
        path of a folder, a zip or a table with a column `image`, or a pattern such as `"smears/*.png"`,
        stands for its images.

        An image that is missing or damaged gets the verdict `unreadable`, and the others are still
        answered. Raises `ImageError` for what cannot be an image (`None`, a number, a dict, floating-point
        pixels, whose range is not known), `DatasetError` for a folder, zip, table or pattern without
        images, and `ConfigError` for a batch size below 1.
        """
        listed = asked(images)
        return predicted(listed, self._outputs_for(listed.count), self.trust, batch_size=batch_size)

    def predict_proba(self, images: Any, *, batch_size: int = 16) -> Singles:
        """Return `(N, K)` float32 probabilities in the order of `classes`; takes what `predict` takes.

        They are there for every readable image, also one whose answer should not be used: `predict`
        says which. Raises `ImageError` that names the unreadable images.
        """
        return self.predict(images, batch_size=batch_size).probabilities

    def embed(self, images: Any, *, batch_size: int = 16) -> Singles:
        """Return `(N, D)` float32: what the heads see of each image; takes what `predict` takes.

        Raises `ImageError` for an unreadable image.
        """
        features: list[Singles] = []

        def outputs(pixels: Sequence[Pixels]) -> Outputs:
            found = self.outputs(pixels)
            features.append(found.features)
            return found

        answers = predicted(images, outputs, self.trust, batch_size=batch_size)
        if not answers:
            return np.empty((0, self.info.backbone.width), np.float32)
        unreadable = [one for one in answers if one.verdict == "unreadable"]
        if unreadable:
            raise ImageError(
                f"{len(unreadable):,} of {len(answers):,} images cannot be read and have no features; the "
                f"first: {unreadable[0].image}: {unreadable[0].error}",
                code="missing",
            )
        return np.concatenate(features)

    def predict_case(self, images: Any, case: str = "") -> CasePrediction:
        """Return one answer for several fields of one patient, as `allkit.combine` makes it."""
        return combine(self.predict(images), case, trust=self.trust)

    def stream(self, images: Any, *, batch_size: int = 16) -> Iterator[Prediction]:
        """Yield one answer per image, in order, in constant memory; takes what `predict` takes."""
        listed = asked(images)
        return stream(listed, self._outputs_for(listed.count), self.trust, batch_size=batch_size)

    def _outputs_for(self, count: int | None) -> Callable[[Sequence[Pixels]], Outputs]:
        """Return what computes the answers for so many images at once."""
        if not self._may_hurry or count is None or count < WORTH_AN_ENGINE:
            return self.outputs
        # Of this call alone: whoever asks beside it, or later, gets the same bits as before.
        return functools.partial(self._outputs, extractor=self._extractor_of("auto"))

    def probabilities(self, images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Return `(N, K)` float32 probabilities for N images, each `(H, W, 3)` uint8 RGB.

        They are calibrated where the model is.
        """
        return self.trust.probabilities(self.outputs(images))

    def outputs(self, images: Sequence[npt.NDArray[np.uint8]]) -> Outputs:
        """Return logits `(N, K)` and features `(N, D)` for N images, each `(H, W, 3)` uint8 RGB."""
        return self._outputs(images, self._extractor)

    @ordinary()
    def _outputs(self, images: Sequence[npt.NDArray[np.uint8]], extractor: Extractor) -> Outputs:
        cells = self.find(images)
        if cells is None:
            return self._from_features(extractor.compute(list(images)))

        def logits(fields: list[Cells]) -> npt.NDArray[np.float32]:
            return self._from_features(extractor.compute(list(fields))).logits

        features = extractor.compute(list(cells))
        tiles = of_tiles(cells, logits, Selection.of(self.spec, tiles=self.tiled))
        return self._from_features(features)._replace(cells=cells, tiles=tiles)

    def find(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Cells] | None:
        """Return the white cells of images `(H, W, 3)` uint8; `None` where the model needs none."""
        if self.spec.bag == "field":
            return None
        return [find_cells(image, self.finder) for image in images]

    @ordinary()
    def _from_features(self, features: npt.NDArray[np.float32]) -> Outputs:
        with torch.inference_mode():
            logits = self.network.classify(torch.from_numpy(features).to(self.device))
        return Outputs(logits.float().cpu().numpy(), features)

    @ordinary()
    def features(
        self,
        dataset: Dataset,
        *,
        cache: FeatureCache | None = None,
        progress: Progress | None = None,
        also: Sequence[Measure] = (),
    ) -> npt.NDArray[np.float32]:
        """Return the features `(N, D)` that the heads see of every image of a set.

        The measures `also` are taken in the same pass over the images. Raises `DatasetError` that
        lists every unreadable image.
        """
        extractor = self._extractor_of(self._extractor.frozen.asked_for, cache)
        if self._may_hurry:
            quick = self._extractor_of("auto", cache)
            lacking = extractor.missing(dataset)
            if lacking >= WORTH_AN_ENGINE or (lacking and not quick.missing(dataset)):
                extractor = quick
        return extractor.extract(dataset, measures=also, progress=progress)

    def _extractor_of(self, engine: str, cache: FeatureCache | None = None) -> Extractor:
        return Extractor(
            self.network.embedding(),
            self.spec,
            self.info.backbone.identity,
            self.device,
            cache=cache,
            engine=engine,
            finder=self.finder,
            tiled=self.tiled,
        )

    @property
    def _may_hurry(self) -> bool:
        """Whether a faster engine than PyTorch may be looked for, where there is enough to do."""
        return self.engine == "auto" and self._extractor.frozen.asked_for == "torch"
