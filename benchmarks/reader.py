"""Give every file of a folder, and mutants of the valid ones, to the reader; count what happens.

    pip download --no-deps --no-binary pillow pillow==13.0.0 && tar xzf pillow-13.0.0.tar.gz
    python benchmarks/reader.py pillow-13.0.0/Tests/images --mutants 3000

Each file is read in a worker process that may use 500 MB more than it starts with, and 5 seconds.
The exit status is 1 if a worker died, hung, or met anything but an `ImageError`.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import random
import resource
import sys
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

from allkit.errors import ImageError
from allkit.images.decode import read_image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

SECONDS, MEMORY = 5, 500 * 2**20


def main() -> int:
    from attacks._hostile import mutant

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mutants", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.rglob("*") if path.is_file())
    with Worker() as worker:
        outcomes = {path: worker.read(path.read_bytes()) for path in paths}
        bad = report("files", {str(path): outcome for path, outcome in outcomes.items()})
        valid = [path.read_bytes() for path, (what, _) in outcomes.items() if what == "read"]
        valid = [data for data in valid if len(data) < 200_000]
        rng = random.Random(options.seed)
        mutants = {}
        for turn in range(options.mutants if valid else 0):
            data = mutant(rng.choice(valid), rng)
            mutants[f"mutant {turn}"] = worker.read(data)
        if mutants:
            bad += report(f"mutants of {len(valid)} valid files", mutants)
    return bool(bad)


class Worker:
    """A process that reads what it is sent; it is replaced when it dies or hangs."""

    def __enter__(self) -> Worker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        # Started afresh rather than forked, so that each has the same memory to begin with.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def read(self, data: bytes) -> tuple[str, float]:
        """Return what became of `data` and the seconds it took."""
        start = time.perf_counter()
        outcome = "died"
        try:
            self.pipe.send_bytes(data)
            # A fresh process needs time to import before it can answer.
            outcome = self.pipe.recv() if self.pipe.poll(SECONDS + 5) else "hung"
        except (EOFError, OSError):
            pass
        seconds = time.perf_counter() - start
        if outcome in ("died", "hung"):
            self.stop()
            self.start()
        elif seconds > SECONDS + 2:
            outcome = "hung"
        return outcome, seconds


def serve(pipe: Connection) -> None:
    warnings.simplefilter("error")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    while True:
        data = pipe.recv_bytes()
        try:
            read_image(data)
            outcome = "read"
        except ImageError as error:
            cause = " (from a warning)" if isinstance(error.__cause__, Warning) else ""
            outcome = f"refused: {error.code}{cause}"
        except BaseException as error:  # noqa: BLE001 - counting these is the purpose
            outcome = f"escaped: {type(error).__name__}"
        pipe.send(outcome)


def report(title: str, outcomes: dict[str, tuple[str, float]]) -> int:
    """Print the counts, name the bad ones, and return how many there are."""
    counts = collections.Counter(what for what, _ in outcomes.values())
    slowest = max(outcomes, key=lambda name: outcomes[name][1])
    print(f"{len(outcomes)} {title}; slowest {outcomes[slowest][1]:.2f} s ({slowest})")
    for what in ("died", "hung"):
        counts.setdefault(what, 0)
    for what, count in counts.most_common():
        print(f"  {count:6} {what}")
    bad = [n for n, (what, _) in outcomes.items() if what.startswith(("died", "hung", "escaped"))]
    for name in bad:
        print(f"  {outcomes[name][0]}: {name}")
    return len(bad)


if __name__ == "__main__":
    sys.exit(main())
