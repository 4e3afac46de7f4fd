"""Images a second of one core through a frozen backbone, for every engine and precision.

    python benchmarks/engines.py --images FOLDER --weights vgg16.safetensors --out engines.json

Protocol. `--count` real images, decoded before the clock starts, in batches of 16; standardisation
is part of what is measured. One thread; processor time and not the clock's, so that what else the
machine does counts little; the best of three passes after one to warm up. *Difference* is the largest
‖features − PyTorch float32‖ / ‖PyTorch float32‖ of an image. *Same alone*: an image has the same
bits in a batch of one as in a batch of 16.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allkit.features import FrozenPass
from allkit.images.decode import read_image
from allkit.network.standardise import Standardise, to_batches
from allkit.plugins import registry, resolve_weights

CPU = torch.device("cpu")
BATCH = 16


def usual(module: Any, record: Any, images: list[Any]) -> Any:
    """PyTorch as it is used when nobody thinks of it: float32, the default layout."""
    standardise = Standardise(record.input)

    def run(batch: list[Any]) -> torch.Tensor:
        with torch.inference_mode():
            ((_, pixels),) = list(to_batches(batch))
            return module(standardise(pixels))

    return run


def timed(run: Any, images: list[Any]) -> tuple[float, torch.Tensor]:
    """Return images a second, and the features."""
    batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    run(batches[0])
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        rows = [run(batch).clone() for batch in batches]
        best = min(best, time.process_time() - start)
    return len(images) / best, torch.cat(rows)


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--weights", help="for vgg16")
    parser.add_argument("--backbones", nargs="*", default=["efficientnet-lite0", "vgg16"])
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    files = sorted(options.images.rglob("*.jpg"))
    files = [files[i] for i in np.linspace(0, len(files) - 1, options.count).astype(int)]
    images = [read_image(file, name=file.name) for file in files]
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    for name in options.backbones:
        record = registry().get("backbone", name)
        weights = options.weights if name.startswith("vgg16") and options.weights else "default"
        module = record.build(resolve_weights(name, weights)).eval()
        runs = {"torch float32": usual(copy.deepcopy(module), record, images)}
        for engine, precision in [
            ("torch", "float32"), ("torch", "bfloat16"), ("openvino", "float32"),
            ("openvino", "bfloat16"),
        ]:  # fmt: skip
            layout = " channels_last" if engine == "torch" else ""
            runs[f"{engine} {precision}{layout}"] = FrozenPass(
                copy.deepcopy(module), record.input, CPU, precision=precision, engine=engine
            )
        exact = None
        for label, run in runs.items():
            speed, rows = timed(run, images)
            exact = rows if exact is None else exact
            far = float(((rows - exact).norm(dim=1) / exact.norm(dim=1)).max())
            alone = torch.equal(run(images[:1]), rows[:1])
            figures[f"{name}, {label}"] = {
                "images_per_second": round(speed, 1), "difference": float(f"{far:.2g}"),
                "same_alone": alone,
            }  # fmt: skip
            print(name, label, figures[f"{name}, {label}"], flush=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
