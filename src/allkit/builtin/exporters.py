"""The exporters that come with allkit."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allkit.errors import ExportError
from allkit.hookspecs import hookimpl
from allkit.images.selection import Selection
from allkit.records import Exporter, Predictor
from allkit.runtime.graph import feeds, format_of
from allkit.runtime.onnx import METADATA_KEY, OnnxPredictor
from allkit.runtime.seal import describe, seal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

api_version = 2

OUTPUTS = ("probabilities", "logits", "features")


def _write_onnx(
    model: Any, path: Path, *, precision: str, calibration: Sequence[npt.NDArray[np.uint8]] | None
) -> None:
    """Write `model` as one ONNX file, from `pixels` (N, H, W, 3) uint8 on.

    Its outputs: `probabilities` and `logits` (N, K), `features` (N, D).
    """
    if precision == "int8" and not calibration:
        raise ExportError("int8 needs images to calibrate it. Give --calibrate training images.")
    proto = _graph(model)
    if precision == "int8":
        from allkit.builtin.quantise import quantised

        images = list(calibration or [])
        cells = model.find(images)
        selection = Selection.of(model.spec, tiles=model.info.backbone.tiles)
        inputs = [
            feed
            for i, image in enumerate(images)
            for _, feed in feeds([image], None if cells is None else cells[i : i + 1], selection)
        ]
        proto = quantised(proto, inputs)
    for node in proto.graph.node:  # among them are paths of the machine that exports
        del node.metadata_props[:]
    trust = base64.b64encode(model.trust.to_bytes()).decode()
    format = format_of(model.info)
    description = describe(model.info, format=format, precision=precision, trust=trust)
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(description)
    path.write_bytes(seal(proto.SerializeToString()))


def _graph(model: Any) -> Any:
    import torch

    pipeline = model.pipeline()
    with _quiet("torch.onnx"), _named_failure(model.info.backbone.name, "onnx"):
        program = torch.onnx.export(
            pipeline,
            pipeline.example(),
            dynamo=True,
            verbose=False,
            dynamic_shapes=pipeline.dynamic_shapes(),
            input_names=list(pipeline.names),
            output_names=list(OUTPUTS),
        )
    if program is None:
        raise ExportError(f"torch wrote no ONNX program for {model.info.backbone.name!r}.")
    return program.model_proto


def _open_onnx(path: Path) -> Predictor:
    return OnnxPredictor(path)


def _write_pt2(
    model: Any, path: Path, *, precision: str, calibration: Sequence[npt.NDArray[np.uint8]] | None
) -> None:
    """Write `model` as a program of `torch.export`; inputs and outputs as in `_write_onnx`."""
    import io
    import warnings

    import torch

    pipeline = model.pipeline()
    packed = io.BytesIO()
    trust = base64.b64encode(model.trust.to_bytes()).decode()
    with (
        _quiet("torch"),
        _named_failure(model.info.backbone.name, "pt2"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", UserWarning)  # of weights that share their memory
        program = torch.export.export(
            pipeline, pipeline.example(), dynamic_shapes=pipeline.dynamic_shapes()
        )
        for node in program.graph.nodes:  # paths of the machine that exports
            node.meta.pop("stack_trace", None)
        torch.export.save(program, packed, extra_files={"trust": trust})
    # A zip may end in a comment, which torch passes over.
    description = describe(model.info, format=format_of(model.info), precision=precision)
    comment = json.dumps(description).encode()
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


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    # The exporters report every step as a warning; what goes wrong is raised.
    log = logging.getLogger(name)
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


@contextlib.contextmanager
def _named_failure(backbone: str, format_name: str) -> Iterator[None]:
    """Name the operator on which an export fails, and the way out."""
    try:
        yield
    except Exception as error:
        text = "\n".join(str(e) for e in _chain(error))
        missing = re.search(
            r"No (?:ONNX function|decompositions?)[^\n]*?(aten|\w+)[.:]+([\w.]+)", text
        )
        if format_name == "onnx" and missing:
            operator = f"{missing[1]}.{missing[2].strip('.')}"
            raise ExportError(
                f"The backbone {backbone!r} uses the operator {operator}, which ONNX does not "
                f"have. Write that step of the backbone with other operators, or export with "
                f"--format pt2, which takes every operator of torch."
            ) from error
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else repr(error)
        raise ExportError(
            f"The backbone {backbone!r} cannot be written as {format_name}: {reason} Its `forward` "
            f"must not depend on the values of its input; see torch.export's documentation."
        ) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


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
