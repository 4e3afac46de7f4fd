"""Exported files against PyTorch: agreement, accuracy, latency of one image, start-up.

    python benchmarks/exports.py MODEL --data split.csv --folder FOLDER --out figures.json

Protocol. `--data` is divided by group (`allkit split`), and MODEL was trained on its train part.
Every file is exported as `allkit export` does, int8 calibrated on images of the train part; the
proof on the test part (every eighth image of it for float32), which neither saw, gives agreement
and accuracy. *Latency*: from the path of an image to its `Prediction`, one image at a time; PyTorch
and the files take turns, a few images each, so that whatever else the machine does falls on all of
them. *Eager*: the whole pipeline as a plain `nn.Module` in float32, as it is traced. *allkit*:
`Classifier.predict`. *Processor time* counts all threads and hardly depends on other work.
*Start-up*: from before a new process to after its first answer.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import allkit
from allkit.cli.models import open_model
from allkit.runtime.answers import stream
from allkit.trust.verdict import Outputs

FILES = {
    "onnx float32": ("onnx", ".onnx", False), "onnx int8": ("onnx", "-int8.onnx", True),
    "openvino float32": ("openvino", ".openvino", False),
    "openvino int8": ("openvino", "-int8.openvino", True), "pt2 float32": ("pt2", ".pt2", False),
}  # fmt: skip


class Eager:
    """The pipeline as PyTorch runs it, from paths to answers."""

    def __init__(self, model: allkit.Classifier) -> None:
        self.pipeline, self.trust = model.pipeline(), model.trust

    def predict(self, images: list[str]) -> list[allkit.Prediction]:
        return list(stream(images, self.outputs, self.trust))

    def outputs(self, images: Any) -> Outputs:
        with torch.inference_mode():
            found = [self.pipeline(torch.from_numpy(i[None].copy()))[1:] for i in images]
        return Outputs(*(np.concatenate([f[k].numpy() for f in found]) for k in (0, 1)))


def exported(
    model: allkit.Classifier, data: allkit.Dataset, folder: Path, names: list[str]
) -> dict[str, Any]:
    """Export every file and return its proof."""
    proofs = {}
    test = data.part("test")
    few = test.subset(range(0, len(test), 8))
    for name in names:
        format_name, suffix, int8 = FILES[name]
        path = folder / f"model{suffix}"
        begun = time.perf_counter()
        proof = model.export(
            path, format=format_name, precision="int8" if int8 else "float32",
            calibration=data.part("train") if int8 else None, check=test if int8 else few,
            overwrite=True,
        )  # fmt: skip
        values = proof.to_dict() | {
            "accuracy": proof.accuracy, "size_mb": path.stat().st_size / 1e6,
            "seconds": time.perf_counter() - begun,
        }  # fmt: skip
        del values["probes"]
        proofs[name] = values
        print(name, json.dumps(values), flush=True)
    return proofs


def latencies(who: dict[str, Any], images: list[str], rounds: int, each: int) -> dict[str, Any]:
    """Return milliseconds an image, by the clock and of the processor, taking turns."""
    clock: dict[str, list[float]] = {name: [] for name in who}
    processor: dict[str, list[float]] = {name: [] for name in who}
    for number in range(rounds + 1):
        for name, predictor in who.items():
            for turn in range(each):
                image = images[(number * each + turn) % len(images)]
                begun, used = time.perf_counter(), time.process_time()
                predictor.predict([image])
                if number and turn:  # the first after another's turn finds cold caches
                    clock[name].append((time.perf_counter() - begun) * 1000)
                    processor[name].append((time.process_time() - used) * 1000)
    return {
        name: {
            "p50_ms": float(np.percentile(clock[name], 50)),
            "p95_ms": float(np.percentile(clock[name], 95)),
            "processor_p50_ms": float(np.percentile(processor[name], 50)),
        }
        for name in who
    }


def start_up(path: Path, image: str, python: str, times: int) -> list[float]:
    """Return seconds from before the process to after its first answer, of `allkit predict`."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        subprocess.run(
            [python, "-m", "allkit", "predict", str(path), image], check=True, capture_output=True
        )
        taken.append(time.perf_counter() - begun)
    return taken


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="for the exported files")
    parser.add_argument("--python", default=sys.executable, help="of a light installation")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--each", type=int, default=6)
    parser.add_argument("--only", choices=["proof", "time"])
    parser.add_argument("--files", nargs="+", choices=list(FILES), default=list(FILES))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    data = allkit.Dataset.open(options.data)
    model = allkit.Classifier.load(options.model)
    figures: dict[str, Any] = {"threads": torch.get_num_threads()}
    if options.only != "time":
        figures["proof"] = exported(model, data, options.folder, options.files)
    if options.only != "proof":
        images = [str(options.data.parent / s.image) for s in data.part("test")][::3]
        who: dict[str, Any] = {"eager": Eager(model), "allkit": model}
        who |= {
            name: open_model(options.folder / f"model{suffix}")
            for name, (_, suffix, _) in FILES.items() if name in options.files
        }  # fmt: skip
        found = latencies(who, images, options.rounds, options.each)
        for row in found.values():
            row["ratio"] = found["eager"]["p50_ms"] / row["p50_ms"]
            row["processor_ratio"] = found["eager"]["processor_p50_ms"] / row["processor_p50_ms"]
        figures["latency"] = found
        print(json.dumps(found, indent=1), flush=True)
        figures["start_up_s"] = {
            name: start_up(options.folder / f"model{suffix}", images[0], options.python, 5)
            for name, (kind, suffix, _) in FILES.items()
            if kind == "onnx" and name in options.files
        }  # fmt: skip
        print(json.dumps(figures["start_up_s"]), flush=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
