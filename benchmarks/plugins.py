"""What 100 installed plugins cost: `allkit --help`, `allkit plugins`, and asking them first.

    python benchmarks/plugins.py

Draws 100 small distributions of every kind into a temporary folder on PYTHONPATH, every third with
settings by pydantic and every tenth with a command, and times both commands with and without them,
alternating, fifteen times each; medians in milliseconds. `first` is the first listing after they were
installed, in which each is asked what it offers (the median of three), and `asked` is that asking alone.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

COUNT, ROUNDS, FIRST_ROUNDS = 100, 15, 3
HEAD = """
from pydantic import BaseModel, Field
from allkit import (
    Augmentation, Backbone, Command, Explainer, Exporter, Finder, HealthCheck, Reader, View, hookimpl
)

api_version = 2

class Settings(BaseModel):
    sigma: float = Field(0.1, description="how strong")
    steps: int = 3

def run(*arguments, **settings):
    raise NotImplementedError
"""
KINDS = {
    "backbones": 'Backbone("NAME", run, license="none", summary="drawn"SETTINGS)',
    "augmentations": 'Augmentation("NAME", run, "drawn"SETTINGS)',
    "views": 'View("NAME", run, "drawn"SETTINGS)',
    "finders": 'Finder("NAME", run, "drawn"SETTINGS)',
    "readers": 'Reader("NAME", (".NAME",), run, summary="drawn"SETTINGS)',
    "explainers": 'Explainer("NAME", run, "drawn"SETTINGS)',
    "exporters": 'Exporter("NAME", ".NAME", run, run, "drawn"SETTINGS)',
    "health_checks": 'HealthCheck("NAME", run, "drawn")',
}
ASK = """
import time
from allkit.plugins.catalogue import installed, offers_of
start = time.perf_counter()
described = offers_of(installed()[0], fresh=True)
broken = [d["error"] for d in described if d["error"]]
assert not broken, broken
print(time.perf_counter() - start)
"""


def source(number: int) -> str:
    """Return the module of one plugin."""
    kind = "commands" if number % 10 == 9 else list(KINDS)[number % len(KINDS)]
    record = KINDS.get(kind, 'Command("NAME", run, "drawn")').replace("NAME", f"drawn-{number}")
    settings = ", settings=Settings" if number % 3 == 0 else ""
    record = record.replace("SETTINGS", settings)
    return f"{HEAD}\n@hookimpl\ndef allkit_{kind}():\n    return [{record}]\n"


def draw(site: Path) -> None:
    """Write the packages as an installer would."""
    for number in range(COUNT):
        name = f"drawn_plugin_{number}"
        (site / f"{name}.py").write_text(source(number))
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        requires = "Requires-Dist: allkit\nRequires-Dist: pydantic>=2\n"
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}\n"
        (info / "METADATA").write_text(head + "A plugin that was drawn.\n" * 100)
        (info / "entry_points.txt").write_text(f"[allkit]\n{name} = {name}\n")
        (info / "RECORD").write_text(f"{name}.py,sha256=drawn{number},300\n")


def measured(environment: dict[str, str], arguments: Sequence[str]) -> dict[str, float]:
    """Return the milliseconds that a process of Python takes, by the clock and of the processor."""
    start, before = time.perf_counter(), os.times()
    subprocess.run([sys.executable, *arguments], env=environment, check=True, capture_output=True)
    after = os.times()
    cpu = after.children_user + after.children_system
    return {
        "clock": 1000 * (time.perf_counter() - start),
        "cpu": 1000 * (cpu - before.children_user - before.children_system),
    }


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        site.mkdir()
        draw(site)
        plain = os.environ | {"ALLKIT_CACHE": folder}
        paths = [str(site), os.environ.get("PYTHONPATH", "")]
        full = plain | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        measured(plain, ["-m", "allkit", "plugins"])
        firsts, asked = [], []
        for _ in range(FIRST_ROUNDS):
            (Path(folder) / "plugins.json").unlink()
            firsts.append(measured(full, ["-m", "allkit", "plugins"])["clock"])
            done = subprocess.run(
                [sys.executable, "-c", ASK], env=full, check=True, capture_output=True, text=True
            )
            asked.append(1000 * float(done.stdout))
        figures = {
            "first": round(statistics.median(firsts)),
            "asked": round(statistics.median(asked)),
        }
        for command in ("--help", "plugins"):
            words = ["-m", "allkit", command]
            times = [(measured(plain, words), measured(full, words)) for _ in range(ROUNDS)]
            for kind in ("clock", "cpu"):
                low, high = (statistics.median(t[i][kind] for t in times) for i in (0, 1))
                figures[f"{command} {kind}"] = round(low)
                figures[f"{command} {kind} added"] = round(high - low)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
