"""Figures of `check` and `audit`, against an index of real images and on drawn ones.

    python benchmarks/quality.py --data taleqani/index.csv --out figures.json
    python benchmarks/quality.py --drawn 2000 5000 10000 20000 --out growth.json

Protocol. *Real*: `allkit check` and `allkit audit` as processes of their own on the table. Pairs are
compared with the column `near_duplicate_of`, closed on both sides (all images of one cluster are
pairs). Seconds are wall clock, memory the largest resident set. *Drawn*: fields of 100 drawn slides
of which one in twenty shows a spot again with the stage moved; a pair counts when it was found as
near or overlapping; the time is that of `check`, drawing not included.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

Pair = tuple[str, str]


def closed(names: pd.Series, images: pd.Series) -> set[Pair]:
    groups = images.groupby(names)
    return {pair for _, g in groups for pair in itertools.combinations(sorted(g), 2)}


def run(*arguments: str) -> dict[str, float]:
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "allkit", *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) == 2:
        raise SystemExit(f"{arguments} failed")
    return {
        "seconds": round(time.monotonic() - start, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / 1024),
    }


def score(found: set[Pair], wanted: set[Pair]) -> dict[str, float]:
    right = len(found & wanted)
    return {
        "wanted": len(wanted),
        "found": len(found),
        "recall": round(right / max(1, len(wanted)), 4),
        "precision": round(right / max(1, len(found)), 4),
    }


def real(table: Path, column: str | None) -> dict[str, object]:
    rows = pd.read_csv(table)
    wanted = closed(rows["near_duplicate_of"], rows["image"])
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/check.json"
        cost = run("check", str(table), "--json", out, "--html", f"{folder}/check.html")
        check = json.loads(Path(out).read_text())
        out = f"{folder}/audit.json"
        extra = ["--column", column] if column else []
        audit_cost = run("audit", str(table), "--json", out, *extra)
        audit = json.loads(Path(out).read_text())
    pairs = {(min(p), max(p)) for p in check["near_duplicate_pairs"]}
    return {
        "images": check["images"],
        "near_duplicates": score(pairs, wanted),
        "byte_identical": len(check["duplicates"]),
        "overlapping": len(check["overlapping_pairs"]),
        "marks": [(m["box"], len(m["images"]), m["share"]) for m in check["burnt_in"]],
        "check": cost,
        "audit": audit_cost,
        "probes": audit["probes"],
        "intervals": audit["intervals"],
        "verdict": audit["verdict"],
        "message": audit["message"],
        "leave_one_group_out": audit["leave_one_group_out"],
    }


def drawn(count: int) -> dict[str, object]:
    from allkit import check
    from allkit.data.drawn import write_smears

    again = count // 20
    with tempfile.TemporaryDirectory() as folder:
        index = write_smears(
            Path(folder) / "set", count - again, groups=100, seed=1, same_fields=again
        )
        rows = pd.read_csv(index)
        wanted = closed(rows["near_duplicate_of"], rows["image"])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, work = time.monotonic(), time.process_time()
        found = check(index)
        seconds, work = time.monotonic() - start, time.process_time() - work
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pairs = {(min(p), max(p)) for p in (*found.near_duplicate_pairs, *found.overlapping_pairs)}
    return {
        "images": count,
        "pairs": score(pairs, wanted),
        "seconds": round(seconds, 1),
        "processor_seconds": round(work, 1),
        "milliseconds_an_image": round(1000 * work / count, 2),
        "peak_growth_kb_an_image": round((after - before) / count, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--column", help="left out value by value in the audit")
    parser.add_argument("--drawn", type=int, nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    figures: dict[str, object] = {"cores": len(os.sched_getaffinity(0))}
    if options.data:
        figures["real"] = real(options.data, options.column)
    for count in options.drawn:  # the largest set last: a process never gives its peak back
        figures[f"drawn {count}"] = drawn(count)
        options.out.write_text(json.dumps(figures, indent=1) + "\n")
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
