"""Time and accuracy of the strategies of training, against the usual loop.

    python benchmarks/strategies.py --data index.csv --weights vgg16.safetensors --out figures.json

Protocol. *The usual loop*: torchvision-style code, VGG16's convolutions frozen, averaged, a linear
layer, Adam at 1e-3, every image through the network in every one of ten epochs, batch 32; written
below, without allkit. A few batches are timed, after one to warm up, and the time of ten epochs is
stated from them; so is the variant in bfloat16 and channels_last. Its accuracy is measured by
training its linear layer on features that are computed once: for a frozen network without
augmentation that is the same computation. *allkit*: `Trainer` with its defaults and an empty cache,
one process, from decoding to the trained model. Test: groups that neither saw, three divisions.
*last*: the fastest epoch with activations kept (of three), and without (of two). *Loader*: seconds
that an epoch waited for its images (`loading.py` measures decoding alone, `memory.py` the memory).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import allkit
from allkit.features import FeatureCache

BATCH, EPOCHS = 32, 10


class Figures:
    """Takes the lines of the log."""

    def __init__(self) -> None:
        self.lines: list[dict] = []

    def log(self, values) -> None:
        self.lines.append(dict(values))

    def phase(self, name: str) -> list[dict]:
        return [line for line in self.lines if line["phase"] == name]


# ── the usual loop ────────────────────────────────────────────────────────────────────────────


class Usual(nn.Module):
    def __init__(self, weights: Path, classes: int) -> None:
        super().__init__()
        import timm
        from safetensors.torch import load_file

        model = timm.create_model("vgg16", pretrained=False)
        model.load_state_dict(load_file(weights), strict=False)
        self.features = model.features.eval().requires_grad_(False)
        self.classifier = nn.Linear(512, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images).mean(dim=(2, 3)))


def usual_batch(paths: list[Path]) -> torch.Tensor:
    from PIL import Image

    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    images = []
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("RGB").resize((224, 224))) / 255.0
        images.append(torch.from_numpy(((pixels - mean) / std).transpose(2, 0, 1)).float())
    return torch.stack(images)


def usual_seconds(
    weights: Path, data: allkit.Dataset, paths: list[Path], *, quick: bool, batches: int
) -> float:
    """Return the seconds for one image in one epoch."""
    model = Usual(weights, len(data.classes))
    if quick:
        model = model.to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(model.classifier.parameters(), lr=1e-3)
    labels = torch.from_numpy(data.labels)
    times = []
    for number in range(batches + 1):
        start = time.perf_counter()
        rows = slice(number * BATCH, (number + 1) * BATCH)
        images = usual_batch(paths[rows])
        if quick:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=quick):
            loss = nn.functional.cross_entropy(model(images).float(), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        times.append((time.perf_counter() - start) / BATCH)
    return statistics.median(times[1:])


def usual_accuracy(
    train: np.ndarray, train_labels, test: np.ndarray, test_labels, seed: int
) -> float:
    """Train the usual loop's linear layer on block 5's means; return its test accuracy."""
    torch.manual_seed(seed)
    layer = nn.Linear(512, int(train_labels.max()) + 1)
    optimiser = torch.optim.Adam(layer.parameters(), lr=1e-3)
    features, labels = torch.from_numpy(train), torch.from_numpy(train_labels)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(features)).split(BATCH):
            loss = nn.functional.cross_entropy(layer(features[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        answers = layer(torch.from_numpy(test)).argmax(1).numpy()
    return float((answers == test_labels).mean())


# ── what is measured ──────────────────────────────────────────────────────────────────────────


def time_figures(data: allkit.Dataset, weights: Path, folder: Path, count: int) -> dict:
    """Compare the seconds of a training on `count` images with the usual loop's."""
    some = data.subset(np.random.default_rng(0).permutation(len(data))[:count])
    paths = [sample.source.path for sample in some]
    plain = usual_seconds(weights, some, paths, quick=False, batches=3)
    quick = usual_seconds(weights, some, paths, quick=True, batches=3)
    result = {
        "images": count,
        "usual_ms_an_image": plain * 1e3,
        "usual_bf16_ms_an_image": quick * 1e3,
    }
    for name, more in {
        "standard": {}, "quick": {"copies": 0}, "standard, torch": {"engine": "torch"},
    }.items():  # fmt: skip
        cache = FeatureCache(folder / f"cache-{name}")
        trainer = allkit.Trainer(
            backbone="vgg16", weights=str(weights), cache=cache, val=0.0, **more
        )
        start = time.perf_counter()
        model = trainer.fit(some)
        seconds = time.perf_counter() - start
        result[name] = {
            "seconds": seconds,
            "engine": model.info.provenance.engine[0],
            "share_of_usual": seconds / (plain * EPOCHS * count),
            "share_of_usual_bf16": seconds / (quick * EPOCHS * count),
        }
    return result


