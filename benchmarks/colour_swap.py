"""How many answers change when an image is given the stain of another series?

    python benchmarks/colour_swap.py --data index.csv --column series --out figures.json

Protocol. Five folds by group; every image is answered by the model of its fold, which was trained on
none of its group, and once more after a change of stain: that of another value of the column, drawn
with a fixed seed. Share of the images whose label changes, with the 95 % interval of a bootstrap over
groups; share that takes the class of the series whose stain it was given; accuracy before and after.
*Control*: the same way there and back to the image's own series.

The stain of a series is three colours, as optical densities: of its background, its nuclei and its red
cells (medians over 40 of its images). The change is the affine map of densities that takes the first to
that of the other series, and the other two as near to theirs as a ridge regression towards no change
lets it: where nuclei and red cells differ in strength only, an exact map would blow up noise.
"""

from __future__ import annotations

import argparse
import io
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

import allkit
from allkit.config import TrainConfig
from allkit.data.sources import BytesSource
from allkit.evaluation.result import bootstrap
from allkit.evaluation.shortcuts import background_of
from allkit.features import FeatureCache
from allkit.images.statistics import cell_mask

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating[Any]]
STILL = 0.02  # how strongly colours stay that neither nuclei nor red cells speak for
FEWEST = 50  # pixels below which a colour is not read from an image


class Stain(NamedTuple):
    """Optical density of the background `(3,)`, and what nuclei and red cells add to it `(2, 3)`."""

    light: Floats
    cells: Floats


def density(image: Pixels) -> Floats:
    return -np.log((image.astype(np.float64) + 1) / 256)


def stain_of(images: list[Pixels]) -> Stain:
    """Return the stain of a series: medians, over its images, of what each shows."""
    found: list[list[Floats]] = [[], [], []]
    for image in images:
        nuclei, clear = cell_mask(image), background_of(image)
        seen = density(image)
        for values, mask in zip(found, (clear, nuclei, ~clear & ~nuclei), strict=True):
            if mask.sum() >= FEWEST:
                values.append(np.median(seen[mask], axis=0))
    light, nucleus, red = (np.median(values, axis=0) for values in found)
    return Stain(light, np.stack([nucleus - light, red - light]))


def swapped(image: Pixels, own: Stain, other: Stain) -> Pixels:
    """Return the image with another stain."""
    square, still = own.cells.T @ own.cells, STILL * np.eye(3)
    change = np.linalg.solve(square + still, own.cells.T @ other.cells + still)
    result = 256 * np.exp(-((density(image) - own.light) @ change + other.light)) - 1
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def as_png(image: Pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def given(
    data: allkit.Dataset, stains: dict[str, Stain], column: str, to: list[str]
) -> allkit.Dataset:
    """Return the set with the stain of series `to[i]` on image i."""
    own = data.column(column)
    files = data.each(lambda i: as_png(swapped(data.read(i), stains[str(own[i])], stains[to[i]])))
    samples = [replace(s, source=BytesSource(f)) for s, f in zip(data, files, strict=True)]
    return allkit.Dataset(samples, data.classes, name=data.name)


def share(hits: npt.NDArray[np.bool_], units: npt.NDArray[np.int64]) -> list[float]:
    """Return a share and its interval over groups."""
    low, high = bootstrap(lambda w: {"share": (w @ hits) / w.sum(axis=1)}, len(hits), units, 0)[
        "share"
    ]
    return [float(hits.mean()), low, high]


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--column", default="series")
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--views", nargs="+", default=["haematoxylin", "rgb"])
    parser.add_argument("--pictures", type=Path, help="a .png of some images to look at")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    data, cache, rng = allkit.Dataset.open(options.data), FeatureCache(), np.random.default_rng(0)
    own = [str(value) for value in data.column(options.column)]
    names = sorted(set(own))
    stains, classes = {}, {}
    for name in names:
        rows = [i for i, value in enumerate(own) if value == name]
        classes[name] = data.samples[rows[0]].label
        few = rng.choice(rows, min(len(rows), 40), replace=False)
        stains[name] = stain_of([data.read(int(i)) for i in few])
    to = [str(rng.choice([n for n in names if n != value])) for value in own]
    sets = {
        "swapped": given(data, stains, options.column, to),
        "control": given(data, stains, options.column, own),
    }
    if options.pictures:
        show(data, sets, own, to, options.pictures)
    figures: dict[str, Any] = {"backbone": options.backbone, "images": len(data)}
    for view in options.views:
        config = TrainConfig(
            backbone=options.backbone, weights=options.weights, view=view, calibration_folds=0
        )
        said = {kind: np.full(len(data), -1) for kind in ("as it is", *sets)}
        for split in data.folds(5, seed=0):
            model = allkit.Trainer(config, cache=cache).fit(split.train)
            held = [i for i, s in enumerate(split.whole) if s.part == "test"]
            for kind, images in (("as it is", data), *sets.items()):
                table = model.judge(images.subset(held), cache=cache).probabilities
                said[kind][held] = table.argmax(axis=1)
        truth, units = data.labels, data.units
        target = np.array([data.classes.index(classes[name]) for name in to])
        changed = said["swapped"] != said["as it is"]
        figures[view] = {
            "changed": share(changed, units),
            "took the class of the stain": share(
                changed & (said["swapped"] == target) & (target != truth), units
            ),
            "changed by the control": share(said["control"] != said["as it is"], units),
            "accuracy": {kind: float((labels == truth).mean()) for kind, labels in said.items()},
            "changed by series": {
                name: float(changed[[i for i, v in enumerate(own) if v == name]].mean())
                for name in names
            },
            "changed by stain given": {
                name: float(changed[[i for i, v in enumerate(to) if v == name]].mean())
                for name in names
            },
        }
        print(view, json.dumps(figures[view], indent=1), flush=True)
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


def show(
    data: allkit.Dataset, sets: dict[str, allkit.Dataset], own: list[str], to: list[str], out: Path
) -> None:
    """Draw one image of each series: as it is, with another stain, there and back."""
    rows = [own.index(name) for name in sorted(set(own))]
    strips = [
        np.concatenate([data.read(i), sets["swapped"].read(i), sets["control"].read(i)], axis=0)
        for i in rows
    ]
    Image.fromarray(np.concatenate(strips, axis=1)).save(out)
    for i in rows:
        print(own[i], "→", to[i])


if __name__ == "__main__":
    main()
