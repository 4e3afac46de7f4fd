"""What single cells cost, and what they are worth: one form of them at a time.

    python benchmarks/cell_forms.py --data index.csv --backbone efficientnet-lite0 --keep FOLDER \
        --out forms.json

Every field and one augmented copy of it go through the backbone as `allkit train` does it; beside the
field stand its cells in one of the forms:

`crop S`: a picture of S pixels a side of each cell, at most 24 (`crop S, K`: the K largest;
`crop S, K spread`: K of them, from the largest to the smallest). `crop 96` was the default until
decision 32. `map I`: no picture; the activations of the field itself after
stage I are cut about each cell (8 × 8 points) and go through the rest of the network. `pooled I`:
the activations of the field after stage I, averaged about each cell, without the rest of the network.
`with BACKBONE S`: crops through another, smaller backbone. `none`: the field alone.

Figures are those of the head alone (the default's logistic regression), no limits: `right` is the
share of fields whose coarse answer is right on slides left out (mean of benign and malignant, slides
alike), `inner` the same on slides left out beside the one that is reported (`nested_choice.py`:
what a choice may look at), `pairs` benign against malignant for every pair left out, mean and worst,
and `known` accuracy on five folds by group. `seconds.json` in the folder that `--keep` names has the
processor time of each step in batches of 16, in seconds for all images.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from left_out import without

import allkit
from allkit.config import TrainConfig
from allkit.features import AugmentedCopy
from allkit.images.bags import Bags, bags
from allkit.images.cells import FINDER, find_cells
from allkit.images.selection import Selection
from allkit.network.modules import FIELD_SHARE, Head
from allkit.network.standardise import Standardise
from allkit.records import CELL_SPAN
from allkit.training import logistic
from allkit.training.backbone import load_backbone
from allkit.training.sources import FeatureSource

CPU = torch.device("cpu")
BATCH = 16
POINTS = 8
"""Points a side of what is cut from a map."""


# ── features ────────────────────────────────────────────────────────────────────────────────────


class Timed:
    """Adds up processor time by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start


def settings(options: argparse.Namespace, name: str) -> Any:
    weights = options.weights if name == options.backbone else "default"
    return load_backbone(TrainConfig(backbone=name, weights=weights), CPU)


def network(backbone: Any) -> Any:
    return backbone.module.eval().requires_grad_(False).to(memory_format=torch.channels_last)


class Forms:
    """Every form of the cells of a bag through the backbone, or through a smaller one."""

    def __init__(self, options: argparse.Namespace, forms: Sequence[str]) -> None:
        self.forms = forms
        self.backbone = settings(options, options.backbone)
        self.module, self.spec = network(self.backbone), self.backbone.input
        small = {form.split()[1] for form in forms if form.startswith("with")}
        self.others = {name: settings(options, name) for name in small}
        self.nets = {name: network(other) for name, other in self.others.items()}
        self.cut = Standardise(self.spec)
        self.timed = Timed()

    def field(self, bag: Bags) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the backbone is given of the fields of a bag, and what it makes of them."""
        with self.timed("standardise"):
            whole = self.cut(torch.from_numpy(bag.pixels))
        with self.timed("field"):
            return whole, self.module(whole)

    def of_cells(self, form: str, bag: Bags, whole: torch.Tensor) -> torch.Tensor:
        """Return the rows `(M, D)` of the cells of a bag in one form."""
        kind, *rest = form.split()
        if kind in ("crop", "with"):
            name, size = (rest[0], int(rest[1])) if kind == "with" else ("", int(rest[0]))
            spec = self.others[name].input if name else self.spec
            standard = Standardise(replace(spec, cell_size=size))
            with self.timed(form):
                places = torch.from_numpy(bag.places)
                pictures = standard.cells(torch.from_numpy(bag.pixels), places)
                return _through(self.nets[name] if name else self.module, pictures)
        at = int(rest[0])
        with self.timed(f"trunk {at}"):  # the pass of the field has them anyway
            maps = self.module[:at](whole)
        with self.timed(form):
            windows = _windows(maps, bag)
            return windows.mean((2, 3)) if kind == "pooled" else _through(self.module[at:], windows)


@torch.inference_mode()
def rows_of(options: argparse.Namespace, data: Any, forms: list[str], copy: int) -> dict[str, Any]:
    """Return what each form gives: rows of single cells, largest first, and the field's own."""
    passes = Forms(options, forms)
    copies = passes.backbone.copy(copy)
    blocks: dict[str, list[Any]] = {name: [] for name in ("order", "owners", "field", *forms)}
    for start in range(0, len(data), BATCH):
        indices = range(start, min(start + BATCH, len(data)))
        images = [_pixels(data, index, copies) for index in indices]
        with passes.timed("find"):
            fields = [find_cells(image, FINDER) for image in images]
        for bag in bags(fields, Selection()):
            inside = bag.owners >= 0
            blocks["owners"].append(start + bag.owners[inside])
            blocks["order"].append(start + np.array(bag.indices))
            whole, rows = passes.field(bag)
            blocks["field"].append(rows.numpy())
            for form in forms:
                blocks[form].append(passes.of_cells(form, bag, whole).numpy()[inside])
    joined = {name: np.concatenate(parts) for name, parts in blocks.items()}
    # Bags come in groups by shape: bring fields and cells back into order.
    order, by = np.argsort(joined.pop("order")), np.argsort(joined["owners"], kind="stable")
    return {name: rows[order if name == "field" else by] for name, rows in joined.items()} | {
        "seconds": np.array(json.dumps(passes.timed.seconds))
    }


