"""Processor time of `train`, `evaluate` and `predict` beside what they cannot do without.

    OMP_NUM_THREADS=1 python benchmarks/nothing_twice.py taleqani/index.csv --step 6 --out figures.json

Protocol. One process, no cache. Every `--step`-th image of a labelled set is trained on, the images
right behind them are evaluated and predicted, so that nothing of them is known. What cannot be done
without: to decode each image once (`decode`), to find its white cells where the model looks at cells
(`cells`), and to pass it through the network once, field and cells (`forward`). The first two are timed
alone; all three together are the pass that gives the features of a set and measures nothing, and what
is left of it is the third (with the choice of the engine, and the hash of each file). A ratio is the
processor time of the command, all threads together, over that of this pass; a training passes every
augmented copy as well, and its time is shared among all copies. `rest_ms` is what is left, for one
image. What a process needs once, whatever it does (to import the libraries, to read the model), is done
before and given apart (`start_s`, for a fresh process). Turns of command and pass alternate, and the
median counts, because the speed of a shared machine drifts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import allkit
from allkit.data.dataset import Dataset
from allkit.volume.inputs import find_images
from allkit.volume.run import AnsweringRun, Identity

START = "import sys; from allkit.model.classifier import Classifier; Classifier.load(sys.argv[1])"
T = TypeVar("T")
FEW = 24
"""Images on which a command is warmed up: it imports what it needs then."""


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what some work gives, and its processor time in seconds."""
    began = time.process_time()
    result = work()
    return result, time.process_time() - began


def needed_for(model: allkit.Classifier, data: Dataset) -> dict[str, float]:
    """Return the processor time of decoding, finding cells and passing through, of a set."""
    images, decode = timed(lambda: [data.read(index) for index in range(len(data))])
    cells = timed(lambda: model.find(images))[1]
    all_three = timed(lambda: model.features(data))[1]
    return {"decode": decode, "cells": cells, "forward": all_three - decode - cells}


def answered(model: allkit.Classifier, folder: Path, out: Path) -> None:
    """Answer for a folder of images into a table, as `allkit predict` does."""
    images, _ = find_images([str(folder)])
    known = Identity(
        model="m",
        classes=model.classes,
        shard="1/1",
        count=len(images),
        images=images.fingerprint(),
    )
    with AnsweringRun(out, known) as run:
        for _ in run.write(model.stream(images)):
            pass
        run.finish()


def started(model: Path) -> float:
    """Return the processor time in which a fresh process is ready to answer."""
    before = _children()
    subprocess.run([sys.executable, "-c", START, str(model)], check=True)
    return _children() - before


def _children() -> float:
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measured(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    data = Dataset.open(options.data)
    learnt = range(0, len(data), options.step)
    rows = range(options.step // 2, len(data), options.step)
    folder = work / "images"
    folder.mkdir()
    for number, row in enumerate(rows):
        sample = data.samples[row]
        (folder / f"{number:06d}{Path(sample.image).suffix}").write_bytes(sample.source.read())
    settings: dict[str, Any] = {"backbone": options.backbone, "cache": None, "seed": 0}
    settings |= {"weights": options.weights} if options.weights else {}

    def fit(chosen: Sequence[int]) -> allkit.Classifier:
        return allkit.Trainer(**settings).fit(Dataset.open(options.data).subset(chosen))

    warm = fit(learnt[:: max(1, len(learnt) // FEW)])
    warm.evaluate(data.subset(rows[:FEW]))
    model = fit(learnt)
    copies = model.info.config.copies
    needed: list[dict[str, float]] = []
    commands: list[dict[str, float]] = []
    for turn in range(options.turns):
        needed.append(needed_for(model, Dataset.open(options.data).subset(rows)))
        fresh = Dataset.open(options.data).subset(rows)
        out = work / f"{turn}.parquet"
        commands.append(
            {
                "evaluate": timed(partial(model.evaluate, fresh))[1],
                "predict": timed(partial(answered, model, folder, out))[1],
                "train": timed(partial(fit, learnt))[1] / (1 + copies),
            }
        )
    model.save(work / "model")
    sums = [sum(turn.values()) for turn in needed]
    count = len(rows)
    of_command = {name: [turn[name] for turn in commands] for name in commands[0]}
    each = of_command | {name: [turn[name] for turn in needed] for name in needed[0]}
    return {
        "images": count,
        "learnt": len(learnt),
        "backbone": options.backbone,
        "bag": model.spec.bag,
        "copies": copies,
        "ms_an_image": {name: per_image(times, count) for name, times in each.items()},
        "rest_ms": {
            name: per_image([c - n for c, n in zip(times, sums, strict=True)], count)
            for name, times in of_command.items()
        },
        "ratio": {
            name: round(statistics.median(c / n for c, n in zip(times, sums, strict=True)), 3)
            for name, times in of_command.items()
        },
        "start_s": round(started(work / "model"), 2),
    }


def per_image(times: Sequence[float], count: int) -> float:
    """Return the median of some times in milliseconds for each of `count` images."""
    return round(statistics.median(times) / count * 1000, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="a labelled set, as for allkit train")
    parser.add_argument("--step", type=int, default=6, help="every which image")
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--weights", help="file or name of the weights")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figures = measured(options, Path(folder))
    text = json.dumps(figures, indent=1) + "\n"
    sys.stdout.write(text)
    if options.out is not None:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
