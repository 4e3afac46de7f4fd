"""What 100 installed plugins cost at start-up: `allkit --help` and `allkit plugins`.

    python benchmarks/plugins.py

Draws 100 small distributions into a temporary folder on PYTHONPATH and times both commands with
and without them, alternating, fifteen times each; medians in milliseconds. `first` is the first
listing after they were installed, in which each is asked what it offers.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COUNT, ROUNDS = 100, 15
SOURCE = """
from allkit import Backbone, hookimpl

def build(weights):
    import timm
    return timm.create_model("test_resnet", pretrained=False, num_classes=0)

@hookimpl
def allkit_backbones():
    return [Backbone("net-{number}", build, license="none")]
"""


def draw(site: Path) -> None:
    for number in range(COUNT):
        name = f"drawn_plugin_{number}"
        (site / f"{name}.py").write_text(SOURCE.format(number=number))
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[allkit]\n{name} = {name}\n")
        (info / "RECORD").write_text(f"{name}.py,sha256=drawn{number},300\n")


def measured(environment: dict[str, str], *arguments: str) -> dict[str, float]:
    start, before = time.perf_counter(), os.times()
    subprocess.run(
        [sys.executable, "-m", "allkit", *arguments],
        env=environment, check=True, capture_output=True,
    )  # fmt: skip
    after = os.times()
    cpu = after.children_user + after.children_system
    return {
        "clock": 1000 * (time.perf_counter() - start),
        "cpu": 1000 * (cpu - before.children_user - before.children_system),
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        site.mkdir()
        draw(site)
        plain = os.environ | {"ALLKIT_CACHE": folder}
        paths = [str(site), os.environ.get("PYTHONPATH", "")]
        full = plain | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        measured(plain, "plugins")
        figures = {"first": round(measured(full, "plugins")["clock"])}
        for command in ("--help", "plugins"):
            times = [(measured(plain, command), measured(full, command)) for _ in range(ROUNDS)]
            for kind in ("clock", "cpu"):
                low, high = (statistics.median(t[i][kind] for t in times) for i in (0, 1))
                figures[f"{command} {kind}"] = round(low)
                figures[f"{command} {kind} added"] = round(high - low)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
