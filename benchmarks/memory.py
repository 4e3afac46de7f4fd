"""Peak memory of a training, for more and more images.

    python benchmarks/memory.py --images 10000 100000 --out memory.json

Protocol. Noise of 64 × 64 pixels as JPEG, no two alike, a fifth of them for validation; `allkit
train` on them with a small network and random weights, one augmented copy each, an empty cache;
every run is a process of its own. *Private* memory is what the process itself holds (`RssAnon` of
Linux, sampled ten times a second). *Resident* adds the pages of files that happen to be mapped,
which the system takes back when it needs them.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("Benign", "Early", "Pre", "Pro")


def write_images(folder: Path, count: int) -> Path:
    """Write `count` images and their table; return the table."""
    rng = np.random.default_rng(0)
    lines = ["image,label,group,split"]
    for index in range(count):
        place = folder / f"{index // 1000:04d}" / f"{index:07d}.jpg"
        place.parent.mkdir(exist_ok=True)
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
            stream, "JPEG", quality=30
        )
        place.write_bytes(stream.getvalue())
        part = "val" if index % 5 == 4 else "train"
        label = CLASSES[index // 5 % 4]
        group = f"{label}-{part}-{index // 100}"
        lines.append(f"{place.relative_to(folder)},{label},{group},{part}")
    table = folder / "index.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def measured(arguments: list[str], cache: Path) -> dict[str, float]:
    """Run `allkit`; return its seconds, and its peak private and resident memory in MB."""
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "allkit", *arguments], env=os.environ | {"ALLKIT_CACHE": str(cache)}
    )
    peak = {"RssAnon": 0, "VmHWM": 0}
    while process.poll() is None:
        try:
            text = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        for line in text.splitlines():
            name, _, value = line.partition(":")
            if name in peak:
                peak[name] = max(peak[name], int(value.split()[0]))
        time.sleep(0.1)
    if process.wait():
        raise SystemExit(f"{arguments} failed")
    return {
        "seconds": round(time.monotonic() - start, 1),
        "private_mb": round(peak["RssAnon"] / 1024, 1),
        "resident_mb": round(peak["VmHWM"] / 1024, 1),
    }


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--backbone", default="timm:test_resnet")
    parser.add_argument("--set", action="append", default=[], dest="assign")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    figures: dict[str, object] = {}
    for count in options.images:
        with tempfile.TemporaryDirectory() as folder:
            table = write_images(Path(folder), count)
            arguments = ["train", str(table), "--out", f"{folder}/model", "--weights", "none",
                         "--backbone", options.backbone, "--epochs", "3"]  # fmt: skip
            arguments += [f"--set={assignment}" for assignment in options.assign]
            figures[str(count)] = measured(arguments, Path(folder) / "cache")
            print(count, figures[str(count)], flush=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
