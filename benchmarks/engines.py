"""Images a second of one core through a frozen backbone, by engine and precision, and their check.

    python benchmarks/engines.py speed --images FOLDER --weights vgg16.safetensors --out engines.json
    python benchmarks/engines.py check --images FOLDER --backbones efficientnet-lite0 --out check.json

Protocol of `speed`. `--count` real images, decoded before the clock starts, in batches of 16 and of 1;
standardisation is part of what is measured. One thread; processor time and not the clock's, so that
what else the machine does counts little; the engines take turns, and the best of three turns counts.
*Ready*: seconds of the clock until the first batch is done (conversion, compilation). *Difference* is the
largest ‖features − PyTorch float32‖ / ‖PyTorch float32‖ of an image, *mean* that of all images. *Same
alone*: an image has the same bits in a batch of one as in a batch of 16. *torch.compile*: by Inductor, with
weights frozen, for each size of batch by itself. *int8*: the export of allkit, calibrated on 64 other images,
read by OpenVINO; its features are those after the correction of every feature by a line. bfloat16 is measured
where the processor computes it.

Protocol of `check`. FrozenPass compares an engine with PyTorch on the first 16 images. How far two
roundings to bfloat16 that are both right are apart is measured on `--count` images: PyTorch's, and a
second one (OpenVINO's where the processor computes bfloat16; elsewhere one that is written below: weights
and the input of every convolution and linear layer rounded, all else in float32). Then `--draws` sets of
first images are drawn, and it is counted how often the second is refused: by the rule of today (mean of 16,
`FACTOR`), and by the rule before (largest of 4, 1.5 times). How far typical mistakes of an engine are away
from PyTorch is measured on 16 images.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import allkit
from allkit.data.drawn import write_smears
from allkit.features import FrozenPass, native_bfloat16
from allkit.features.engines import CHECKED, FACTOR, FLOOR
from allkit.images.decode import read_image
from allkit.images.selection import Selection
from allkit.network.standardise import Standardise, to_batches
from allkit.plugins import registry, resolve_weights
from allkit.runtime.graph import feeds
from allkit.telemetry import import_silent, torch_folder

CPU = torch.device("cpu")
BATCHES = (16, 1)
CALIBRATION = 64
TURNS = 3
PLAIN = "torch float32"
Run = Callable[[list[Any]], torch.Tensor]


# ── what is timed ─────────────────────────────────────────────────────────────────────────────


def in_torch(module: nn.Module, record: Any) -> Run:
    """PyTorch as it is used when nobody thinks of it: float32, the default layout."""
    standardise = Standardise(record.input)

    def run(batch: list[Any]) -> torch.Tensor:
        with torch.inference_mode():
            ((_, pixels),) = list(to_batches(batch))
            return module(standardise(pixels))

    return run


def compiled(module: nn.Module, record: Any) -> Run:
    """PyTorch, compiled by Inductor."""
    module = module.to(memory_format=torch.channels_last)
    fast = torch.compile(module, dynamic=False, options={"freezing": True})
    standardise = Standardise(record.input)

    def run(batch: list[Any]) -> torch.Tensor:
        with torch.no_grad():
            ((_, pixels),) = list(to_batches(batch))
            return fast(standardise(pixels).contiguous(memory_format=torch.channels_last))

    return run


def in_int8(name: str, weights: str, images: list[Any], folder: Path) -> Run:
    """The backbone in 8 bits, as allkit exports it, computed by OpenVINO."""
    openvino = import_silent("openvino")
    drawn = allkit.Dataset.open(write_smears(folder, 24, groups=12, seed=0))  # for a head
    model = allkit.Trainer(
        backbone=name, weights=weights, copies=0, val=0.0, cache=None, engine="torch", bag="field",
        view=registry().get("backbone", name).input.view,
    ).fit(drawn)  # fmt: skip
    path = folder / "int8.onnx"
    registry().get("exporter", "onnx").write(model, path, precision="int8", calibration=images)
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    program = openvino.Core().compile_model(openvino.Core().read_model(path), "CPU", hints)

    def run(batch: list[Any]) -> torch.Tensor:
        ((_, feed),) = list(feeds(batch, None, Selection()))
        return torch.from_numpy(np.array(program(feed)["features"]))

    return run


def timed(runs: dict[str, Run], images: list[Any], size: int) -> dict[str, float]:
    """Return images a second of each; they take turns, so that other work falls on all of them."""
    batches = [images[i : i + size] for i in range(0, len(images), size)]
    best = dict.fromkeys(runs, float("inf"))
    for run in runs.values():
        run(batches[0])
    for _ in range(TURNS):
        for label, run in runs.items():
            start = time.process_time()
            for batch in batches:
                run(batch)
            best[label] = min(best[label], time.process_time() - start)
    return {label: len(images) / seconds for label, seconds in best.items()}


def speed(options: argparse.Namespace) -> dict[str, Any]:
    images, others = files(options, options.count), files(options, CALIBRATION, offset=1)
    figures: dict[str, Any] = {}
    for name in options.backbones:
        record = registry().get("backbone", name)
        weights = weights_of(name, options)
        module = record.build(resolve_weights(name, weights)).eval().requires_grad_(False)
        makers: dict[str, Callable[[], Run]] = {
            PLAIN: lambda m=module, r=record: in_torch(copy.deepcopy(m), r)
        }
        precisions = ("float32", "bfloat16") if native_bfloat16(CPU) else ("float32",)
        for engine in ("torch", "openvino"):
            for precision in precisions:
                layout = " channels_last" if engine == "torch" else ""
                makers[f"{engine} {precision}{layout}"] = lambda m=module, r=record, p=precision, e=engine: (
                    FrozenPass(copy.deepcopy(m), r.input, CPU, precision=p, engine=e)
                )  # fmt: skip
        makers["torch.compile float32"] = lambda m=module, r=record: compiled(copy.deepcopy(m), r)
        with tempfile.TemporaryDirectory() as folder:
            makers["openvino int8"] = lambda n=name, w=weights, f=folder: in_int8(
                n, w, others, Path(f)
            )
            ready: dict[str, Run] = {}
            rows: dict[str, torch.Tensor] = {}
            for label, make in makers.items():
                if options.only and label not in (PLAIN, *options.only):
                    continue
                start = time.perf_counter()
                run = ready[label] = make()
                parts = [images[i : i + BATCHES[0]] for i in range(0, len(images), BATCHES[0])]
                run(parts[0])
                seconds = time.perf_counter() - start
                rows[label] = torch.cat([run(part).clone() for part in parts])
                far = (rows[label] - rows[PLAIN]).norm(dim=1) / rows[PLAIN].norm(dim=1)
                figures[f"{name}, {label}"] = {
                    "ready_seconds": round(seconds, 1),
                    "difference": float(f"{float(far.max()):.2g}"),
                    "mean": float(f"{float(far.mean()):.2g}"),
                    "same_alone": torch.equal(run(images[:1]), rows[label][:1]),
                }
            for size in BATCHES:
                some = images if size > 1 else images[: options.count // 4]
                for label, per_second in timed(ready, some, size).items():
                    figure = figures[f"{name}, {label}"]
                    figure[f"images_per_second_by_{size}"] = round(per_second, 1)
        for label in ready:
            print(name, label, figures[f"{name}, {label}"], flush=True)
    return figures


# ── the check of an engine ────────────────────────────────────────────────────────────────────


def rounded(module: nn.Module) -> nn.Module:
    """Return a copy that rounds to bfloat16 elsewhere than PyTorch does."""
    module = copy.deepcopy(module)

    def round_inputs(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(values.bfloat16().float() for values in inputs)

    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.weight.data = layer.weight.data.bfloat16().float()
            layer.register_forward_pre_hook(round_inputs)
    return module


def mistakes(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield what an engine might compute wrongly, and a network that does."""
    clipped = copy.deepcopy(module)
    for layer in clipped.modules():
        if isinstance(layer, nn.ReLU6):
            layer.max_val = 3.0
    yield "activations clipped at 3 for 6", clipped
    narrow = copy.deepcopy(module)
    first = next(layer for layer in narrow.modules() if isinstance(layer, nn.Conv2d))
    first.weight.data = first.weight.data.flip(1)
    yield "channels of the image in reverse order", narrow
    shifted = copy.deepcopy(module)
    shifted.register_forward_pre_hook(lambda _, inputs: (inputs[0] + 0.1,))
    yield "the image a tenth of a standard deviation too light", shifted
    biased = copy.deepcopy(module)
    layers = [layer for layer in biased.modules() if isinstance(layer, (nn.BatchNorm2d, nn.Conv2d))]
    layers[len(layers) // 2].bias = None
    yield "one layer in the middle without its bias", biased


def check(options: argparse.Namespace) -> dict[str, Any]:
    images = files(options, options.count)
    figures: dict[str, Any] = {}
    for name in options.backbones:
        record = registry().get("backbone", name)
        module = record.build(resolve_weights(name, weights_of(name, options))).eval()
        native = native_bfloat16(CPU)
        exact, own, second = (
            FrozenPass(m, record.input, CPU, precision=p, engine=e)
            for m, p, e in (
                (copy.deepcopy(module), "float32", "torch"),
                (copy.deepcopy(module), "bfloat16", "torch"),
                (copy.deepcopy(module), "bfloat16", "openvino") if native
                else (rounded(module), "float32", "torch"),
            )
        )  # fmt: skip
        ours, theirs = [], []
        for start in range(0, len(images), CHECKED):
            batch = images[start : start + CHECKED]
            truth = exact(batch)
            for rows, found in ((own(batch), ours), (second(batch), theirs)):
                found += ((rows - truth).norm(dim=1) / truth.norm(dim=1)).tolist()
        ours, theirs = np.array(ours), np.array(theirs)
        rng = np.random.default_rng(0)
        figure: dict[str, Any] = {
            "images": len(ours), "second": "openvino" if native else "written here",
            "torch": spread(ours), "other": spread(theirs),
        }  # fmt: skip
        rules = {
            f"mean of {CHECKED}, {FACTOR} times": (CHECKED, np.mean, FACTOR),
            f"median of {CHECKED}, {FACTOR} times": (CHECKED, np.median, FACTOR),
            f"mean of 1, {FACTOR} times": (1, np.mean, FACTOR),
            "largest of 4, 1.5 times": (4, np.max, 1.5),
        }
        for rule, (count, statistic, factor) in rules.items():
            drawn = [rng.choice(len(ours), count, replace=False) for _ in range(options.draws)]
            ratios = [statistic(theirs[d]) / statistic(ours[d]) for d in drawn]
            refused = [
                statistic(theirs[d]) > max(FLOOR, factor * statistic(ours[d])) for d in drawn
            ]
            figure[rule] = {"refused": float(np.mean(refused)), "ratio": spread(np.array(ratios))}
        batch = images[:CHECKED]
        truth = exact(batch)
        for mistake, wrong in mistakes(copy.deepcopy(module)):
            rows = FrozenPass(wrong, record.input, CPU)(batch)
            far = (rows - truth).norm(dim=1) / truth.norm(dim=1)
            figure[mistake] = float(f"{float(far.mean()):.2g}")
        figures[name] = figure
        print(name, json.dumps(figure), flush=True)
    return figures


def spread(values: np.ndarray) -> list[float]:
    """Return the smallest, the median and the largest value."""
    return [float(f"{value:.3g}") for value in np.quantile(values, (0, 0.5, 1))]


# ── the images ────────────────────────────────────────────────────────────────────────────────


def files(options: argparse.Namespace, count: int, *, offset: int = 0) -> list[Any]:
    """Return `count` decoded images, spread over the folder; those of another `offset` are others."""
    found = sorted(options.images.rglob("*.jpg"))
    places = np.linspace(0, len(found) - 2, count).astype(int) + offset
    return [read_image(found[i], name=found[i].name) for i in places]


def weights_of(name: str, options: argparse.Namespace) -> str:
    return str(options.weights) if name.startswith("vgg16") and options.weights else "default"


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["speed", "check"])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--weights", help="for vgg16")
    parser.add_argument("--backbones", nargs="*", default=["efficientnet-lite0", "vgg16"])
    parser.add_argument("--only", nargs="*", help="of `speed`: engines, such as 'openvino int8'")
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.what == "speed":
        torch.set_num_threads(1)
    with torch_folder():
        figures = speed(options) if options.what == "speed" else check(options)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
