"""What the faults are tried on: drawn smears, a small model, its export, pictures, and what is right."""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attacks._processes import Ended, Process, allkit, left_behind

QUICK = "from allkit.training import run; run.SAVE_SECONDS = 0.0"
PARTS = "from allkit.volume import run; run.SECONDS = (0.02, 0.02)"
SETTINGS = {
    "backbone": "timm:test_resnet", "weights": "none", "epochs": 3, "finetune_epochs": 3,
    "finetune_batch_size": 8, "ema": 0.9, "calibration_folds": 0, "precision": "float32",
    "bag": "field", "view": "rgb",
}  # fmt: skip


def pictures(folder: Path, count: int, *, kinds: int = 200, bad: int = 50, side: int = 64) -> Path:
    """Make a folder of small images, links to a few hundred of them; one in `bad` is broken."""
    store, shown = folder.with_name(f"{folder.name}-kinds"), folder
    store.mkdir()
    shown.mkdir()
    rng = np.random.default_rng(0)
    for kind in range(min(kinds, count)):
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(store / f"{kind}.png")
    broken = (store / "0.png").read_bytes()
    (store / "broken.png").write_bytes(broken[: len(broken) // 2])
    for number in range(count):
        source = "broken.png" if number % bad == bad - 1 else f"{number % min(kinds, count)}.png"
        os.link(store / source, shown / f"field-{number:06d}.png")
    return shown


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a table of answers."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def same_weights(one: Path, other: Path) -> bool:
    """Say whether two model folders hold the same arrays, bit for bit."""
    import torch
    from safetensors.torch import load_file

    a, b = (load_file(folder / "model.safetensors") for folder in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Place:
    """The folder of a row of attacks, with what every attempt begins from."""

    def __init__(
        self, folder: Path, images: int = 60, *, made: tuple[Path, Path] | None = None
    ) -> None:
        """Make it all, or take a model and its export that are `made` already."""
        from allkit.data.drawn import write_smears

        self.folder = folder
        self.smears = write_smears(folder / "smears", 24, groups=12, seed=3)
        self.pictures = pictures(folder / "pictures", images, kinds=20, bad=20, side=40)
        (folder / "tiny.yaml").write_text(json.dumps(SETTINGS))
        self.ready = folder / "ready"
        self.model, self.onnx = self.path("model"), folder / "model.onnx"
        self._trained: dict[str, tuple[Path, float]] = {}
        if made is not None:
            shutil.copytree(made[0], self.model)
            shutil.copy(made[1], self.onnx)
            return
        self.right(self.train(self.model, "head"))
        self.right(allkit(folder, "export", self.model, "--out", self.onnx))

    def right(self, ended: Ended) -> Ended:
        """Require that a process ended well."""
        assert ended.status == 0, f"{ended.status}: {ended.err}"
        return ended

    def path(self, name: str) -> Path:
        """Return a place of its own for something that is written."""
        folder = self.folder / f"at-{name}"
        folder.mkdir(exist_ok=True)
        return folder / name

    def training(self, out: Path, strategy: str, *further: object) -> list[object]:
        """Return the arguments of a training."""
        config = self.folder / "tiny.yaml"
        return ["train", self.smears, "--out", out, "--config", config, "--strategy", strategy,
                *further]  # fmt: skip

    def train(self, out: Path, strategy: str, *further: object, **names: Any) -> Ended:
        """Train to the end."""
        names = {"before": QUICK, **names}
        return allkit(self.folder, *self.training(out, strategy, *further), **names)

    def trained(self, strategy: str) -> tuple[Path, float]:
        """Return a model that was trained without a fault, and the seconds that it took."""
        if strategy not in self._trained:
            out = self.path(f"whole-{strategy}")
            shutil.rmtree(self.folder / "cache" / "activations", ignore_errors=True)
            (self.folder / "cache" / "features.sqlite").unlink(missing_ok=True)
            ended = self.right(self.started(*self.training(out, strategy), before=QUICK).end())
            self._trained[strategy] = out, ended.seconds
        return self._trained[strategy]

    def fresh_cache(self, name: str) -> dict[str, str]:
        """Return the environment of an empty cache in which the plugins are known."""
        folder = self.folder / f"cache-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for known in (self.folder / "cache").glob("plugins.json"):
            shutil.copy(known, folder)
        return {"ALLKIT_CACHE": str(folder)}

    def started(self, *arguments: object, **names: Any) -> Process:
        """Start a command, and return when its signals are its own."""
        self.ready.unlink(missing_ok=True)
        before = f"{names.pop('before', '')}\nimport allkit.cli.root\nopen(ready, 'w').close()"
        process = Process(self.folder, *arguments, before=before, ready=str(self.ready), **names)
        while not self.ready.exists() and process.process.is_alive():
            process.process.join(0.002)
        process.begun = time.monotonic()
        return process


def whole(model: Path) -> str:
    """Return what is wrong with a model folder, or nothing."""
    from allkit.errors import AllkitError
    from allkit.model.folder import read_model

    try:
        read_model(model)
    except AllkitError as error:
        return str(error)
    return ""


def one_sentence(ended: Ended, *words: str) -> str:
    """Return what is wrong with how a command failed: it says one thing, and names what is wanted."""
    if ended.status != 2:
        return f"status {ended.status}: {ended.err[-300:]}"
    lines = [line for line in ended.err.splitlines() if line.startswith("Error: ")]
    if "Traceback" in ended.err or len(lines) != 1:
        return f"not one sentence: {ended.err[-300:]}"
    if words and not any(word in lines[0] for word in words):
        return f"names none of {words}: {lines[0]}"
    return ""


__all__ = [
    "PARTS", "QUICK", "Place", "left_behind", "one_sentence", "pictures", "rows_of", "same_weights",
    "whole",
]  # fmt: skip
