"""How long a change waits for its answer: the suite, its parts, and one small training.

    python benchmarks/suite.py --json figures.json            what a tiny training costs
    python benchmarks/suite.py --targets fast test check      and what these `make` targets take

Protocol. *Training*: 24 of 48 drawn smears, the timm network `test_resnet` with random weights, whole
fields in colour, eight epochs of a head, no cache; one thread; the median of five in one process, after
one that loads what is loaded once. *Targets*: by the clock, on a machine with nothing else to do, after
the installation; each twice. *Tests*: as pytest collects them for `make test` and for `make nightly`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

SETTINGS = {
    "backbone": "timm:test_resnet", "weights": "none", "epochs": 8, "cache": None,
    "calibration_folds": 0, "view": "rgb", "bag": "field", "class_weights": False,
    "head_decay": 1e-2,
}  # fmt: skip


def training_seconds(repeats: int = 5) -> float:
    """Return the processor seconds of one tiny training, the median of `repeats`."""
    import torch

    import allkit
    from allkit.data.drawn import write_smears

    torch.set_num_threads(1)
    found = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = write_smears(Path(folder), 48, groups=12, seed=3)
        for _ in range(1 + repeats):
            data = allkit.Dataset.open(table)  # anew: what a set has found out it keeps
            train = data.split(test=0.34, seed=0).train
            start = time.process_time()
            allkit.Trainer(**SETTINGS).fit(train)
            found.append(time.process_time() - start)
    return statistics.median(found[1:])


def collected(marks: str) -> int:
    """Return how many tests pytest finds for an expression of marks."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", marks]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"^(\d+)(?:/\d+)? tests? collected", told, re.MULTILINE)
    if found is None:
        raise SystemExit(told[-2000:])
    return int(found[1])


def target_seconds(target: str) -> float:
    """Return the seconds by the clock of one `make` target."""
    start = time.monotonic()
    subprocess.run(["make", target], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", nargs="*", default=[])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures: dict[str, object] = {
        "cores": len(os.sched_getaffinity(0)),
        "training_processor_seconds": round(training_seconds(), 2),
        "tests": {name: collected(marks) for name, marks in [
            ("fast", "not slow and not nightly"), ("test", "not nightly"), ("nightly", "nightly"),
        ]},
        "seconds": {t: [round(target_seconds(t)) for _ in range(2)] for t in options.targets},
    }  # fmt: skip
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
