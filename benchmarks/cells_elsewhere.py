"""How well the ruler and the finder do on fields of other laboratories, whose cells a person boxed.

    python benchmarks/cells.py --redcells FOLDER --json figures.json

FOLDER holds `boxes.csv` with the columns image, cell (RBC, WBC, Platelets), x, y (centre), width and
height in pixels; the first folder of an image's name is its source.

Protocol. The true diameter of the red cells is the median of the square root of width times height
of the RBC boxes, in fields with five or more of them; where the ruler is silent, it is wrong. A find
is right if its centre lies in a WBC box; recall is the share of the WBC boxes with a find in them, and
finds a cell are all finds over all WBC boxes. Fields without white cells are made: each WBC box, a
fifth larger, is covered by the field itself, mirrored, where that holds none. Close-ups are squares
about a WBC box with a side 1.2 and 1.6 times its longer one. The images of each source are divided by
their names' hash: the numbers of the finder were chosen on the half `fit`, not on `report`.
"""

from __future__ import annotations

import csv
import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from allkit.images.cells import Cells, find_cells
from allkit.images.decode import read_image
from allkit.images.ruler import red_cell_diameter
from allkit.images.stain import Field

WITHIN = 0.25
BOXES = 5
"""Boxes of red cells from which on a field has a true diameter."""


def resize(factor: float) -> Callable[[Any], Any]:
    """Return a function that enlarges an image."""
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return lambda image: cv2.resize(image, None, fx=factor, fy=factor, interpolation=how)


def bend(power: float) -> Callable[[Any], Any]:
    """Return a function that raises the brightness of an image to a power."""
    return lambda image: (255 * (image / 255) ** power).astype(np.uint8)


def tint(*factors: float) -> Callable[[Any], Any]:
    """Return a function that multiplies the colours of an image."""
    return lambda image: (image * np.array(factors)).astype(np.uint8)


def vignette(loss: float) -> Callable[[Any], Any]:
    """Return a function that takes a share of the light from the corners of an image."""

    def darken(image: Any) -> Any:
        height, width = image.shape[:2]
        rows, columns = np.indices((height, width))
        distance = ((rows / height - 0.5) ** 2 + (columns / width - 0.5) ** 2) / 0.5
        return (image * (1 - loss * distance)[..., None]).astype(np.uint8)

    return darken


def compress(quality: int) -> Callable[[Any], Any]:
    """Return a function that stores an image as JPEG."""

    def store(image: Any) -> Any:
        return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)

    return store


CHANGES: dict[str, tuple[Callable[[Any], Any], float]] = {
    "as it is": (lambda image: image, 1.0),
    "half the size": (resize(0.5), 0.5),
    "twice the size": (resize(2.0), 2.0),
    "four times the size": (resize(4.0), 4.0),
    "paler (power 0.6)": (bend(0.6), 1.0),
    "darker (power 1.6)": (bend(1.6), 1.0),
    "yellow light": (tint(1.0, 0.85, 0.7), 1.0),
    "blue light": (tint(0.75, 0.85, 1.0), 1.0),
    "corners 30 % darker": (vignette(0.3), 1.0),
    "corners 50 % darker": (vignette(0.5), 1.0),
    "JPEG of quality 40": (compress(40), 1.0),
}
"""Changes of an image, and the factor by which they enlarge it."""


def half(image: str) -> str:
    """Return the half that an image belongs to."""
    return "report" if hashlib.sha256(image.encode()).digest()[0] % 2 else "fit"


