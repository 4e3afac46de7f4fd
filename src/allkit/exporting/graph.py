"""The graph of a model, from pixels to answers: as ONNX, or as a program of torch.

Both compute everything: resizing, view, normalisation, network, calibration. Their inputs, in this order:

    pixels  uint8 (T, H, W, 3)  T images of one size, RGB; T, H and W are free
    places  float32 (M, 3)      the image (0 to T - 1), x and y of each cell; M is free
    shares  float32 (N, T)      how much each of the T counts for each of N images; both are free

A model of whole fields takes `pixels` alone, and N is T; one with cells takes all three (of older ones,
some take no `shares`). Their outputs, float32: `probabilities` (N, K), `logits` (N, K), `features` (N, D).
`allkit.exporting.FilePredictor` makes the inputs where a file answers.
"""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from allkit.errors import ExportError
from allkit.images.selection import Selection
from allkit.runtime.graph import OUTPUTS, Images, feeds
from allkit.trust.arrays import Arrays

if TYPE_CHECKING:
    import torch

__all__ = ["calibration_feeds", "onnx_graph", "program"]


def onnx_graph(
    model: Any, *, precision: str = "float32", calibration: Images | None = None
) -> bytes:
    """Return the whole of `model`, a `Classifier`, as one ONNX file without any further file.

    Inputs and outputs have the names above. `precision` is `float32`, or `int8` with training images as
    `calibration`, each `(H, W, 3)` uint8: then the backbone computes in 8 bits, in the form QDQ that
    engines take from ONNX. Raises `ExportError` that names the operator which ONNX lacks. Needs torch.
    """
    if precision not in ("float32", "int8"):
        raise ExportError(f"The precision {precision!r} is not known. Use float32 or int8.")
    if precision == "int8" and not calibration:
        raise ExportError("int8 needs images to calibrate it. Give --calibrate training images.")
    proto = _traced(model)
    if precision == "int8":
        from allkit.exporting.quantise import quantised

        proto = quantised(proto, list(calibration_feeds(model, calibration or ())))
    for node in proto.graph.node:  # among them are paths of the machine that exports
        del node.metadata_props[:]
    data: bytes = proto.SerializeToString()
    return data


def program(model: Any) -> torch.export.ExportedProgram:
    """Return the whole of `model`, a `Classifier`, as a program of `torch.export`, in float32.

    It takes the inputs above by position and returns the three outputs as a tuple. Raises `ExportError`
    where a backbone cannot be traced. Needs torch.
    """
    import torch

    pipeline = model.pipeline()
    with (
        _quiet("torch"),
        _named_failure(model.info.backbone.name, "pt2"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", UserWarning)  # of weights that share their memory
        exported = torch.export.export(
            pipeline, pipeline.example(), dynamic_shapes=pipeline.dynamic_shapes()
        )
    for node in exported.graph.nodes:  # paths of the machine that exports
        node.meta.pop("stack_trace", None)
    return exported


def calibration_feeds(model: Any, images: Images) -> Iterator[Arrays]:
    """Yield the inputs of the graph by name for each of these images, `(H, W, 3)` uint8, one at a time.

    For an engine with a calibration of its own. The cells are found as they are where the file answers.
    """
    selection = Selection.of(model.spec, tiles=model.info.backbone.tiles)
    for image in images:
        for _, feed in feeds([image], model.find([image]), selection):
            yield feed


def _traced(model: Any) -> Any:
    """Return the graph as an `onnx.ModelProto`, with notes on where each node comes from."""
    import torch

    pipeline = model.pipeline()
    with _quiet("torch.onnx"), _named_failure(model.info.backbone.name, "onnx"):
        traced = torch.onnx.export(
            pipeline,
            pipeline.example(),
            dynamo=True,
            verbose=False,
            dynamic_shapes=pipeline.dynamic_shapes(),
            input_names=list(pipeline.names),
            output_names=list(OUTPUTS),
        )
    if traced is None:
        raise ExportError(f"torch wrote no ONNX program for {model.info.backbone.name!r}.")
    return traced.model_proto


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
