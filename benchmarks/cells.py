"""How well the finder of white cells finds what a person marked, and what it costs.

    python benchmarks/cells.py --data FOLDER --labels tests/labels/cells.csv --json figures.json
    python benchmarks/cells.py --redcells FOLDER --json figures.json

The second form measures the ruler and the finder on fields of other laboratories
(`cells_elsewhere.py` says how).

Protocol: labels and the rule of matching are described in tests/labels/README.md. A find within 12
pixels of a mark is that cell, one to one, the nearest pairs first; finds within 12 pixels of a mark
that is uncertain count neither way. Series of the part `tune` may be looked at while the finder is
changed, those of `test` may not. Time: of one core, image in memory to places, median over the
fields.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cells_elsewhere import measured, robustness

from allkit.images.cells import FINDER, find_cells
from allkit.images.decode import read_image

RADIUS = 12


def matched(found: Any, cells: Any, uncertain: Any) -> tuple[int, int, int]:
    """Return hits, misses and false finds of one field; places are `(n, 2)`."""
    distance = np.linalg.norm(found[:, None] - cells[None], axis=2)
    finds: set[int] = set()
    marks: set[int] = set()
    for place in np.argsort(distance, axis=None):
        i, j = np.unravel_index(place, distance.shape)
        if distance[i, j] <= RADIUS and i not in finds and j not in marks:
            finds.add(int(i))
            marks.add(int(j))
    near = np.linalg.norm(found[:, None] - uncertain[None], axis=2) <= RADIUS
    false = sum(i not in finds and not near[i].any() for i in range(len(found)))
    return len(marks), len(cells) - len(marks), false


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path)
    source.add_argument("--redcells", type=Path)
    parser.add_argument("--finder", default=FINDER)
    parser.add_argument("--labels", type=Path, default=Path("tests/labels/cells.csv"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.redcells:
        figures = measured(options.redcells, options.finder)
        figures["robustness (report)"] = robustness(options.redcells)
    else:
        figures = by_marks(options.data, options.labels, options.finder)
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def by_marks(folder: Path, labels: Path, finder: str) -> dict[str, Any]:
    """Return the figures on the fields whose white cells a person marked."""
    fields: dict[str, list[dict[str, str]]] = defaultdict(list)
    with labels.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            fields[row["image"]].append(row)
    counts: dict[str, Any] = defaultdict(lambda: np.zeros(3, int))
    seconds = []
    for image, rows in fields.items():
        pixels = read_image(folder / image)
        start = time.process_time()
        places = find_cells(pixels, finder).cells
        seconds.append(time.process_time() - start)
        found = np.array([(place.x, place.y) for place in places]).reshape(-1, 2)
        kinds = {
            kind: np.array(
                [(float(r["x"]), float(r["y"])) for r in rows if r["kind"] == kind]
            ).reshape(-1, 2)
            for kind in ("cell", "uncertain")
        }
        one = np.array(matched(found, kinds["cell"], kinds["uncertain"]))
        for key in (rows[0]["part"], f"{rows[0]['part']} {rows[0]['series']}"):
            counts[key] += one
    figures: dict[str, Any] = {
        name: {
            "cells": int(hits + misses), "recall": hits / (hits + misses),
            "precision": hits / (hits + false), "misses": int(misses), "false": int(false),
        }
        for name, (hits, misses, false) in sorted(counts.items())
    }  # fmt: skip
    figures["milliseconds"] = 1000 * float(np.median(seconds))
    return figures


if __name__ == "__main__":
    main()
