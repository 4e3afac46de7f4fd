"""Many images, some of them broken, in one command that may be killed: one row each, in order."""

from __future__ import annotations

import random
import re
import signal
import time
from pathlib import Path

from attacks import Counts, Scale
from attacks._places import Place, pictures, rows_of
from attacks._processes import Ended, Process, left_behind

TITLE = "Many images"
PARTS = "from allkit.volume import run; run.SECONDS = (0.3, 0.3)"
WARM = 0.2
"""Share of the rows after which a process no longer grows."""


def run(scale: Scale, folder: Path, place: Place | None = None) -> dict[str, Counts]:
    """Answer for 100,000 images, 1 % of them broken, and for 5,000 with ten kills, in a `long` run."""
    place, long = place or Place(folder), scale == "long"
    many = pictures(folder / "many", 100_000 if long else 300, bad=100)
    few = pictures(folder / "few", 5_000 if long else 300, bad=100)
    return {
        "`predict --out`, one row an image, in order": answered(place, many, measured=long),
        "`predict --out`, killed and given again": killed(place, few, 10 if long else 2),
    }


def answered(place: Place, images: Path, *, measured: bool) -> Counts:
    """Answer for all images at once, and judge each row by its image; the memory is watched."""
    counts, out = Counts(), place.path("many.csv")
    process = place.started("predict", place.onnx, images, "--out", out)
    memory: list[tuple[float, float]] = []
    while process.process.is_alive():
        memory.append((time.monotonic(), resident(process)))
        process.process.join(0.1)
    ended = process.end()
    judged(counts, ended, images, out)
    if measured:
        first, last = memory[0][0], memory[-1][0]
        warm = max(m for when, m in memory if when <= first + WARM * (last - first))
        most = max(m for _, m in memory)
        counts.measured |= {
            "seconds": ended.seconds,
            "images a second": counts.tried / ended.seconds,
            "MB after the first fifth": warm,
            "most MB": most,
        }
        if most > 1.1 * warm:
            counts.failed.append(f"the memory grew from {warm:.0f} to {most:.0f} MB")
    return counts


def judged(counts: Counts, ended: Ended, images: Path, out: Path) -> None:
    """Count each image: its row is there, at its place, and says rightly whether it could be read."""
    names = sorted(path.name for path in images.iterdir())
    if ended.status != 1 or not out.exists():
        counts.failed.append(f"status {ended.status}: {ended.err[-300:]}")
        return
    rows = rows_of(out)
    if len(rows) != len(names):
        counts.failed.append(f"{len(rows)} rows of {len(names)} images")
    broken = (images.with_name(f"{images.name}-kinds") / "broken.png").stat().st_ino
    for name, row in zip(names, rows, strict=False):
        bad = (images / name).stat().st_ino == broken
        if Path(row["image"]).name != name or (row["verdict"] == "unreadable") != bad:
            counts.failed.append(f"{name}: {row['image']} {row['verdict']} {row['error']}")
        elif bad:
            counts.refused += 1
        else:
            counts.right += 1


def resident(process: Process) -> float:
    """Return the megabytes of memory that a process holds."""
    try:
        text = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    return int(found[1]) / 1024 if found else 0.0


def killed(place: Place, images: Path, kills: int) -> Counts:
    """Kill the command again and again: in the end its table has the bytes of an unbroken run."""
    counts = Counts()
    unbroken, out = place.path("unbroken-many.csv"), place.path("killed-many.csv")
    arguments = ["predict", place.onnx, images, "--out"]
    whole = place.started(*arguments, unbroken, before=PARTS).end()
    chance, done, kept = random.Random(0), 0, 0
    while done < kills:
        process = place.started(*arguments, out, before=PARTS)
        if done % 3:  # others are killed before they have kept a row of their own
            wait_for_part(process, out)
        ended = process.kill_after(chance.uniform(0, 0.7) * whole.seconds / kills)
        if ended.status != -signal.SIGKILL:
            break
        done, kept = done + 1, kept + ("rows are there already" in ended.err)
    ended = (
        Process(place.folder, *arguments, out, before=PARTS).end() if not out.exists() else ended
    )
    judged(counts, ended, images, out)
    if not counts.failed and out.read_bytes() != unbroken.read_bytes():
        counts.failed.append("other bytes than those of an unbroken run")
    counts.failed += [f"left behind: {name}" for name in left_behind(out.parent)]
    counts.measured |= {"kills": done, "of them after rows were kept": kept}
    return counts


def wait_for_part(process: Process, out: Path) -> None:
    """Wait until a part more is named than before, or the process ends."""
    manifest = out.with_name(f"{out.name}.parts") / "manifest.json"

    def parts() -> int:
        return manifest.read_text().count('"file"') if manifest.exists() else 0

    before = parts()
    while parts() <= before and process.process.is_alive():
        process.process.join(0.01)
