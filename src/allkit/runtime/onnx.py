"""Answers from an ONNX file that allkit wrote, through ONNX Runtime and without torch."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from allkit.batches import by_shape, cores
from allkit.errors import ExportError
from allkit.records import Prediction
from allkit.runtime.answers import stream
from allkit.runtime.seal import read_sealed
from allkit.runtime.trust import Outputs, Trust

if TYPE_CHECKING:
    from allkit.runtime.cells import Cells

__all__ = ["METADATA_KEY", "OnnxPredictor", "feeds", "require_finder"]

METADATA_KEY = "allkit"
FORMAT = 1


class OnnxPredictor:
    """A classifier in one ONNX file: uint8 RGB pixels in, answers out.

    Safe to share between threads. Raises `ExportError` when the file is missing, damaged,
    altered, not written by allkit, or written by a newer one.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        # Imported here: it takes a tenth of a second that `import allkit` need not pay.
        import onnxruntime

        self.path = Path(path)
        data = read_sealed(self.path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or cores()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # noqa: BLE001 - onnxruntime raises its own types, one per cause
            reason = str(error).splitlines()[0][:200]
            raise ExportError(
                f"{self.path} is not an ONNX file that can be opened: {reason} Export it again."
            ) from None
        self.info = _metadata(self.path, self._session)
        require_finder(self.path, self.info)
        self.trust = Trust.from_bytes(self.classes, base64.b64decode(self.info.get("trust", "")))

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return tuple(self.info["classes"])

    def probabilities(self, images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """Return `(N, K)` float32 probabilities for N images, each `(H, W, 3)` uint8."""
        probabilities: npt.NDArray[np.float32] = self._run(
            images, ["probabilities"], self._find(images)
        )[0]
        return probabilities

    def outputs(self, images: Sequence[npt.NDArray[np.uint8]]) -> Outputs:
        """Return logits `(N, K)` and features `(N, D)` for N images, each `(H, W, 3)` uint8."""
        if "logits" not in {output.name for output in self._session.get_outputs()}:
            # Written by allkit 0.1.0: probabilities only, and nothing to decide a verdict by.
            return Outputs.of_probabilities(self.probabilities(images))
        found = self._find(images)
        logits, features = self._run(images, ["logits", "features"], found)
        return Outputs(logits, features, found)

    def _find(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Cells] | None:
        if self.info.get("bag", "field") == "field":
            return None
        from allkit.runtime.cells import find_cells

        return [find_cells(image) for image in images]

    def _run(
        self,
        images: Sequence[npt.NDArray[np.uint8]],
        names: list[str],
        found: list[Cells] | None = None,
    ) -> list[Any]:
        rows: list[Any] = [None] * len(images)
        for indices, feed in feeds(images, found):
            for index, values in zip(
                indices, zip(*self._session.run(names, feed), strict=True), strict=True
            ):
                rows[index] = values
        return [np.stack(column) for column in zip(*rows, strict=True)]

    def stream(self, images: Iterable[Any], *, batch_size: int = 16) -> Iterator[Prediction]:
        """Yield one answer per image, in order, in constant memory."""
        return stream(images, self.outputs, self.trust, batch_size=batch_size)

    def predict(self, images: Iterable[Any], *, batch_size: int = 16) -> list[Prediction]:
        """Return one answer per image, in order."""
        return list(self.stream(images, batch_size=batch_size))


def feeds(
    images: Sequence[npt.NDArray[np.uint8]], found: Sequence[Cells] | None = None
) -> Iterator[tuple[list[int], dict[str, npt.NDArray[Any]]]]:
    """Yield (positions in `images`, the inputs of the graph by name) for each shape there is."""
    if found is None:
        for indices, pixels in by_shape(images):
            yield indices, {"pixels": pixels}
        return
    from allkit.runtime.cells import bags

    for indices, pixels, places in bags(found):
        yield indices, {"pixels": pixels, "places": places}


def require_finder(path: Path, info: dict[str, Any]) -> None:
    """Raise `ExportError` when the file was made with another finder of cells than there is."""
    if info.get("bag", "field") == "field":
        return
    from allkit.runtime.cells import FINDER

    if info.get("finder") != FINDER:
        raise ExportError(
            f"{path} was made with the cell finder {info.get('finder')!r}, and this allkit has "
            f"{FINDER!r}, which finds other cells. Install allkit {info.get('allkit')}, or export "
            f"the model again."
        )


def _metadata(path: Path, session: Any) -> dict[str, Any]:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    try:
        info: dict[str, Any] = json.loads(text)
        version = int(info["format"])
        complete = version > FORMAT or {"classes", "sha256"} <= set(info)
    except (TypeError, ValueError, KeyError):
        complete = False
    if not complete:
        raise ExportError(
            f"{path} was not written by allkit. Export the model with `allkit export`."
        )
    if version > FORMAT:
        raise ExportError(
            f"{path} has the format {version}; this allkit reads up to {FORMAT}. Update allkit."
        )
    return info
