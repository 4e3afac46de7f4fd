"""How the house stands: entries, floors, files, and how often an image is decoded.

    python benchmarks/house.py [--data taleqani/index.csv]

Counts are of the source; decodes and searches for cells are counted while drawn smears are evaluated
and trained on, without a cache. With `--data`, a training and an evaluation of every twelfth image are
timed, without a cache; run it on an otherwise idle machine with OMP_NUM_THREADS=2.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import tempfile
import time
import tomllib
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "allkit"


def shape() -> dict[str, object]:
    """Return what can be counted in the source."""
    texts = {path: path.read_text("utf-8") for path in SOURCE.rglob("*.py")}
    entries = {path.relative_to(SOURCE).parts[0] for path in texts}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    layers = next(c["layers"] for c in contracts["contracts"] if c["type"] == "layers")
    longest = max(texts, key=lambda path: texts[path].count("\n"))
    calls = [
        node
        for text in texts.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and len(node.args) > 4
    ]
    return {
        "entries": len(entries),
        "floors": len(layers),
        "files": len(texts),
        "longest_file": [
            longest.relative_to(SOURCE).as_posix(),
            texts[longest].count("\n"),
        ],
        "fmt_skip": sum(len(re.findall("# fmt: skip", text)) for text in texts.values()),
        "calls_with_over_four_positional_arguments": len(calls),
    }


def decodes(images: int) -> dict[str, dict[str, int]]:
    """Return how often images were decoded and cells looked for, by what was done."""
    import allkit
    from allkit.data import passes
    from allkit.data.drawn import write_smears
    from allkit.features import bags
    from allkit.images import cells, given

    counts = {"decoded": 0, "cells": 0}
    read, find = passes.read_image, cells.find_cells

    def counted_read(source, **named):
        counts["decoded"] += isinstance(source, bytes)
        return read(source, **named)

    def counted_find(image, finder):
        counts["cells"] += 1
        return find(image, finder)

    for module in (passes, given):
        module.read_image = counted_read
    for module in (cells, bags):
        module.find_cells = counted_find
    settings = {"backbone": "timm:test_resnet", "weights": "none", "epochs": 2, "cache": None}
    rows: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = write_smears(folder, images, groups=12, seed=3)

        def measure(name, work):
            counts.update(decoded=0, cells=0)
            result = work()
            rows[name] = dict(counts)
            return result

        for copies in (0, 2):
            trainer = allkit.Trainer(**settings, copies=copies, val=0, calibration_folds=0)
            data = allkit.Dataset.open(table)
            model = measure(f"fit, {copies} augmented copies", lambda t=trainer, d=data: t.fit(d))
        measure("evaluate", lambda: model.evaluate(allkit.Dataset.open(table)))
        measure("audit", lambda: allkit.audit(allkit.Dataset.open(table)))
        measure("split", lambda: allkit.Dataset.open(table).split())
    return rows


def seconds(table: Path, step: int) -> dict[str, object]:
    """Return how long a training and an evaluation of every `step`-th image take."""
    import allkit

    def opened():
        data = allkit.Dataset.open(table)
        return data.subset(range(0, len(data), step))

    trainer = allkit.Trainer(backbone="efficientnet-lite0", cache=None, seed=0)
    data, rest = opened(), opened()
    start = time.perf_counter()
    model = trainer.fit(data)
    middle = time.perf_counter()
    model.evaluate(rest)
    end = time.perf_counter()
    return {
        "images": len(rest),
        "fit": round(middle - start, 1),
        "evaluate": round(end - middle, 1),
        "weights": model.info.provenance.result[:12],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--data", type=Path, help="a table of real images, to be timed")
    parser.add_argument("--step", type=int, default=12)
    options = parser.parse_args()
    figures = shape() | {"images": options.images}
    if options.data is not None:  # before the counting, which costs time
        figures["seconds"] = seconds(options.data, options.step)
    print(json.dumps(figures | {"passes": decodes(options.images)}, indent=1))


if __name__ == "__main__":
    main()
