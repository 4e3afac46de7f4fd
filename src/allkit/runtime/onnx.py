"""Answers from an ONNX file that allkit wrote, through ONNX Runtime and without torch."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.errors import ExportError
from allkit.images.batches import cores
from allkit.runtime.answers import whole_number
from allkit.runtime.description import read_description
from allkit.runtime.graph import GraphPredictor, TooMuch, require_ends
from allkit.runtime.reading import memory_bytes
from allkit.runtime.seal import read_sealed
from allkit.runtime.wire import foreign_parts
from allkit.telemetry import import_silent

__all__ = ["METADATA_KEY", "OnnxPredictor"]

METADATA_KEY = "allkit"
MEMORY, MEMORY_PER_CORE = 2 * 2**30, 2**30
"""Bytes that all graphs may take together for what they compute; a field of 50 megapixels takes 1 GiB."""
SECONDS, SECONDS_PER_INPUT = 60, 15
"""How long one feed may take, and how much longer for each field, tile and cell in it."""
INPUTS = ("pixels", "places")


class OnnxPredictor(GraphPredictor):
    """A classifier in one ONNX file: uint8 RGB pixels in, answers out.

    Safe to share between threads. Raises `ExportError` when the file is missing, damaged,
    altered, not written by allkit, or written by a newer one.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        # Imported here: it takes a tenth of a second that `import allkit` need not pay.
        onnxruntime = import_silent("onnxruntime")
        path = Path(path)
        if threads is not None:
            threads = whole_number(threads, "The number of threads", most=1024)
        self.options = {"threads": threads}
        data = read_sealed(path)
        _refuse_foreign(path, data)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or cores()
        options.log_severity_level = 4  # what goes wrong is raised
        _bound_memory(onnxruntime)
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        self._run_options = onnxruntime.RunOptions
        try:
            self._session = onnxruntime.InferenceSession(
                data,
                options,
                providers=["CPUExecutionProvider"],
                # It computes while the file is opened, without any bound.
                disabled_optimizers=["ConstantFolding"],
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
        self.outputs_known = {"logits", "features"} <= set(names)
        if self.outputs_known and "trust" not in info:  # only the first versions wrote neither
            raise ExportError(f"{path} does not hold its limits (trust). Export the model again.")
        super().__init__(path, info, info.get("trust"))

    def compute(
        self, feed: dict[str, npt.NDArray[Any]], names: Sequence[str]
    ) -> list[npt.NDArray[np.float32]]:
        """Return the named outputs for one feed of the graph."""
        options = self._run_options()
        seconds = SECONDS + SECONDS_PER_INPUT * sum(len(feed[n]) for n in INPUTS if n in feed)
        ending = threading.Timer(seconds, setattr, (options, "terminate", True))
        ending.daemon = True
        ending.start()
        try:
            outputs: list[npt.NDArray[np.float32]] = self._session.run(list(names), feed, options)
        except Exception as error:
            if options.terminate:
                raise TooMuch(f"{seconds:,} seconds") from None
            if "BFCArena" in str(error) or "bfc_arena" in str(error):
                raise TooMuch(f"{_most_memory() / 2**30:.1f} GiB of memory") from None
            raise
        finally:
            ending.cancel()
        return outputs


@functools.cache
def _most_memory() -> int:
    """Return how many bytes all graphs may take together, at most half of what there is."""
    return min(max(4 * 2**30, MEMORY + cores() * MEMORY_PER_CORE), memory_bytes() // 2)


@functools.cache
def _bound_memory(onnxruntime: Any) -> None:
    """Have all graphs of this process together take no more than that."""
    place = onnxruntime.OrtMemoryInfo(
        "Cpu",
        onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
        0,
        onnxruntime.OrtMemType.DEFAULT,
    )
    bounds = onnxruntime.OrtArenaCfg({"max_mem": _most_memory()})
    onnxruntime.create_and_register_allocator(place, bounds)


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
