"""How the slides that `allkit check` suggests agree with the known ones.

    python benchmarks/slides.py taleqani/index.csv

The table must have the column `slide`. Slides, groups and cases are taken away, slides are suggested
as `allkit check` does, and both are compared: with the names as they are, with the folders taken
off them, and with the names of each folder in random order. `cut` counts the known slides that are
suggested in several pieces (such a slide would be trained on and called unseen), `away` is the share
of images outside the largest piece of their slide.
"""

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np
from sklearn.metrics import adjusted_rand_score, completeness_score, homogeneity_score

from allkit.data.dataset import Dataset
from allkit.quality.groups import acquisition
from allkit.quality.slides import suggest_slides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="a table with the column slide")
    parser.add_argument("--seeds", type=int, default=5, help="random orders of the names")
    options = parser.parse_args()
    data = Dataset.open(options.data)
    true = data.column("slide")
    bare = [replace(s, slide=None, group=None, case=None, columns={}) for s in data]
    images = data.same_images(bare, None)
    colours = np.stack([acquisition(images.read(i)) for i in range(len(images))])
    print(f"{len(data)} images, {len(set(true))} known slides")
    print(
        f"{'names':<12}{'suggested':>10}{'ARI':>8}{'homog.':>8}{'complete':>10}{'cut':>5}{'away':>7}"
    )
    row("as they are", true, suggest_slides(images, colours).slides)
    flat = [replace(s, image=PurePosixPath(s.image).name) for s in bare]
    row("no folders", true, suggest_slides(images.same_images(flat, None), colours).slides)
    for seed in range(options.seeds):
        mixed = images.same_images(with_mixed_names(bare, seed), None)
        row(f"random {seed}", true, suggest_slides(mixed, colours).slides)


def row(title: str, true: list[str], suggested: tuple[str, ...]) -> None:
    pieces: dict[str, Counter[str]] = {}
    for slide, piece in zip(true, suggested, strict=True):
        pieces.setdefault(slide, Counter())[piece] += 1
    cut = sum(len(counts) > 1 for counts in pieces.values())
    away = sum(counts.total() - max(counts.values()) for counts in pieces.values()) / len(true)
    agreement = adjusted_rand_score(true, suggested), homogeneity_score(true, suggested)
    print(
        f"{title:<12}{len(set(suggested)):>10}{agreement[0]:>8.3f}{agreement[1]:>8.3f}"
        f"{completeness_score(true, suggested):>10.3f}{cut:>5}{away:>7.3f}"
    )


def with_mixed_names(samples: list, seed: int) -> list:
    """The same images; the names within each folder are dealt out at random."""
    rng = np.random.default_rng(seed)
    folders: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        folders.setdefault(PurePosixPath(sample.image).parent.as_posix(), []).append(index)
    mixed = list(samples)
    for members in folders.values():
        for index, other in zip(members, rng.permutation(members), strict=True):
            mixed[index] = replace(samples[index], image=samples[other].image)
    return mixed


if __name__ == "__main__":
    main()
