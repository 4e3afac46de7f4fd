"""What a training costs beside what a user would take instead, on the same division of real images.

    python benchmarks/peers.py --data index.csv --weights vgg16.safetensors --out peers.json

Protocol. One division by group, 70 % to learn from and 30 % to judge (`allkit split`). Every row is
trained on the first and judged on the second, in processor seconds of all threads, the start of the
process left out.

`allkit`: `allkit train` with the defaults from an empty cache, a process of its own; its accuracy
is that of `allkit evaluate`. *Its processor time counts everything, the start too.*
`loop frozen`: the loop of most tutorials: the network frozen, a linear layer on its pooled output,
Adam with 1e-3, batches of 32, `--epochs` passes (10), random turns, flips and zooms by torchvision,
the 30 % judged after each pass. The cost of a pass is measured on `--batches` batches and
multiplied. The accuracy is that of the same layer on features of the images as they are, since a
frozen network gives the same each time; they are computed by the cheapest engine of the machine.
`loop tuned`: the same with every weight trained (1e-4), run whole for `--tuned` passes.
`timm`: as `loop tuned`, with timm's own pieces: `create_loader` with its default augmentation,
AdamW by `create_optimizer_v2`, cosine by `create_scheduler_v2`, label smoothing 0.1. (timm's script itself
is not in its package.)
`fastai`: `vision_learner` with the same network and `fine_tune` for `--tuned` passes, with
`aug_transforms`. A row of a library that is not installed says so.

Of passes that are run whole, the accuracy and the processor seconds after each are kept, so that
the time to an accuracy can be read off.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import allkit
from allkit.features.engines import FrozenPass
from allkit.plugins import registry, resolve_weights
from allkit.records import InputSpec
from allkit.training.device import choose_precision

Figures = dict[str, Any]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def command(*arguments: str, cache: Path) -> float:
    """Run `allkit` in a process of its own; return its processor seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "allkit", *arguments],
        check=True,
        env=os.environ | {"ALLKIT_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def of_allkit(options: argparse.Namespace, split: Path, folder: Path, backbone: str) -> Figures:
    """Train and evaluate by the commands, from an empty cache."""
    model, json_file, cache = folder / "model", folder / "test.json", folder / "cache"
    extra = ["--backbone", backbone]
    if backbone == "vgg16" and options.weights:
        extra += ["--weights", str(options.weights)]
    start = time.monotonic()
    used = command("train", str(split), "--out", str(model), *extra, cache=cache)
    seconds = time.monotonic() - start
    command("evaluate", str(model), str(split), "--json", str(json_file), cache=cache)
    accuracy = json.loads(json_file.read_text())["accuracy"]
    return {"processor_s": used, "seconds": seconds, "accuracy": accuracy}


class Images(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Images of one part as `(3, 224, 224)` float32, and their labels."""

    def __init__(self, data: allkit.Dataset, root: Path, transform: Callable[..., Any]) -> None:
        self.paths = [root / sample.image for sample in data]
        self.labels = data.labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        return self.transform(Image.open(self.paths[index]).convert("RGB")), int(self.labels[index])


def transforms(*, augmented: bool) -> Callable[..., Any]:
    """Return the usual transforms of torchvision."""
    from torchvision.transforms import v2

    turned = [
        v2.RandomHorizontalFlip(),
        v2.RandomVerticalFlip(),
        v2.RandomAffine(degrees=20, scale=(0.9, 1.1)),
    ]
    last = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    return v2.Compose([v2.Resize((224, 224)), *(turned if augmented else []), *last])


def network_of(options: argparse.Namespace, backbone: str, classes: int) -> nn.Module:
    """Return the backbone with its pretrained weights and a new linear layer."""
    record = registry().get("backbone", backbone)
    weights = options.weights if backbone == "vgg16" and options.weights else "default"
    body = record.build(resolve_weights(backbone, str(weights)))
    with torch.inference_mode():
        width = body.eval()(torch.zeros(1, 3, 224, 224)).shape[1]
    torch.manual_seed(0)
    return nn.Sequential(body, nn.Linear(width, classes))


@torch.inference_mode()
def accuracy_of(network: nn.Module, batches: Any) -> float:
    network.eval()
    hits = [(network(x).argmax(1) == y).float() for x, y in batches]
    return float(torch.cat(hits).mean())


def loop_frozen(options: argparse.Namespace, parts: Any, backbone: str) -> Figures:
    """Measure one pass on some batches; judge the layer on features of the whole images."""
    train, test, root = parts
    network = network_of(options, backbone, len(train.classes))
    body, layer = network[0].requires_grad_(False), network[1]
    loader = torch.utils.data.DataLoader(
        Images(train, root, transforms(augmented=True)), 32, shuffle=True
    )
    optimiser = torch.optim.Adam(layer.parameters(), 1e-3)

    def steps(count: int) -> int:
        seen = 0
        for number, (x, y) in enumerate(loader):
            if number == count:
                break
            with torch.no_grad():
                features = body(x)
            loss = nn.functional.cross_entropy(layer(features), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            seen += len(x)
        return seen

    steps(1)
    start = time.process_time()
    seen = steps(options.batches)
    an_image = (time.process_time() - start) / seen
    plain = torch.utils.data.DataLoader(Images(test, root, transforms(augmented=False)), 32)
    start, judged = time.process_time(), 0
    with torch.inference_mode():
        for number, (x, _) in enumerate(plain):
            if number == options.batches:
                break
            network(x)
            judged += len(x)
    a_test = (time.process_time() - start) / judged
    learning = options.epochs * len(train) * an_image
    result = {
        "epochs": options.epochs,
        "processor_ms_an_image": 1000 * an_image,
        "processor_s": learning + options.epochs * len(test) * a_test,
        "processor_s_without_judging": learning,
    }
    if not options.no_accuracy:
        result["accuracy"] = _layer_on_features(options, body.eval(), layer, parts)
    return result


def _layer_on_features(
    options: argparse.Namespace, body: nn.Module, layer: nn.Module, parts: Any
) -> float:
    train, test, root = parts
    rows, labels = [], []
    device = torch.device("cpu")
    frozen = FrozenPass(
        body, InputSpec(), device, precision=choose_precision("auto", device), engine="auto"
    )
    for part in (train, test):
        images = Images(part, root, transforms(augmented=False))
        batches = torch.utils.data.DataLoader(images, 32)
        features = np.concatenate([frozen.on(x).numpy() for x, _ in batches])
        rows.append(torch.from_numpy(features))
        labels.append(torch.from_numpy(part.labels))
    torch.manual_seed(0)
    layer.reset_parameters()  # type: ignore[operator]
    optimiser = torch.optim.Adam(layer.parameters(), 1e-3)
    for _ in range(options.epochs):
        for at in torch.randperm(len(rows[0])).split(32):
            loss = nn.functional.cross_entropy(layer(rows[0][at]), labels[0][at])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return float((layer(rows[1]).argmax(1) == labels[1]).float().mean())


def passes(
    options: argparse.Namespace, network: nn.Module, one: Callable[[int], None], test: Any
) -> Iterator[Figures]:
    """Yield processor seconds and accuracy after each pass; judging is not counted."""
    used = 0.0
    for epoch in range(options.tuned):
        start = time.process_time()
        network.train()
        one(epoch)
        used += time.process_time() - start
        yield {"epoch": epoch + 1, "processor_s": used, "accuracy": accuracy_of(network, test)}


def loop_tuned(options: argparse.Namespace, parts: Any, backbone: str) -> Figures:
    """Train every weight in the usual loop."""
    train, test, root = parts
    network = network_of(options, backbone, len(train.classes))
    loader = torch.utils.data.DataLoader(
        Images(train, root, transforms(augmented=True)), 32, shuffle=True
    )
    plain = torch.utils.data.DataLoader(Images(test, root, transforms(augmented=False)), 32)
    optimiser = torch.optim.Adam(network.parameters(), 1e-4)

    def one(_: int) -> None:
        for x, y in loader:
            loss = nn.functional.cross_entropy(network(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return {"passes": list(passes(options, network, one, plain))}


def of_timm(options: argparse.Namespace, parts: Any, backbone: str) -> Figures:
    """Train every weight with timm's loader, optimiser and schedule."""
    from timm.data import create_loader
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2

    train, test, root = parts
    network = network_of(options, backbone, len(train.classes))
    common = {"input_size": (3, 224, 224), "batch_size": 32, "use_prefetcher": False}
    common |= {"num_workers": 0, "mean": MEAN, "std": STD}
    loader = create_loader(
        Images(train, root, lambda x: x), is_training=True, scale=(0.8, 1.0), vflip=0.5, **common
    )
    plain = create_loader(Images(test, root, lambda x: x), crop_pct=1.0, **common)
    optimiser = create_optimizer_v2(network, "adamw", lr=3e-4, weight_decay=0.05)
    schedule, _ = create_scheduler_v2(optimiser, "cosine", num_epochs=options.tuned)
    loss_of = LabelSmoothingCrossEntropy(0.1)

    def one(epoch: int) -> None:
        for x, y in loader:
            optimiser.zero_grad()
            loss_of(network(x), y).backward()
            optimiser.step()
        schedule.step(epoch + 1)

    return {"passes": list(passes(options, network, one, plain))}


def of_fastai(options: argparse.Namespace, parts: Any, backbone: str) -> Figures:
    """Train by fastai's `fine_tune`: one pass of the head, then all weights."""
    try:
        from fastai.callback.core import Callback
        from fastai.callback.schedule import fine_tune  # noqa: F401 - it is put into Learner
        from fastai.data.block import CategoryBlock, DataBlock
        from fastai.data.transforms import ColReader, IndexSplitter
        from fastai.learner import Learner
        from fastai.metrics import accuracy
        from fastai.vision.augment import Resize, aug_transforms
        from fastai.vision.data import ImageBlock
        from fastai.vision.learner import Normalize
    except ImportError as error:
        return {"not installed": str(error)}
    import pandas as pd

    train, test, root = parts
    rows = [(str(root / s.image), s.label) for part in (train, test) for s in part]
    table = pd.DataFrame(rows, columns=["image", "label"])
    block = DataBlock(
        (ImageBlock, CategoryBlock),
        get_x=ColReader("image"),
        get_y=ColReader("label"),
        splitter=IndexSplitter(np.arange(len(train), len(table))),
        item_tfms=Resize(224, method="squish"),
        batch_tfms=[*aug_transforms(flip_vert=True), Normalize.from_stats(MEAN, STD, cuda=False)],
    )
    loaders = block.dataloaders(table, bs=32, num_workers=0, device=torch.device("cpu"))
    network = network_of(options, backbone, len(train.classes))
    told: list[Figures] = []
    state = {"used": 0.0, "start": 0.0}

    class Clock(Callback):  # type: ignore[misc]
        order = 60

        def before_train(self) -> None:
            state["start"] = time.process_time()

        def after_train(self) -> None:
            state["used"] += time.process_time() - state["start"]

        def after_epoch(self) -> None:
            told.append(
                {
                    "epoch": len(told) + 1,
                    "processor_s": state["used"],
                    "accuracy": float(self.recorder.values[-1][-1])
                    if self.recorder.values
                    else None,
                }
            )

    learner = Learner(
        loaders,
        network,
        loss_func=nn.CrossEntropyLoss(),
        metrics=accuracy,
        cbs=[Clock()],
        splitter=lambda m: [list(m[0].parameters()), list(m[1].parameters())],
    )
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(options.tuned)
    return {"passes": told}


ROWS: dict[str, Callable[..., Figures]] = {
    "loop frozen": loop_frozen,
    "loop tuned": loop_tuned,
    "timm": of_timm,
    "fastai": of_fastai,
}


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="for vgg16")
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--tuned", type=int, default=5)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--no-accuracy", action="store_true", help="of the loop frozen: time only")
    parser.add_argument("--only", nargs="+", choices=["allkit", *ROWS], default=["allkit", *ROWS])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    figures: Figures = json.loads(options.out.read_text()) if options.out.exists() else {}
    mine = figures.setdefault(options.backbone, {})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = allkit.Dataset.open(options.data)
        division = whole.split(test=0.3, by="group", seed=0)
        root = options.data.parent.resolve()
        split = folder / "split.csv"
        division.to_csv(split)
        parts = (division.train, division.test, root)
        for row in options.only:
            if row == "allkit":
                mine[row] = of_allkit(options, split, folder, options.backbone)
            else:
                mine[row] = ROWS[row](options, parts, options.backbone)
            print(options.backbone, row, json.dumps(mine[row]), flush=True)
            options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
