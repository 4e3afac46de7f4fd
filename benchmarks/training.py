"""Accuracy, time and memory of training a head, on a table of real images.

    python benchmarks/training.py --data index.csv --weights vgg16.safetensors --out figures.json

Protocol. *Accuracy*: `allkit train --folds 5` by group, pooled over the folds, for seeds 0, 1, 2;
no image, group or byte-identical twin is on two sides, nothing is chosen on the held-out part.
*Time*: one fifth of the groups for testing; `allkit train` on the rest and `allkit evaluate` on
the fifth, each a process of its own, with an empty feature cache, then `allkit train` again with
the features in it. *Memory*: the largest resident set of each process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def timed(*arguments: str, cache: Path) -> dict[str, float]:
    """Run one command; return its seconds and its peak memory in megabytes."""
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "allkit", *arguments], env=os.environ | {"ALLKIT_CACHE": str(cache)}
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{arguments} failed")
    return {"seconds": time.monotonic() - start, "peak_mb": usage.ru_maxrss / 1024}


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", help="for vgg16; without it vgg16 is left out")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--backbones", nargs="*", default=["efficientnet-lite0", "vgg16"])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    figures: dict[str, object] = {"cores": len(os.sched_getaffinity(0))}
    for backbone in options.backbones:
        if backbone == "vgg16" and not options.weights:
            continue
        extra = ["--backbone", backbone]
        extra += ["--weights", options.weights] if backbone == "vgg16" else []
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            cold = work / "cold"
            split = str(work / "split.csv")
            timed("split", options.data, "--out", split, "--test", "0.2", cache=cold)
            model = str(work / "model")
            result: dict[str, object] = {
                "train_cold": timed("train", split, "--out", model, *extra, cache=cold),
                "evaluate_cold": timed(
                    "evaluate", model, split, "--json", str(work / "test.json"), cache=cold
                ),
                "train_warm": timed("train", split, "--out", model + "2", *extra, cache=cold),
            }
            result["test_accuracy"] = json.loads((work / "test.json").read_text())["accuracy"]
            runs = []
            for seed in options.seeds:
                out = work / f"folds{seed}"
                timed(
                    "train", options.data, "--out", str(out), "--folds", "5", "--seed", str(seed),
                    *extra, cache=cold,
                )  # fmt: skip
                runs.append(json.loads((out / "model.json").read_text())["validation"])
            result["accuracy"] = [run["accuracy"] for run in runs]
            result["balanced_accuracy"] = [run["balanced_accuracy"] for run in runs]
            result["intervals"] = [run["intervals"]["accuracy"] for run in runs]
            result["mean_accuracy"] = statistics.mean(run["accuracy"] for run in runs)
            figures[backbone] = result
            options.out.write_text(json.dumps(figures, indent=1) + "\n")
            print(backbone, json.dumps(result, indent=1), flush=True)


if __name__ == "__main__":
    main()