def _pixels(data: Any, index: int, copy: AugmentedCopy | None) -> Any:
    pixels = data.read(index)
    if copy is None:
        return pixels
    return copy.of(type("F", (), {"pixels": pixels, "sha256": data.hashes[index]})())


def _through(module: Any, inputs: torch.Tensor) -> torch.Tensor:
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    return torch.cat([module(inputs[at : at + 64]) for at in range(0, len(inputs), 64)])


def _windows(maps: torch.Tensor, bag: Bags) -> torch.Tensor:
    """Return `(M, C, POINTS, POINTS)` of the maps about each cell."""
    height, width = bag.pixels.shape[1:3]
    places = torch.from_numpy(bag.places)
    offsets = ((torch.arange(POINTS) + 0.5) / POINTS - 0.5) * CELL_SPAN
    x = (places[:, 1, None] + offsets) / width * 2 - 1
    y = (places[:, 2, None] + offsets) / height * 2 - 1
    grid = torch.stack(
        [x[:, None, :].expand(-1, POINTS, -1), y[:, :, None].expand(-1, -1, POINTS)], dim=-1
    )
    owner = places[:, 0].clamp(min=0).long()
    return torch.nn.functional.grid_sample(
        maps[owner], grid, align_corners=False, padding_mode="border"
    )


def kept(options: argparse.Namespace, data: Any, forms: list[str], copy: int) -> dict[str, Any]:
    """Return `rows_of`, from the folder where they were kept before."""
    base = options.keep / f"{options.backbone}-{copy}"
    base.mkdir(parents=True, exist_ok=True)
    lacking = [form for form in forms if not (base / f"{form}.npy").exists()]
    if lacking or not (base / "field.npy").exists():
        fresh = rows_of(options, data, lacking, copy)
        seconds = json.loads(str(fresh.pop("seconds")))
        told = base / "seconds.json"
        before = json.loads(told.read_text()) if told.exists() else {}
        told.write_text(json.dumps(seconds | before if before else seconds))
        for name, rows in fresh.items():
            np.save(base / f"{name}.npy", rows)
    found = {name: np.load(base / f"{name}.npy") for name in ("field", "owners", *forms)}
    return found


# ── what they are worth ─────────────────────────────────────────────────────────────────────────


def pooled(view: dict[str, Any], form: str, most: int, *, spread: bool) -> np.ndarray:
    """Return the mean over `most` cells of each field, `(N, D)`, zeros without a cell.

    The largest ones, or, `spread`, as many evenly over all 24, from the largest to the smallest.
    """
    rows, owners = view[form], view["owners"]
    counts = np.bincount(owners, minlength=len(view["field"]))
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    chosen = []
    for start, count in zip(first, counts, strict=True):
        number = min(most, count)
        steps = np.arange(number)
        chosen.append(start + (((steps + 0.5) * count / number).astype(int) if spread else steps))
    few = np.concatenate(chosen).astype(int)
    total = np.zeros((len(view["field"]), rows.shape[1]), np.float32)
    np.add.at(total, owners[few], rows[few])
    number = np.bincount(owners[few], minlength=len(total)).clip(1)
    return total / number[:, None].astype(np.float32)


def views_of(views: list[dict[str, Any]], form: str) -> list[np.ndarray]:
    """Return the features of the images and of their copies, field and cells side by side."""
    if form == "none":
        return [view["field"] for view in views]
    name, _, few = form.partition(", ")
    number, spread = int(few.split()[0]) if few else 24, few.endswith("spread")
    return [
        np.concatenate([view["field"], pooled(view, name, number, spread=spread)], axis=1)
        for view in views
    ]