def read_boxes(folder: Path) -> dict[str, dict[str, Any]]:
    """Return for each image the boxes of each kind, `(n, 4)`: x and y of the centre, width, height."""
    rows: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    with (folder / "boxes.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            box = [float(row[name]) for name in ("x", "y", "width", "height")]
            rows[row["image"]][row["cell"]].append(box)
    return {
        image: {kind: np.array(kinds.get(kind, [])).reshape(-1, 4) for kind in ("RBC", "WBC")}
        for image, kinds in sorted(rows.items())
    }


def corners(box: Any, larger: float, shape: Any) -> tuple[slice, slice]:
    """Return the rows and columns of a box that is made larger."""
    x, y, width, height = box
    top, left = max(0, int(y - larger * height / 2)), max(0, int(x - larger * width / 2))
    bottom, right = int(y + larger * height / 2), int(x + larger * width / 2)
    return slice(top, min(shape[0], bottom)), slice(left, min(shape[1], right))


def without_white_cells(image: Any, boxes: Any) -> Any | None:
    """Return the field with its white cells covered; `None` where its mirror images have them too."""
    image = image.copy()
    white = np.zeros(image.shape[:2], bool)
    for box in boxes:
        white[corners(box, 1.2, image.shape)] = True
    for flip in (np.s_[::-1], np.s_[:, ::-1], np.s_[::-1, ::-1]):
        covered = white & ~white[flip]
        image[covered] = image[flip][covered]
        white &= ~covered
    return None if white.any() else image


def close_ups(image: Any, boxes: Any) -> Iterator[tuple[Any, float]]:
    """Yield each white cell alone, 224 pixels a side, with the factor by which it is enlarged."""
    for box in boxes:
        side = max(box[2:])
        for margin in (1.2, 1.6):
            window = corners([*box[:2], side, side], margin, image.shape)
            crop = image[window]
            factor = 224 / max(crop.shape[:2])
            yield cv2.resize(crop, None, fx=factor, fy=factor), factor


def counts_of(cells: Cells, boxes: Any) -> tuple[int, int, int, int]:
    """Return WBC boxes, those with a find in them, finds, and those in a box."""
    places = np.array([(cell.x, cell.y) for cell in cells.cells]).reshape(-1, 1, 2)
    inside = (np.abs(places - boxes[None, :, :2]) <= boxes[None, :, 2:] / 2).all(axis=2)
    right = int(inside.any(axis=1).sum())
    return len(boxes), int(inside.any(axis=0).sum()), cells.count, right


def summary(ratios: list[float]) -> dict[str, Any]:
    """Return the share of ratios of measured to true diameter that are right, and their median."""
    ratio = np.array(ratios)
    return {
        "fields": len(ratio),
        "within 25 %": float(np.mean(np.abs(ratio - 1) <= WITHIN)),
        "silent": int((ratio == 0).sum()),
        "median ratio": float(np.median(ratio)),
    }


def measured(folder: Path, finder: str) -> dict[str, Any]:
    """Return all figures, by source and half."""
    figures: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = defaultdict(dict)
    for image, boxes in read_boxes(folder).items():
        groups[f"{image.split('/')[0]} {half(image)}"][image] = boxes
    for group, images in sorted(groups.items()):
        ratios, single, counts, empty = [], [], np.zeros(4, int), []
        nuclei, seconds = [], []
        for image, boxes in images.items():
            pixels = read_image(folder / image)
            start = time.process_time()
            cells = find_cells(pixels, finder)
            seconds.append(time.process_time() - start)
            true = float(np.median(np.sqrt(boxes["RBC"][:, 2] * boxes["RBC"][:, 3])))
            if len(boxes["RBC"]) >= BOXES:
                ratios.append((cells.red_cell or 0.0) / true)
                for crop, factor in close_ups(pixels, boxes["WBC"]):
                    single.append((find_cells(crop, finder).red_cell or 0.0) / factor / true)
            nuclei += [cells.nucleus_ratio] if cells.nucleus_ratio else []
            counts += counts_of(cells, boxes["WBC"])
            covered = without_white_cells(pixels, boxes["WBC"])
            if covered is not None:
                empty.append(find_cells(covered, finder).count)
        white, seen, finds, right = counts.tolist()
        of_single = summary(single)
        figures[group] = {
            "ruler": summary(ratios),
            "finder": {
                "white cells": white,
                "recall": seen / white,
                "precision": right / max(1, finds),
                "finds a cell": finds / white,
            },
            "without white cells": {
                "fields": len(empty),
                "false finds a field": float(np.mean(empty)) if empty else None,
            },
            "close-ups": {
                "pictures": of_single["fields"],
                "right": of_single["within 25 %"],
                "silent": of_single["silent"] / of_single["fields"],
                "wrong": 1 - of_single["within 25 %"] - of_single["silent"] / len(single),
            },
            "nucleus ratio": [float(v) for v in np.quantile(nuclei, (0, 0.05, 0.5, 0.95, 1))],
            "milliseconds": 1000 * float(np.median(seconds)),
        }
    return figures


def robustness(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what the ruler and the finder make of changed images, by change and source."""
    table: dict[str, dict[str, Any]] = {}
    reported = {image: b for image, b in read_boxes(folder).items() if half(image) == "report"}
    for name, (change, factor) in CHANGES.items():
        ratios: dict[str, list[float]] = defaultdict(list)
        counts: dict[str, Any] = defaultdict(lambda: np.zeros(4, int))
        for image, boxes in reported.items():
            source = image.split("/")[0]
            pixels = change(read_image(folder / image))
            if len(boxes["RBC"]) >= BOXES:
                true = float(np.median(np.sqrt(boxes["RBC"][:, 2] * boxes["RBC"][:, 3])))
                ratios[source].append((red_cell_diameter(Field(pixels)) or 0.0) / true / factor)
            counts[source] += counts_of(find_cells(pixels), factor * boxes["WBC"])
        table[name] = {
            source: {
                "within 25 %": summary(ratios[source])["within 25 %"],
                "median ratio": summary(ratios[source])["median ratio"],
                "recall": float(seen / white),
                "precision": float(right / max(1, finds)),
                "finds a cell": float(finds / white),
            }
            for source, (white, seen, finds, right) in sorted(counts.items())
        }
    return table
