"""Measure `allkit predict` on many images: its speed beside the engine's own, its memory, its rows.

    python benchmarks/volume.py speed vgg16.onnx --images smears --count 320
    python benchmarks/volume.py memory tiny.onnx --images smears --count 100000

`speed` compares, in turns, images a second of the whole command (decoding, deciding, writing Parquet)
with those of the engine alone on the same images as decoded arrays, in the same batches; and the
processor time of both for an image, which other work on the machine hardly changes.
`memory` makes `--count` names that are hard links to the images, one in a hundred to a damaged file,
answers for all and reports by how much the process grew after the first 5 % of the rows, and whether
each image has exactly one row.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from allkit.cli.models import open_model
from allkit.images.decode import IMAGE_SUFFIXES, read_image
from allkit.volume.inputs import find_images
from allkit.volume.run import AnsweringRun, Identity

BATCH = 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "memory"))
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found = sorted(p for p in options.images.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    with tempfile.TemporaryDirectory(dir=options.images.resolve().parent) as folder:
        if options.what == "speed":
            result = speed(options, found, Path(folder))
            good = result["share"] >= 0.9
        else:
            result = memory(options, found, Path(folder))
            good = result["rows_right"] and result["growth_mb"] <= 100
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 0 if good else 1


def links(found: list[Path], folder: Path, count: int, damaged_every: int = 0) -> Path:
    """Return a folder of `count` names; they lie a thousand to a folder."""
    broken = folder / "broken"
    broken.write_bytes(found[0].read_bytes()[:300])
    root = folder / "fields"
    for index in range(count):
        if index % 1000 == 0:
            (root / f"{index // 1000:04d}").mkdir(parents=True)
        damaged = damaged_every and index % damaged_every == damaged_every // 2
        source = broken if damaged else found[index % len(found)]
        os.link(
            source, root / f"{index // 1000:04d}" / f"field-{index:07d}{source.suffix or '.png'}"
        )
    return root


def speed(options: argparse.Namespace, found: list[Path], folder: Path) -> dict[str, object]:
    model = open_model(options.model)
    names = [str(found[index % len(found)]) for index in range(options.count)]
    arrays = [read_image(name) for name in names]
    paths = links(found, folder, options.count)
    images, _ = find_images([str(paths)])
    engine, whole, processor = [], [], []
    for turn in range(options.rounds + 1):
        began, used = time.perf_counter(), time.process_time()
        for start in range(0, len(arrays), BATCH):
            model.outputs(arrays[start : start + BATCH])
        middle, between = time.perf_counter(), time.process_time()
        out = folder / f"{turn}.parquet"
        known = Identity(
            model="m", classes=model.classes, shard="1/1", count=len(images),
            images=images.fingerprint(),
        )  # fmt: skip
        with AnsweringRun(out, known) as run:
            for _ in run.write(model.stream(images)):
                pass
            run.finish()
        if turn:  # the first warms up
            engine.append(len(arrays) / (middle - began))
            whole.append(len(arrays) / (time.perf_counter() - middle))
            processor.append((between - used, time.process_time() - between))
    return {
        "images": options.count,
        "engine_images_s": statistics.median(engine),
        "whole_images_s": statistics.median(whole),
        "share": statistics.median(w / e for w, e in zip(whole, engine, strict=True)),
        "processor_ms": [
            statistics.median(p[i] for p in processor) / len(arrays) * 1000 for i in (0, 1)
        ],
        "shares": [w / e for w, e in zip(whole, engine, strict=True)],
    }


def memory(options: argparse.Namespace, found: list[Path], folder: Path) -> dict[str, object]:
    root = links(found, folder, options.count, damaged_every=100)
    out = folder / "answers.parquet"
    command = [sys.executable, "-m", "allkit", "predict", str(options.model), str(root)]
    began = time.perf_counter()
    process = subprocess.Popen([*command, "--out", str(out)])
    samples: list[tuple[int, float]] = []  # rows that are safe, MB in use
    stop = threading.Event()

    def watch() -> None:
        manifest = Path(f"{out}.parts") / "manifest.json"
        while not stop.wait(0.5):
            with contextlib.suppress(OSError, ValueError, IndexError):
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                parts = json.loads(manifest.read_text())["parts"] if manifest.exists() else []
                rows = parts[-1]["stop"] if parts else 0
                samples.append((rows, pages * os.sysconf("SC_PAGE_SIZE") / 2**20))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    stop.set()
    watcher.join()
    seconds = time.perf_counter() - began
    early = max(mb for rows, mb in samples if rows <= options.count * 0.05)
    most = max(mb for _, mb in samples)
    table = pq.read_table(out, columns=["image", "verdict"]).to_pydict()
    expected = sorted(str(p) for p in root.rglob("*") if p.is_file())
    broken = Counter(table["verdict"])["unreadable"]
    return {
        "images": options.count,
        "status": status,
        "seconds": round(seconds, 1),
        "images_s": round(options.count / seconds, 1),
        "mb_after_5_percent": round(early, 1),
        "mb_at_most": round(most, 1),
        "growth_mb": round(most - early, 1),
        "unreadable": broken,
        "rows_right": table["image"] == expected and broken == options.count // 100,
    }


if __name__ == "__main__":
    sys.exit(main())
