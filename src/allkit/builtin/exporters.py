"""The exporters that come with allkit."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allkit.errors import ExportError
from allkit.hookspecs import hookimpl
from allkit.records import Exporter, Predictor
from allkit.runtime.onnx import FORMAT, METADATA_KEY, OnnxPredictor
from allkit.runtime.seal import describe, seal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def _write(
    model: Any, path: Path, *, precision: str, calibration: list[npt.NDArray[np.uint8]] | None
) -> None:
    """Write `model` as one ONNX file, from `pixels` (N, H, W, 3) uint8 on.

    Its outputs: `probabilities` and `logits` (N, K), `features` (N, D).
    """
    import logging

    import torch.onnx

    if precision != "float32":
        raise ExportError(f"The onnx exporter writes float32, not {precision}. Leave --int8 out.")
    pipeline = model.pipeline()
    # The exporter reports every step as a warning; what goes wrong is raised.
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        program = torch.onnx.export(
            pipeline, pipeline.example(), dynamo=True, verbose=False,
            dynamic_shapes=pipeline.dynamic_shapes(), input_names=list(pipeline.names),
            output_names=["probabilities", "logits", "features"],
        )  # fmt: skip
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise ExportError(
            f"The backbone {model.info.backbone.name!r} cannot be written as ONNX: {reason}"
        ) from error
    finally:
        log.setLevel(before)
    if program is None:
        raise ExportError(f"torch wrote no ONNX program for {model.info.backbone.name!r}.")
    proto = program.model_proto
    description = describe(
        model.info, format=FORMAT, precision=precision,
        trust=base64.b64encode(model.trust.to_bytes()).decode(),
    )  # fmt: skip
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(description)
    path.write_bytes(seal(proto.SerializeToString()))


def _open(path: Path) -> Predictor:
    return OnnxPredictor(path)


@hookimpl
def allkit_exporters() -> Iterable[Exporter]:
    """Offer ONNX."""
    return [Exporter("onnx", ".onnx", _write, _open, "one ONNX file, from pixels to probabilities")]
