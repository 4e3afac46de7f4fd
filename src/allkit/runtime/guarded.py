"""What a plugin's own predictor raises is named with its package and its step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.plugins.guard import calling, each
from allkit.records import Prediction, Predictor

__all__ = ["GuardedPredictor"]


@dataclass(frozen=True)
class GuardedPredictor:
    """A predictor of a plugin that is not derived from `GraphPredictor`; it answers as that one does.

    All else that it has is reached through it. What it raises is a `PluginError`.
    """

    predictor: Predictor
    origin: str
    name: str

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "predictor" not in vars(self):  # while it is unpacked
            raise AttributeError(name)
        return getattr(self.predictor, name)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return self.predictor.classes

    def probabilities(self, images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Return `(N, K)` probabilities, as `Predictor` says."""
        with self._step("probabilities"):
            return self.predictor.probabilities(images)

    def predict(self, images: Any, *, batch_size: int = 16) -> Sequence[Prediction]:
        """Return one answer an image, as `Predictor` says."""
        with self._step("predict"):
            return self.predictor.predict(images, batch_size=batch_size)

    def stream(self, images: Any, *, batch_size: int = 16) -> Iterator[Prediction]:
        """Yield one answer an image, as `Predictor` says."""
        with self._step("stream"):
            answers = iter(self.predictor.stream(images, batch_size=batch_size))
        return each(answers, (self.origin, "exporter", self.name, "stream"))

    def _step(self, step: str) -> Any:
        return calling(self.origin, "exporter", self.name, step)
