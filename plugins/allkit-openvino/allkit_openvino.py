"""OpenVINO export: one sealed file that goes the whole way from pixels to probabilities.

The file is a zip of OpenVINO's two files (`model.xml`, `model.bin`), not compressed; its comment
holds the description and the SHA-256 of everything. The graph is the one of the ONNX export.
"""

from __future__ import annotations

import io
import json
import tempfile
import threading
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from allkit import Exporter, Prediction, hookimpl
from allkit.errors import ExportError

if TYPE_CHECKING:
    from allkit.runtime.trust import Outputs

api_version = 1

FORMAT = 1
Image = npt.NDArray[np.uint8]


def write(model: Any, path: Path, *, precision: str, calibration: list[Image] | None) -> None:
    """Write `model` as `(N, H, W, 3)` uint8 → probabilities, logits and features.

    In float32, or int8 with images to calibrate it: the graph is that of the ONNX export.
    """
    import openvino

    from allkit.plugins import registry
    from allkit.runtime.seal import describe, seal

    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.onnx"
        registry().get("exporter", "onnx").write(
            model, graph, precision=precision, calibration=calibration
        )
        # Read by the core, not by OpenVINO's converter, which reports its use.
        openvino.serialize(
            openvino.Core().read_model(graph), Path(folder) / "m.xml", Path(folder) / "m.bin"
        )
        description = describe(model.info, format=FORMAT, precision=precision)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as file:
            for name in ("m.xml", "m.bin"):
                entry = zipfile.ZipInfo(f"model{Path(name).suffix}")  # without the time of day
                file.writestr(entry, (Path(folder) / name).read_bytes())
            file.writestr(zipfile.ZipInfo("trust.safetensors"), model.trust.to_bytes())
            file.comment = json.dumps(description).encode()
    path.write_bytes(seal(packed.getvalue()))


class OpenVinoPredictor:
    """A classifier in one OpenVINO file. Safe to share between threads.

    Raises `ExportError` when the file is missing, damaged, altered, or not written by allkit.
    """

    def __init__(self, path: str | Path) -> None:
        import openvino

        from allkit.runtime.seal import read_sealed

        self.path = Path(path)
        data = read_sealed(self.path)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as file:
                self.info: dict[str, Any] = json.loads(file.comment)
                xml, weights = file.read("model.xml"), file.read("model.bin")
                known = "trust.safetensors" in file.namelist()
                trust = file.read("trust.safetensors") if known else None
            version = int(self.info["format"])
            if version > FORMAT:
                raise ExportError(
                    f"{self.path} has the format {version}; this allkit-openvino reads up to "
                    f"{FORMAT}. Update allkit-openvino."
                )
            core = openvino.Core()
            graph = core.read_model(model=xml, weights=weights)
            # Without the hint a processor with bfloat16 would answer in that.
            self._compiled = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except (zipfile.BadZipFile, KeyError, ValueError, RuntimeError) as error:
            raise ExportError(
                f"{self.path} is not an OpenVINO file of allkit: {str(error)[:200]} Export it again."
            ) from None
        from allkit.runtime.trust import Trust

        self.trust = Trust.from_bytes(self.classes, trust)
        self._requests = threading.local()

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return tuple(self.info["classes"])

    def probabilities(self, images: Sequence[Image]) -> npt.NDArray[np.float32]:
        """Return `(N, K)` float32 probabilities for N images, each `(H, W, 3)` uint8."""
        return self._run(images)[0]

    def outputs(self, images: Sequence[Image]) -> Outputs:
        """Return logits `(N, K)` and features `(N, D)` for N images, each `(H, W, 3)` uint8."""
        from allkit.runtime.trust import Outputs

        found = self._run(images)
        if len(found) == 1:  # written before verdicts were exported
            return Outputs.of_probabilities(found[0])
        return Outputs(found[1], found[2])

    def _run(self, images: Sequence[Image]) -> list[npt.NDArray[np.float32]]:
        """Return every output of the graph for N images, in their order."""
        from allkit.batches import by_shape

        if not hasattr(self._requests, "one"):
            self._requests.one = self._compiled.create_infer_request()
        rows: list[list[npt.NDArray[np.float32]]] = [[] for _ in images]
        for indices, pixels in by_shape(images):
            found = self._requests.one.infer([pixels])
            for output in range(len(self._compiled.outputs)):
                for index, row in zip(indices, np.array(found[output]), strict=True):
                    rows[index].append(row)
        return [np.stack(column) for column in zip(*rows, strict=True)]

    def stream(self, images: Iterable[Any], *, batch_size: int = 16) -> Iterator[Prediction]:
        """Yield one answer per image, in order, in constant memory."""
        from allkit.runtime.answers import stream

        return stream(images, self.outputs, self.trust, batch_size=batch_size)

    def predict(self, images: Iterable[Any], *, batch_size: int = 16) -> list[Prediction]:
        """Return one answer per image, in order."""
        return list(self.stream(images, batch_size=batch_size))


@hookimpl
def allkit_exporters() -> Iterable[Exporter]:
    """Offer `openvino`."""
    summary = "one file for Intel processors, from pixels to probabilities"
    return [Exporter("openvino", ".openvino", write, OpenVinoPredictor, summary)]
