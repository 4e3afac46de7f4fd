#!/usr/bin/env python
"""Everything that is tried against allkit, at full length: the table of docs/explanation/attacks.md.

    python benchmarks/attacks.py [ROW...] [--short] [--list]

Prints one line of the table for each line of a row, and exits with 1 when something failed. Each
row is a module of tests/attacks, whose short form `make test` runs and whose long one `make nightly`.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def main() -> int:
    import attacks

    known = sorted(m.name for m in pkgutil.iter_modules(attacks.__path__) if m.name[0] != "_")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", choices=[[], *known], default=[])
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--list", action="store_true")
    asked = parser.parse_args()
    if asked.list:
        print("\n".join(known))
        return 0
    failures: list[str] = []
    print("| row | line | tried | right | refused with one error | failed | measured |")
    print("|---|---|---|---|---|---|---|")
    for name in asked.rows or known:
        row = importlib.import_module(f"attacks.{name}")
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            lines = row.run("short" if asked.short else "long", Path(folder))
        for line, counts in lines.items():
            measured = ", ".join(f"{what} {value:.4g}" for what, value in counts.measured.items())
            print(
                f"| {row.TITLE} | {line} | {counts.tried:,} | {counts.right:,} | "
                f"{counts.refused:,} | {len(counts.failed):,} | {measured} |",
                flush=True,
            )
            failures += [f"{row.TITLE}, {line}: {what}" for what in counts.failed]
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    print("\n".join(failures[:200]), file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
