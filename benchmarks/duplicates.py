"""Measure the search for duplicates against an index, or on drawn images for its growth.

    python benchmarks/duplicates.py --data /data/taleqani/index.csv
    python benchmarks/duplicates.py --drawn 20000

The index has the columns `image` and `near_duplicate_of`, the name of a cluster. Pairs are closed
on both sides: all images of a cluster are pairs.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import itertools
import resource
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from allkit.images.decode import read_image
from allkit.images.same_field import (
    DuplicatePair,
    Signature,
    clusters,
    find_duplicates,
    match,
    pack,
    signature,
)

Pair = tuple[int, int]


def closed(groups: Iterable[list[int]]) -> set[Pair]:
    return {pair for group in groups for pair in itertools.combinations(sorted(group), 2)}


def by_name(names: Iterable[str]) -> set[Pair]:
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name, []).append(index)
    return closed(groups.values())


def score(found: set[Pair], truth: set[Pair]) -> str:
    right = len(found & truth)
    recall, precision = right / max(1, len(truth)), right / max(1, len(found))
    return f"{len(found)} found, recall {recall:.4f}, precision {precision:.4f}"


def measure(
    count: int, load: Callable[[int], Any], digest: Callable[[int], str], truth: set[Pair]
) -> list[DuplicatePair]:
    signature(load(0), digest(0))  # what is loaded once does not count
    find_duplicates([], load)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    signatures: list[Signature] = [signature(load(i), digest(i)) for i in range(count)]
    middle = time.perf_counter()
    candidates = [0]
    pairs = find_duplicates(
        signatures, load, progress=lambda _, total: candidates.__setitem__(0, total)
    )
    end = time.perf_counter()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = sum(array.nbytes for array in pack(signatures).values())
    print(f"{count} images: {end - start:.1f} s = {middle - start:.1f} s signatures (with reading)")
    print(f"  + {end - middle:.1f} s for {candidates[0]} candidates")
    print(f"signature {size / count:.0f} bytes; peak memory +{(after - before) * 1024 / count:.0f}")
    exact = {(p.a, p.b) for p in pairs if p.kind == "exact"}
    print(f"{len(exact)} exact and {len(pairs) - len(exact)} near pairs before closing")
    print("closed:            ", score(closed(clusters(count, pairs)), truth))
    wide = [p for p in pairs if p.overlap >= 0.55]
    print("closed, overlap .55:", score(closed(clusters(count, wide)), truth))
    query, known = list(range(1, count, 2)), list(range(0, count, 2))
    start = time.perf_counter()
    hits = match([signatures[i] for i in query], [signatures[i] for i in known])
    seconds = time.perf_counter() - start
    alone = {tuple(sorted((query[i], known[j]))) for i, j in hits}
    direct = closed(clusters(count, exact)) | {(p.a, p.b) for p in pairs}
    direct = {(a, b) for a, b in direct if (a + b) % 2}
    extra, lost = len(alone - direct), len(direct - alone)
    print(f"match, odd against even: {extra} more, {lost} fewer of {len(direct)}, {seconds:.1f} s")
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--drawn", type=int)
    parser.add_argument("--list", action="store_true", help="name the false and the missed pairs")
    options = parser.parse_args()
    if options.data:
        with options.data.open(newline="") as file:
            rows = list(csv.DictReader(file))
        paths = [options.data.parent / row["image"] for row in rows]
        truth = by_name(row["near_duplicate_of"] for row in rows)
        pairs = measure(
            len(rows),
            lambda i: read_image(paths[i]),
            lambda i: hashlib.sha256(paths[i].read_bytes()).hexdigest(),
            truth,
        )
        found = closed(clusters(len(rows), pairs))
        for a, b in sorted(truth - found):
            print("missed", rows[a]["image"], rows[b]["image"])
        direct = {(p.a, p.b): p for p in pairs}
        for a, b in sorted(found - truth) if options.list else ():
            p = direct.get((a, b))
            how = f"correlation {p.correlation:.2f}, overlap {p.overlap:.2f}" if p else "by closing"
            print("not in the index", rows[a]["image"], rows[b]["image"], how)
    if options.drawn:
        from allkit.data.drawn import draw_smears

        again = max(1, options.drawn // 20)
        fields = draw_smears(options.drawn - again, groups=100, seed=1, same_fields=again)
        files, names = [], []
        for field in fields:
            file = io.BytesIO()
            Image.fromarray(field.image).save(file, "JPEG", quality=90)
            files.append(file.getvalue())
            names.append(field.near_duplicate_of)
        measure(
            len(files),
            lambda i: read_image(files[i]),
            lambda i: hashlib.sha256(files[i]).hexdigest(),
            by_name(names),
        )


if __name__ == "__main__":
    main()
