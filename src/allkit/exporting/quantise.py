"""An ONNX graph in 8-bit integers, by ONNX Runtime's static quantisation."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from allkit.images.batches import cores
from allkit.telemetry import import_silent, quiet_logging
from allkit.trust.arrays import Arrays
from allkit.trust.space import signed_sqrt
from allkit.types import Doubles

__all__ = ["quantised"]

# What engines compute in 8 bits. What is not named stays in float32.
OPERATORS = ("Add", "AveragePool", "Clip", "Concat", "Conv", "Gemm", "MatMul", "MaxPool", "Relu")
SCOPES = "pkg.torch.onnx.name_scopes"
BACKBONE = "'network.backbone'"
FEATURES = "features"


def quantised(model: Any, inputs: Sequence[Arrays]) -> Any:
    """Return `model`, an `onnx.ModelProto` from `pixels` on, with its backbone in 8 bits.

    `inputs` are those of images to calibrate on, one image each.

    Weights are symmetric int8 with one scale for each channel; activations are uint8 between the
    smallest and the largest value that these images give. Resizing, normalisation, head and
    calibration stay in float32. Weights of seven bits would never overflow on processors without
    VNNI instructions, but cost agreement (docs/figures-former.md); `allkit verify` tells there. What
    rounding does to all images alike is taken back from the features, where that brings them
    nearer (`_lines`).
    """
    import onnx

    quantization = import_silent("onnxruntime.quantization")
    types = quantization.QuantType
    nodes = [node.name for node in model.graph.node if _computes_the_backbone(node)]
    wanted = _features(model, inputs)  # before: the quantisation takes the weights out of `model`
    # It advises to run a preparation that the graph does not need.
    with tempfile.TemporaryDirectory() as folder, quiet_logging(logging.WARNING):
        target = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            model,
            target,
            _Reader(inputs),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            nodes_to_quantize=nodes,
            per_channel=True,
            activation_type=types.QUInt8,
            weight_type=types.QInt8,
        )
        small = onnx.load(target)
    return _corrected(small, wanted, _features(small, inputs))


def _features(model: Any, inputs: Sequence[Arrays]) -> Doubles:
    """Return the features `(N, D)` that a graph gives."""
    onnxruntime = import_silent("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    rows = [session.run([FEATURES], feed)[0] for feed in inputs]
    return np.concatenate(rows).astype(np.float64)


def _corrected(model: Any, wanted: Doubles, found: Doubles) -> Any:
    """Return `model` with `features` brought from `found` to `wanted`, both `(N, D)`.

    Each feature becomes `slope · feature + shift` (`_lines`).
    """
    import onnx

    slope, shift = _lines(wanted, found)
    graph = model.graph
    rounded = f"{FEATURES}_rounded"
    (position,) = [i for i, node in enumerate(graph.node) if FEATURES in node.output]
    node = graph.node[position]
    node.output[list(node.output).index(FEATURES)] = rounded
    for name, values in (("slope", slope), ("shift", shift)):
        array = onnx.numpy_helper.from_array(values.astype(np.float32), f"{FEATURES}_{name}")
        graph.initializer.append(array)
    scaled = f"{FEATURES}_scaled"
    line = [
        onnx.helper.make_node("Mul", [rounded, f"{FEATURES}_slope"], [scaled], name=scaled),
        onnx.helper.make_node("Add", [scaled, f"{FEATURES}_shift"], [FEATURES], name=FEATURES),
    ]
    for offset, step in enumerate(line, start=1):
        graph.node.insert(position + offset, step)
    return model


def _lines(wanted: Doubles, found: Doubles) -> tuple[Doubles, Doubles]:
    """Return slope and shift `(D,)` that bring features from `found` to `wanted`, both `(N, D)`.

    By least squares, for those features that come nearer on images which the line was not fitted
    on: two halves take turns. They are compared by their signed square roots, as head and OOD
    detection see them; a shift that looks small may be large beside a feature near zero.
    """
    halves = np.arange(len(found)) % 2 == 0
    before, after = np.zeros(found.shape[1]), np.zeros(found.shape[1])
    for fitted in (halves, ~halves):
        slope, shift = _line(wanted[fitted], found[fitted])
        target, other = signed_sqrt(wanted[~fitted]), found[~fitted]
        before += ((signed_sqrt(other) - target) ** 2).sum(axis=0)
        after += ((signed_sqrt(slope * other + shift) - target) ** 2).sum(axis=0)
    slope, shift = _line(wanted, found)
    nearer = after < before
    return np.where(nearer, slope, 1.0), np.where(nearer, shift, 0.0)


def _line(wanted: Doubles, found: Doubles) -> tuple[Doubles, Doubles]:
    centred = found - found.mean(axis=0)
    spread = (centred**2).mean(axis=0)
    common = (centred * (wanted - wanted.mean(axis=0))).mean(axis=0)
    # Held between a half and two: what hardly varied must not be blown up.
    slope = np.clip(np.where(spread > 0, common / np.maximum(spread, 1e-30), 1.0), 0.5, 2.0)
    return slope, wanted.mean(axis=0) - slope * found.mean(axis=0)


def _computes_the_backbone(node: Any) -> bool:
    """Say whether a node is an operator of the backbone that engines compute in 8 bits."""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "")
    # Positions that a stride asks for are computed by nodes of the same kinds, in integers.
    return node.op_type in OPERATORS and BACKBONE in scopes and "as_strided" not in scopes


class _Reader:
    """Images one at a time, as the calibration asks for them."""

    def __init__(self, inputs: Sequence[Arrays]) -> None:
        self._inputs = iter(inputs)

    def get_next(self) -> Arrays | None:
        return next(self._inputs, None)
