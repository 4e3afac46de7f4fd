"""Groups where none are known: guessed from light, stain, order of names and shared fields.

The guess comes with its evidence; nothing uses it before a person has chosen to.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.data.allocation import joined_units
from allkit.data.dataset import Dataset
from allkit.evaluation.shortcuts import background_of

__all__ = ["Suggestion", "acquisition", "by_size", "consecutive", "folder_of", "suggest_groups"]

BLOCK = 25  # consecutive images: about what is photographed of a slide before the stage moves on
_APART = 3.0  # between the medians of two blocks of different acquisitions


@dataclass(frozen=True)
class Suggestion:
    """Suggested groups of a set, and the evidence for them.

    `series[i]` names the acquisition (light and stain) that image `i` seems to be of, `groups[i]`
    the block of 25 consecutive images of it, joined over images that show the same field.
    `evidence` has one row for each series: `series`, `images`, `classes`, `background` and
    `stain` (`acquisition`), `spread` (median distance of an image from them), `nearest` (distance
    to the most similar other series), `shared_fields` (pairs within) and `across` (pairs with
    another series, which speak against the guess).
    """

    data: Dataset
    series: tuple[str, ...]
    groups: tuple[str, ...]
    evidence: tuple[dict[str, Any], ...]

    def to_dataset(self) -> Dataset:
        """Return the set with these groups."""
        samples = [
            replace(s, group=group, columns={**s.columns, "series": series})
            for s, group, series in zip(self.data, self.groups, self.series, strict=True)
        ]
        return Dataset(samples, self.data.classes, name=self.data.name)

    def to_csv(self, path: str | Path) -> None:
        """Write the set as a table with the columns `group` and `series`."""
        self.to_dataset().to_csv(path)

    def to_dict(self) -> dict[str, Any]:
        """Return counts and evidence as plain values."""
        return {
            "series": len(set(self.series)),
            "groups": len(set(self.groups)),
            "evidence": list(self.evidence),
        }


def acquisition(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return numbers about light and stain of an image (H, W, 3) uint8: (6,) float32.

    The median CIELAB colour of the background, and the direction of the mean optical density of
    stained pixels (red, green, blue; of length 10), which does not depend on the number of cells.
    """
    import cv2

    ratio = 112 / max(image.shape[:2])
    size = [max(8, round(length * ratio)) for length in image.shape[1::-1]]
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    clear = background_of(small)
    stained = small[~clear] if not clear.all() else small.reshape(-1, 3)
    density = -np.log((stained.astype(np.float32) + 1) / 256).mean(axis=0)
    direction = 10 * density / max(float(np.linalg.norm(density)), 1e-6)
    return np.concatenate([np.median(lab[clear], axis=0), direction]).astype(np.float32)


def suggest_groups(data: Dataset, colours: npt.NDArray[np.float32]) -> Suggestion:
    """Return suggested groups from the `acquisition` of every image, `(N, 6)`."""
    from sklearn.cluster import AgglomerativeClustering

    blocks = consecutive([s.image for s in data])
    middles = np.stack([np.median(colours[block], axis=0) for block in blocks])
    if len(blocks) > 1:
        clusters = AgglomerativeClustering(
            n_clusters=None, distance_threshold=_APART, linkage="average"
        ).fit_predict(middles)
    else:
        clusters = np.zeros(1, dtype=int)
    series = np.zeros(len(data), dtype=np.int64)
    block_of = np.zeros(len(data), dtype=np.int64)
    for number, (block, label) in enumerate(zip(blocks, clusters, strict=True)):
        series[block], block_of[block] = label, number
    fields = data.fields
    names = [f"S{number + 1}" for number in by_size(series)]
    joined = joined_units(len(data), block_of.tolist(), fields.tolist())
    groups = tuple(f"G{number + 1:03d}" for number in joined)
    return Suggestion(data, tuple(names), groups, _evidence(data, np.array(names), colours))


def consecutive(images: Sequence[str]) -> list[list[int]]:
    """Return the positions of images in blocks of 25 that follow one another in a folder."""
    inside: dict[str, list[int]] = {}
    for index in sorted(range(len(images)), key=lambda i: _natural(images[i])):
        inside.setdefault(folder_of(images[index]), []).append(index)
    return [
        members[start : start + BLOCK]
        for members in inside.values()
        for start in range(0, len(members), BLOCK)
    ]


def by_size(series: npt.NDArray[np.int64]) -> list[int]:
    """Return the number of each image's series, the largest series being 0."""
    rank = {value: place for place, (value, _) in enumerate(Counter(series.tolist()).most_common())}
    return [rank[value] for value in series.tolist()]


def _evidence(
    data: Dataset, names: npt.NDArray[Any], colours: npt.NDArray[np.float32]
) -> tuple[dict[str, Any], ...]:
    middles = {name: np.median(colours[names == name], axis=0) for name in sorted(set(names))}
    pairs = [(names[pair.a], names[pair.b]) for pair in data.duplicates]
    rows = []
    for name, middle in middles.items():
        members = np.flatnonzero(names == name)
        distances = np.linalg.norm(colours[members] - middle, axis=1)
        others = [float(np.linalg.norm(middle - m)) for n, m in middles.items() if n != name]
        rows.append(
            {
                "series": str(name),
                "images": len(members),
                "classes": dict(Counter(data.samples[i].label for i in members)),
                "background": [round(float(v), 1) for v in middle[:3]],
                "stain": [round(float(v), 1) for v in middle[3:]],
                "spread": round(float(np.median(distances)), 1),
                "nearest": round(min(others), 1) if others else None,
                "shared_fields": sum(a == b == name for a, b in pairs),
                "across": sum(a != b and name in (a, b) for a, b in pairs),
            }
        )
    return tuple(rows)


def folder_of(image: str) -> str:
    """Return the folder in an image's name; empty where there is none."""
    return image.rpartition("/")[0]


def _natural(image: str) -> list[tuple[int, int | str]]:
    # 2 comes before 10, as the names of the files mean it.
    parts = re.split(r"(\d+)", image)
    return [(1, int(part)) if part.isdigit() else (0, part) for part in parts]
