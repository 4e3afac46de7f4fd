"""OpenVINO export: one sealed file that goes the whole way from pixels to probabilities.

The file is a zip of OpenVINO's two files (`model.xml`, `model.bin`), not compressed; its comment
holds the description and the SHA-256 of everything. The graph is the one of the ONNX export.

A new format takes `allkit.exporting.write` and `FilePredictor`, which need none of what is below about
zips and seals. This one is older, and its files are to open in every version.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
import threading
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit import Exporter, hookimpl
from allkit.errors import AllkitError, ExportError
from allkit.runtime.description import read_description
from allkit.runtime.graph import GraphPredictor, format_of, require_ends
from allkit.telemetry import import_silent

api_version = 2

Image = npt.NDArray[np.uint8]
MEMBERS = {"model.xml", "model.bin", "trust.safetensors"}
FOREIGN = re.compile(rb'<!(?:DOCTYPE|ENTITY)|type="(?:Loop|If|TensorIterator|ReadValue|Assign)"')
"""What allkit never writes into a graph: definitions of XML, and what repeats, chooses or remembers."""


def write(model: Any, path: Path, *, precision: str, calibration: list[Image] | None) -> None:
    """Write `model` as `(N, H, W, 3)` uint8 → probabilities, logits and features.

    In float32, or int8 with images to calibrate it: the graph is that of the ONNX export.
    """
    from allkit.exporting import onnx_graph
    from allkit.runtime.seal import describe, seal

    openvino = import_silent("openvino")
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.onnx"
        graph.write_bytes(onnx_graph(model, precision=precision, calibration=calibration))
        # Read by the core, not by OpenVINO's converter, which reports its use.
        openvino.serialize(
            openvino.Core().read_model(graph), Path(folder) / "m.xml", Path(folder) / "m.bin"
        )
        description = describe(
            model.info,
            format=format_of(model.info),
            precision=precision,
            exporter="allkit-openvino/openvino",
        )
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as file:
            for name in ("m.xml", "m.bin"):
                entry = zipfile.ZipInfo(f"model{Path(name).suffix}")  # without the time of day
                file.writestr(entry, (Path(folder) / name).read_bytes())
            file.writestr(zipfile.ZipInfo("trust.safetensors"), model.trust.to_bytes())
            file.comment = json.dumps(description).encode()
    path.write_bytes(seal(packed.getvalue()))


class OpenVinoPredictor(GraphPredictor):
    """A classifier in one OpenVINO file. Safe to share between threads.

    Raises `ExportError` when the file is missing, damaged, altered, or not written by allkit.
    """

    def __init__(self, path: str | Path) -> None:
        from allkit.runtime.seal import read_sealed

        openvino = import_silent("openvino")
        path = Path(path)
        data = read_sealed(path)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as file:
                info: dict[str, Any] = read_description(path, file.comment, "allkit-openvino")
                xml, weights, trust = _members(file, len(data))
            core = openvino.Core()
            graph = core.read_model(model=xml, weights=weights)
            # Without the hint a processor with bfloat16 would answer in that.
            self._compiled = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            kinds = {"u8": "uint8", "f32": "float"}
            inputs = {
                one.get_any_name(): kinds.get(one.get_element_type().to_string(), "another")
                for one in self._compiled.inputs
            }
            outputs = [one.get_any_name() for one in self._compiled.outputs]
        except (AllkitError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - OpenVINO raises its own types
            reason = (str(error).splitlines() or [repr(error)])[0][:200]
            raise ExportError(
                f"{path} is not an OpenVINO file of allkit: {reason} Export it again."
            ) from None
        require_ends(path, inputs, outputs, info.get("bag", "field"))
        if len(outputs) > 1 and trust is None:
            raise ExportError(f"{path} does not hold its limits (trust). Export the model again.")
        super().__init__(path, info, trust)
        # Files that were written before verdicts were exported give probabilities only.
        self.outputs_known = len(self._compiled.outputs) > 1
        self._requests = threading.local()

    def compute(
        self, feed: dict[str, npt.NDArray[Any]], names: Sequence[str]
    ) -> list[npt.NDArray[np.float32]]:
        """Return the named outputs for one feed of the graph."""
        if not hasattr(self._requests, "one"):
            self._requests.one = self._compiled.create_infer_request()
        found = self._requests.one.infer(feed)
        # Copies, because theirs are overwritten by the next one.
        return [np.array(found[name]) for name in names]


def _members(file: zipfile.ZipFile, size: int) -> tuple[bytes, bytes, bytes | None]:
    """Return graph, weights and limits; raise `ValueError` for what allkit does not write."""
    entries = file.infolist()
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names) or not set(names) <= MEMBERS:
        raise ValueError("it holds files that allkit does not write.")
    if sum(entry.file_size for entry in entries) > size or any(
        entry.compress_type != zipfile.ZIP_STORED for entry in entries
    ):
        raise ValueError("it is packed, and allkit packs nothing.")
    xml = file.read("model.xml")
    found = FOREIGN.search(xml)
    if found:
        raise ValueError(f"its graph holds {found[0][:60].decode('utf-8', 'replace')!r}.")
    trust = file.read("trust.safetensors") if "trust.safetensors" in names else None
    return xml, file.read("model.bin"), trust


@hookimpl
def allkit_exporters() -> Iterable[Exporter]:
    """Offer `openvino`."""
    summary = "one file for Intel processors, from pixels to probabilities"
    return [Exporter("openvino", ".openvino", write, OpenVinoPredictor, summary=summary)]
