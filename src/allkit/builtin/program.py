"""Answers from a program of `torch.export` that allkit wrote."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from allkit.batches import by_shape
from allkit.errors import ExportError
from allkit.records import Prediction
from allkit.runtime.answers import stream
from allkit.runtime.onnx import FORMAT
from allkit.runtime.seal import read_sealed
from allkit.runtime.trust import Outputs, Trust

__all__ = ["ProgramPredictor"]

TRUST = "trust"
KNOWN = (
    "data/weights/weight_", "data/weights/model_weights_config.json", "data/constants/tensor_",
    "data/constants/model_constants_config.json", "data/sample_inputs/", "models/model.json",
    f"extra/{TRUST}", ".data/",
)  # fmt: skip
MARKS = ("archive_format", "archive_version", "byteorder")


class ProgramPredictor:
    """A classifier in one `.pt2` file. Safe to share between threads; needs torch.

    Raises `ExportError` when the file is missing, damaged, altered, not written by allkit, or
    holds pickled objects. That alone does not make a stranger's file safe: torch evaluates the
    expressions in it that describe shapes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        data = read_sealed(self.path)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as file:
                self.info: dict[str, Any] = json.loads(file.comment)
                version = int(self.info["format"])
                if version > FORMAT:
                    raise ExportError(
                        f"{self.path} has the format {version}; this allkit reads up to {FORMAT}. "
                        f"Update allkit."
                    )
                _refuse_code(file)
                trust = file.read(next(n for n in file.namelist() if n.endswith(f"extra/{TRUST}")))
            self._program = torch.export.load(io.BytesIO(data)).module()
        except (zipfile.BadZipFile, KeyError, ValueError, RuntimeError, StopIteration) as error:
            raise ExportError(
                f"{self.path} is not a program that can be opened: {str(error)[:200]} Export it again."
            ) from None
        self.trust = Trust.from_bytes(self.classes, base64.b64decode(trust))

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return tuple(self.info["classes"])

    def probabilities(self, images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Return `(N, K)` float32 probabilities for N images, each `(H, W, 3)` uint8."""
        return self._run(images)[0]

    def outputs(self, images: Sequence[npt.NDArray[np.uint8]]) -> Outputs:
        """Return logits `(N, K)` and features `(N, D)` for N images, each `(H, W, 3)` uint8."""
        _, logits, features = self._run(images)
        return Outputs(logits, features)

    def _run(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.float32]]:
        rows: list[Any] = [None] * len(images)
        for indices, pixels in by_shape(images):
            with torch.inference_mode():
                found = [part.numpy() for part in self._program(torch.from_numpy(pixels))]
            for index, values in zip(indices, zip(*found, strict=True), strict=True):
                rows[index] = values
        return [np.stack(column) for column in zip(*rows, strict=True)]

    def stream(self, images: Iterable[Any], *, batch_size: int = 16) -> Iterator[Prediction]:
        """Yield one answer per image, in order, in constant memory."""
        return stream(images, self.outputs, self.trust, batch_size=batch_size)

    def predict(self, images: Iterable[Any], *, batch_size: int = 16) -> list[Prediction]:
        """Return one answer per image, in order."""
        return list(self.stream(images, batch_size=batch_size))


def _refuse_code(file: zipfile.ZipFile) -> None:
    """Raise `ValueError` where torch would load pickled objects, which may run code."""
    for name in file.namelist():
        inner = name.partition("/")[2]
        if not inner.startswith(KNOWN) and inner not in MARKS:
            raise ValueError(f"it holds {inner!r}, which allkit does not write.")
        if inner.endswith("_config.json"):
            for entry in json.loads(file.read(name)).get("config", {}).values():
                if entry.get("use_pickle"):
                    raise ValueError(f"it holds a pickled object in {inner!r}.")
        if inner.startswith("data/sample_inputs/"):
            # torch falls back to running code when this fails.
            torch.load(io.BytesIO(file.read(name)), weights_only=True)  # noqa: TID251 - as the rule asks