def fitted(
    config: TrainConfig,
    views: list[np.ndarray],
    labels: np.ndarray,
    learn: np.ndarray,
    *,
    field: int,
) -> Head:
    """Return a head of the images `learn`; the first `field` features are those of the field."""
    width = views[0].shape[1]
    head = Head(width, int(labels.max()) + 1)
    head.fit_scale([torch.from_numpy(view[learn]) for view in views], "field")
    if field < width:
        head.scale[:field] *= FIELD_SHARE
    source = FeatureSource(views, CPU, np.arange(len(labels)))
    logistic.LogisticHead(
        config, head, source, learn, np.empty(0, np.int64), torch.from_numpy(labels)
    ).fit()
    return head.eval()


@torch.no_grad()
def probabilities(head: Head, rows: np.ndarray) -> np.ndarray:
    return torch.softmax(head(torch.from_numpy(rows)), 1).numpy()


def figures_of(
    config: TrainConfig, data: Any, views: list[np.ndarray], *, field: int, benign: str
) -> dict[str, Any]:
    labels, slide = data.labels, np.array(data.column("slide"))
    slides = sorted(set(slide))
    benign_label = data.classes.index(benign)
    malignant = labels != benign_label
    side = {name: bool(malignant[slide == name][0]) for name in slides}
    position = {sample.image: row for row, sample in enumerate(data)}

    def without_slides(names: Sequence[str]) -> np.ndarray:
        part = without(data, names).train
        return np.array([position[sample.image] for sample in part])

    def hits(names: Sequence[str]) -> dict[str, float]:
        """Return the share of each slide whose coarse answer is right, all of them left out."""
        head = fitted(config, views, labels, without_slides(names), field=field)
        said = {
            name: probabilities(head, views[0][slide == name])[:, benign_label] < 0.5
            for name in names
        }
        return {name: float((said[name] == side[name]).mean()) for name in names}

    alone = {name: hits([name])[name] for name in slides}
    both: dict[tuple[str, str], dict[str, float]] = {}
    for pair in combinations(slides, 2):
        rest = [s for s in slides if s not in pair]
        if len({side[s] for s in rest}) == 2:
            both[pair] = hits(list(pair))
    inner = []
    for outer in slides:
        sides: dict[bool, list[float]] = {True: [], False: []}
        for pair, found in both.items():
            if outer in pair:
                other = pair[0] if pair[1] == outer else pair[1]
                sides[side[other]].append(found[other])
        inner.append(mean([mean(v) for v in sides.values() if v]))
    mixed = [mean(found.values()) for pair, found in both.items() if side[pair[0]] != side[pair[1]]]
    known = np.zeros(len(labels), bool)
    for split in data.folds(5, seed=0):
        learn = np.array([position[s.image] for s in split.train])
        test = np.array([position[s.image] for s in split.test])
        head = fitted(config, views, labels, learn, field=field)
        known[test] = probabilities(head, views[0][test]).argmax(1) == labels[test]
    return {
        "right": mean(
            [mean([alone[s] for s in slides if side[s] is kind]) for kind in (True, False)]
        ),
        "right of each": {s: round(v, 4) for s, v in alone.items()},
        "inner": mean(inner),
        "inner of each": [round(v, 4) for v in inner],
        "pairs": mean(mixed),
        "worst": min(mixed),
        "known": float(known.mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--benign", default="Benign")
    parser.add_argument("--forms", nargs="+", required=True)
    parser.add_argument("--copies", type=int, nargs="+", default=[1])
    parser.add_argument("--keep", type=Path, required=True, help="folder for features")
    parser.add_argument("--features-of", type=int, help="copy whose features are kept, no figures")
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    logistic.TOLERANCE = 1e-4  # logits right to 0.1 are enough to compare forms
    data = allkit.Dataset.open(options.data)
    if options.step > 1:
        data = data.subset(range(0, len(data), options.step))
    bases = sorted({form.partition(", ")[0] for form in options.forms} - {"none"})
    if options.features_of is not None:
        kept(options, data, bases, options.features_of)
        return
    views = [kept(options, data, bases, copy) for copy in range(max(options.copies) + 1)]
    width = views[0]["field"].shape[1]
    config = TrainConfig(backbone=options.backbone)
    told = json.loads(options.out.read_text()) if options.out.exists() else {}
    for copies in options.copies:
        for form in options.forms:
            of_form = views_of(views[: copies + 1], form)
            row = figures_of(config, data, of_form, field=width, benign=options.benign)
            told[f"{form}; {copies} copies"] = row
            print(form, copies, json.dumps(row), flush=True)
            options.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
