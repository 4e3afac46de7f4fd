"""Answers from an ONNX file that allkit wrote, through ONNX Runtime and without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.errors import ExportError
from allkit.images.batches import cores
from allkit.runtime.description import read_description
from allkit.runtime.graph import GraphPredictor, require_ends
from allkit.runtime.seal import read_sealed
from allkit.runtime.wire import foreign_parts
from allkit.telemetry import import_silent

__all__ = ["METADATA_KEY", "OnnxPredictor"]

METADATA_KEY = "allkit"


class OnnxPredictor(GraphPredictor):
    """A classifier in one ONNX file: uint8 RGB pixels in, answers out.

    Safe to share between threads. Raises `ExportError` when the file is missing, damaged,
    altered, not written by allkit, or written by a newer one.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        # Imported here: it takes a tenth of a second that `import allkit` need not pay.
        onnxruntime = import_silent("onnxruntime")
        path = Path(path)
        data = read_sealed(path)
        _refuse_foreign(path, data)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or cores()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # noqa: BLE001 - onnxruntime raises its own types, one per cause
            reason = (str(error).splitlines() or [repr(error)])[0][:200]
            raise ExportError(
                f"{path} is not an ONNX file that can be opened: {reason} Export it again."
            ) from None
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        info = read_description(path, text)
        names = [output.name for output in self._session.get_outputs()]
        inputs = {one.name: one.type for one in self._session.get_inputs()}
        require_ends(path, inputs, names, info.get("bag", "field"))
        super().__init__(path, info, info.get("trust") or None)
        self.outputs_known = {"logits", "features"} <= set(names)

    def compute(
        self, feed: dict[str, npt.NDArray[Any]], names: Sequence[str]
    ) -> list[npt.NDArray[np.float32]]:
        """Return the named outputs for one feed of the graph."""
        outputs: list[npt.NDArray[np.float32]] = self._session.run(list(names), feed)
        return outputs


def _refuse_foreign(path: Path, data: bytes) -> None:
    """Raise `ExportError` where a file holds what allkit never writes into a graph."""
    try:
        found = foreign_parts(data)
    except ValueError as error:
        raise ExportError(
            f"{path} is not an ONNX file that can be opened: {error}. Export it again."
        ) from None
    if found:
        raise ExportError(
            f"{path} is not a graph that allkit wrote: it holds {found}. Export the model again."
        )