def accuracy_figures(data: allkit.Dataset, weights: Path) -> dict:
    """Compare the test accuracy on groups that neither saw, for three divisions."""
    ours, theirs = [], []
    for seed in range(3):
        split = data.split(test=0.2, seed=seed)
        model = allkit.Trainer(backbone="vgg16", weights=str(weights), seed=seed).fit(split.train)
        ours.append(model.evaluate(split.test, cache=FeatureCache()).accuracy)
        extract = model._extractor
        extract.cache = FeatureCache()
        train, test = (extract.extract(part)[:, 512:] for part in (split.train, split.test))
        theirs.append(usual_accuracy(train, split.train.labels, test, split.test.labels, seed))
    return {
        "allkit": ours,
        "usual": theirs,
        "mean": statistics.mean(ours),
        "usual_mean": statistics.mean(theirs),
    }


def last_figures(data: allkit.Dataset, weights: Path, folder: Path, count: int) -> dict:
    """Compare epochs of `last` with and without the activations kept."""
    some = data.subset(np.random.default_rng(0).permutation(len(data))[:count])
    result: dict = {"images": count}
    for name, cache, engine in [
        ("kept", FeatureCache(folder / "last"), "torch"), ("not kept", None, "torch"),
        ("not kept, fastest engine", None, "auto"),
    ]:  # fmt: skip
        figures = Figures()
        allkit.Trainer(
            backbone="vgg16", weights=str(weights), cache=cache, engine=engine, val=0.0, epochs=1,
            strategy="last", finetune_epochs=3 if cache else 2, recorder=figures,
        ).fit(some)  # fmt: skip
        lines = figures.phase("last")
        best = min(lines, key=lambda line: line["seconds"])
        result[name] = {
            "seconds": best["seconds"],
            "waited": best["waited_seconds"] / best["seconds"],
        }
    result["share"] = result["kept"]["seconds"] / result["not kept"]["seconds"]
    return result


def loader_figures(data: allkit.Dataset, weights: Path, count: int) -> dict:
    """Measure how long an epoch of `full` waits for its images."""
    figures = Figures()
    allkit.Trainer(
        backbone="vgg16", weights=str(weights), cache=None, val=0.0, epochs=1, copies=0,
        strategy="full", finetune_epochs=1, recorder=figures,
    ).fit(data.subset(np.random.default_rng(1).permutation(len(data))[:count]))  # fmt: skip
    line = figures.phase("full")[-1]
    return {
        "full_waited": line["waited_seconds"] / line["seconds"],
        "full_images_per_second": line["images_per_second"],
    }


def main() -> None:
    """Measure what was asked for, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=256, help="on which times are taken")
    parser.add_argument("--only", nargs="*", default=["time", "accuracy", "last", "loader"])
    options = parser.parse_args()
    figures = json.loads(options.out.read_text()) if options.out.exists() else {}
    data = allkit.Dataset.open(options.data)
    figures["threads"] = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measures = {
            "time": lambda: time_figures(data, options.weights, folder, options.images),
            "accuracy": lambda: accuracy_figures(data, options.weights),
            "last": lambda: last_figures(data, options.weights, folder, options.images // 2),
            "loader": lambda: loader_figures(data, options.weights, 64),
        }
        for what in options.only:
            figures[what] = measures[what]()
            print(what, json.dumps(figures[what], indent=1), flush=True)
            options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
