"""What an answer costs beside one forward pass of its field, in PyTorch and in exported files.

    python benchmarks/answer_cost.py MODEL --images FOLDER --calibrate split.csv --out cost.json

Processor time of all threads for an image, the median of `--rounds` turns over `--count` images,
everybody in turn, after one turn to warm up. *Answer*: from the path to the `Prediction` (decoding,
cells, field, decision). *Forward*: the backbone on the field as standardised float32 `(n, 3, S,
S)`, nothing else: in PyTorch eager as the module is built (float32, the default layout; beside it in
`channels_last`, as allkit computes), in an engine as a graph of its own that the same exporter wrote.
Both with the same number of images at a time (1, and 16 where PyTorch answers).

*Limit*: the largest speed of multiplications of square matrices (2048) that the engine reaches in
this run on all threads, in float32 and in 8-bit integers (`MatMul` and `MatMulInteger` of ONNX
Runtime; uint8 by int8), and the share of it that an answer reaches: multiply-adds of the
convolutions and linear layers for field and cells of these images, over the time by the clock from
path to answer. An algorithm that needs fewer multiplications (Winograd) may come above 1.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import allkit
from allkit.cli.models import open_model
from allkit.images.bags import shown
from allkit.images.batches import cores
from allkit.images.cells import find_cells
from allkit.images.decode import IMAGE_SUFFIXES, read_image
from allkit.images.selection import Selection
from allkit.network.standardise import Standardise, to_batches
from allkit.telemetry import import_silent

SIDE = 2048
Work = Callable[[], Any]


def turns(who: dict[str, Work], rounds: int, images: int) -> dict[str, dict[str, float]]:
    """Return milliseconds an image of each, of the processor and by the clock."""
    used: dict[str, list[tuple[float, float]]] = {name: [] for name in who}
    for number in range(rounds + 1):
        for name, work in who.items():
            clock, processor = time.perf_counter(), time.process_time()
            work()
            if number:
                used[name].append((time.process_time() - processor, time.perf_counter() - clock))
    return {
        name: {
            "processor_ms": 1000 * statistics.median(p for p, _ in rows) / images,
            "clock_ms": 1000 * statistics.median(c for _, c in rows) / images,
        }
        for name, rows in used.items()
    }


def graph_of(module: torch.nn.Module, size: int, path: Path) -> Path:
    """Write a backbone alone as ONNX."""
    example = torch.zeros(2, 3, size, size)
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.onnx.export(
        module, (example,), dynamo=True, verbose=False, dynamic_shapes=shapes, input_names=["x"]
    )
    path.write_bytes(program.model_proto.SerializeToString())
    return path


def onnx_session(source: Any) -> Any:
    onnxruntime = import_silent("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    data = source if isinstance(source, bytes) else source.read_bytes()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def peaks() -> dict[str, float]:
    """Return multiply-adds a second (10⁹) of square products in ONNX Runtime."""
    import onnx
    from onnx import TensorProto, helper

    rng = np.random.default_rng(0)
    kinds = {
        "float32": ("MatMul", TensorProto.FLOAT, TensorProto.FLOAT, np.float32, np.float32),
        "int8": ("MatMulInteger", TensorProto.UINT8, TensorProto.INT8, np.uint8, np.int8),
    }
    found = {}
    for name, (operator, left, right, first, second) in kinds.items():
        a = rng.integers(0, 100, (SIDE, SIDE)).astype(first)
        b = rng.integers(-60, 60, (SIDE, SIDE)).astype(second)
        weight = helper.make_tensor("b", right, b.shape, b.tobytes(), raw=True)
        result = TensorProto.INT32 if name == "int8" else TensorProto.FLOAT
        graph = helper.make_graph(
            [helper.make_node(operator, ["a", "b"], ["c"])],
            "product",
            [helper.make_tensor_value_info("a", left, a.shape)],
            [helper.make_tensor_value_info("c", result, a.shape)],
            [weight],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        session = onnx_session(model.SerializeToString())
        session.run(None, {"a": a})
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            session.run(None, {"a": a})
            best = min(best, time.perf_counter() - start)
        found[name] = SIDE**3 / best / 1e9
    return found


def multiply_adds(model: allkit.Classifier, names: list[str]) -> float:
    """Return multiply-adds (10⁹) of an image, field and cells, the mean of these images."""
    from torch.utils.flop_counter import FlopCounterMode

    def of(size: int) -> float:
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            model.network.backbone(torch.zeros(1, 3, size, size))
        return counter.get_total_flops() / 2 / 1e9

    spec = model.spec
    whole = 0.0 if spec.bag == "cells" else of(spec.size)
    if spec.bag == "field":
        return whole
    found = [find_cells(read_image(name, name=name), model.finder) for name in names]
    seen = [len(shown(f, Selection.of(spec, tiles=model.tiled)).cells) for f in found]
    return whole + float(np.mean(seen)) * of(spec.cell_size)


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calibrate", type=Path, help="training images, for int8 files")
    parser.add_argument("--formats", nargs="*", default=["onnx", "openvino"])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    found = sorted(p for p in options.images.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    names = [str(found[i]) for i in np.linspace(0, len(found) - 1, options.count).astype(int)]
    model = allkit.Classifier.load(options.model)
    # A classifier has its backbone in channels_last: a plain forward is that of one as it was built.
    backbone = copy.deepcopy(model.network.backbone).to(memory_format=torch.contiguous_format)
    standardise = Standardise(replace(model.spec, bag="field"))
    pixels = [read_image(name, name=name) for name in names]
    inputs = torch.empty(len(names), 3, model.spec.size, model.spec.size)
    for indices, batch in to_batches(pixels):
        inputs[indices] = standardise(batch)

    def eager(size: int, module: torch.nn.Module, layout: torch.memory_format) -> Work:
        laid_out = inputs.contiguous(memory_format=layout)

        def work() -> None:
            with torch.inference_mode():
                for at in range(0, len(inputs), size):
                    module(laid_out[at : at + size])

        return work

    def answered(predictor: Any, size: int) -> Work:
        def work() -> None:
            for at in range(0, len(names), size):
                predictor.predict(names[at : at + size])

        return work

    figures: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "images": len(names),
        "multiply_adds": multiply_adds(model, names),
        "limit": peaks(),
    }
    who: dict[str, Work] = {
        "forward, eager, 1 at a time": eager(1, backbone, torch.contiguous_format),
        "forward, eager, 16 at a time": eager(16, backbone, torch.contiguous_format),
        "forward, channels_last, 16 at a time": eager(
            16, model.network.backbone, torch.channels_last
        ),
        "answer, allkit, 1 at a time": answered(model, 1),
        "answer, allkit, 16 at a time": answered(model, 16),
    }
    with tempfile.TemporaryDirectory() as folder:
        alone = graph_of(backbone, model.spec.size, Path(folder) / "field.onnx")
        run = onnx_session(alone)
        single = [inputs[i : i + 1].numpy() for i in range(len(inputs))]
        if "onnx" in options.formats:
            who["forward, onnx float32"] = lambda: [run.run(None, {"x": x}) for x in single]
        if "openvino" in options.formats:
            openvino = import_silent("openvino")
            core = openvino.Core()
            compiled = core.compile_model(
                core.read_model(alone), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
            )
            request = compiled.create_infer_request()
            who["forward, openvino float32"] = lambda: [request.infer({"x": x}) for x in single]
        for form in options.formats:
            for precision in ("float32", *(("int8",) if options.calibrate else ())):
                path = Path(folder) / f"model-{precision}.{form}"
                images = None
                if precision == "int8":
                    images = allkit.Dataset.open(options.calibrate)
                    images = images.part("train") if images.has_parts else images
                model.export(path, format=form, precision=precision, calibration=images)
                who[f"answer, {form} {precision}"] = answered(open_model(path), 1)
        rows = turns(who, options.rounds, len(names))
    figures["rows"] = rows

    def ratio(answer: str, forward: str) -> float:
        return rows[answer]["processor_ms"] / rows[forward]["processor_ms"]

    figures["ratios"] = {
        f"allkit, {n} at a time": ratio(
            f"answer, allkit, {n} at a time", f"forward, eager, {n} at a time"
        )
        for n in (1, 16)
    } | {
        f"{form} float32": ratio(f"answer, {form} float32", f"forward, {form} float32")
        for form in options.formats
    }
    figures["share_of_limit"] = {
        name: figures["multiply_adds"]
        / (row["clock_ms"] / 1000)
        / figures["limit"][name.split()[-1]]
        for name, row in rows.items()
        if name.startswith("answer, o")
    }
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
