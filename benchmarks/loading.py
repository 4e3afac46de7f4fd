"""How fast images are read and augmented, and how long the network waits for them.

    python benchmarks/loading.py --images index.csv --weights vgg16.safetensors --out loading.json

Protocol. *Decode* and *decode and augment* (`standard`) in images a second: of one core, by
processor time, and by the clock with one to N threads or processes for N cores. *Waiting*: the share of the
time of a pass that was spent in waiting for images, for a frozen pass of each backbone over
augmented images, through the engine that `auto` chooses; both by the clock, on all cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

import allkit
from allkit.features import AugmentedCopy, FrozenPass, native_bfloat16
from allkit.images.batches import cores, read_ahead
from allkit.plugins import registry, resolve_weights

CPU = torch.device("cpu")
STATE: dict[str, Any] = {}


def numbered_copy(index: int, copy: int) -> Any:
    """Return image `index` as copy number `copy`; 0 is the image as it is."""
    frame = STATE["data"].passes.frame(index)
    if not copy:
        return frame.pixels
    return AugmentedCopy(copy, STATE["augment"], ["standard"], seed=0).of(frame)


def load(job: tuple[int, int]) -> int:
    """Read an image; its size stands for it."""
    return numbered_copy(*job).size


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--weights", help="for vgg16")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    data = allkit.Dataset.open(options.images)
    data = data.subset(range(0, len(data), max(1, len(data) // options.count)))
    augment = [registry().get("augmentation", "standard")]
    STATE.update(data=data, augment=augment)
    _ = data.hashes
    load((0, 1))  # imports, once
    figures: dict[str, Any] = {"cores": cores(), "images": len(data)}
    for name, copy in (("decode", 0), ("decode and augment", 1)):
        jobs = [(i, copy) for i in range(len(data))]
        start = time.process_time()
        for job in jobs:
            load(job)
        speed = {"one core": len(jobs) / (time.process_time() - start)}
        for workers in range(1, cores() + 1):
            start = time.perf_counter()
            for _ in read_ahead(jobs, load, 16, workers=workers):
                pass
            speed[f"{workers} threads"] = len(jobs) / (time.perf_counter() - start)
            context = multiprocessing.get_context("fork")
            with ProcessPoolExecutor(workers, mp_context=context) as pool:
                list(pool.map(load, jobs[:workers]))
                start = time.perf_counter()
                list(pool.map(load, jobs, chunksize=4))
                speed[f"{workers} processes"] = len(jobs) / (time.perf_counter() - start)
        figures[name] = {key: round(value, 1) for key, value in speed.items()}
        print(name, figures[name], flush=True)
    precision = "bfloat16" if native_bfloat16(CPU) else "float32"
    for name in ("efficientnet-lite0", "vgg16"):
        record = registry().get("backbone", name)
        weights = options.weights if name == "vgg16" and options.weights else "default"
        module = record.build(resolve_weights(name, weights))
        frozen = FrozenPass(module, record.input, CPU, precision=precision, engine="auto")
        few = list(range(len(data) if name != "vgg16" else min(96, len(data))))
        frozen([data.read(i) for i in few[:16]])
        waited, batches = 0.0, read_ahead(few, lambda i: numbered_copy(i, 1), 16)
        begin = time.perf_counter()
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                break
            waited += time.perf_counter() - start
            frozen([image for _, image in batch])
        total = time.perf_counter() - begin
        figures[f"waiting, {name}"] = {
            "share": round(waited / total, 4), "images_per_second": round(len(few) / total, 1),
            "engine": " ".join(frozen.signature),
        }  # fmt: skip
        print(name, figures[f"waiting, {name}"], flush=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
