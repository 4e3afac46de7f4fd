"""The exporters that come with allkit."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allkit.errors import ExportError
from allkit.exporting.graph import onnx_graph, program
from allkit.hookspecs import hookimpl
from allkit.records import Exporter, Predictor
from allkit.runtime.graph import format_of
from allkit.runtime.onnx import METADATA_KEY, OnnxPredictor
from allkit.runtime.seal import describe, seal
from allkit.telemetry import quiet_logging

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

api_version = 2


def _write_onnx(
    model: Any, path: Path, *, precision: str, calibration: Sequence[npt.NDArray[np.uint8]] | None
) -> None:
    """Write `model` as one ONNX file, which ONNX Runtime of any language opens as it is."""
    import onnx

    graph = onnx_graph(model, precision=precision, calibration=calibration)
    proto = onnx.load_model_from_string(graph)
    trust = base64.b64encode(model.trust.to_bytes()).decode()
    description = _description(model, "onnx", precision, trust=trust)
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(description)
    path.write_bytes(seal(proto.SerializeToString()))


def _description(model: Any, name: str, precision: str, **further: str) -> dict[str, Any]:
    return describe(
        model.info,
        format=format_of(model.info),
        precision=precision,
        exporter=f"allkit/{name}",
        **further,
    )


def _open_onnx(path: Path) -> Predictor:
    return OnnxPredictor(path)


def _write_pt2(
    model: Any, path: Path, *, precision: str, calibration: Sequence[npt.NDArray[np.uint8]] | None
) -> None:
    """Write `model` as a program of `torch.export`, which PyTorch opens as it is."""
    import io
    import logging
    import warnings

    import torch

    trust = base64.b64encode(model.trust.to_bytes()).decode()
    packed, exported = io.BytesIO(), program(model)
    with quiet_logging(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of weights that share their memory
        torch.export.save(exported, packed, extra_files={"trust": trust})
    # A zip may end in a comment, which torch passes over.
    comment = json.dumps(_description(model, "pt2", precision)).encode()
    data = packed.getvalue()[:-2] + struct.pack("<H", len(comment)) + comment
    path.write_bytes(seal(data))


def _open_pt2(path: Path) -> Predictor:
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise ExportError(
            f"{path} is a program of PyTorch, which is not installed. Type: pip install "
            f"'allkit[train]', or export the model with --format onnx."
        )
    from allkit.builtin.program import ProgramPredictor

    return ProgramPredictor(path)


@hookimpl
def allkit_exporters() -> Iterable[Exporter]:
    """Offer ONNX and the programs of `torch.export`."""
    return [
        Exporter(
            name="onnx",
            suffix=".onnx",
            write=_write_onnx,
            open=_open_onnx,
            summary="one ONNX file, from pixels to probabilities; float32 or int8",
        ),
        Exporter(
            name="pt2",
            suffix=".pt2",
            write=_write_pt2,
            open=_open_pt2,
            summary="one program of torch.export, for those who have PyTorch",
            needs_torch=True,
            precisions=("float32",),
        ),
    ]
