"""Slides where none are known: guessed from light, stain, order of names and what is known already.

A slide that is cut in two would be trained on and called unseen, two slides that are joined are
only one fewer to learn from; so what may be one slide is suggested as one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from allkit.data.allocation import joined_units
from allkit.data.dataset import Dataset
from allkit.data.slides import SLIDE_SOURCE, SUGGESTED
from allkit.quality.groups import by_size, consecutive, folder_of
from allkit.types import Floats, Ints

__all__ = ["HOW", "SlideSuggestion", "suggest_slides"]

APART = 4.0
"""Between the medians of two blocks of one folder that are of different slides."""
ALIKE = 1.0
"""Between the medians of two slides of different folders that are one."""
HOW = (
    "blocks of 25 consecutive names, joined within a folder where light and stain are alike or "
    "where they alternate, and everywhere by shared fields, groups and cases; in doubt as one slide"
)


@dataclass(frozen=True)
class SlideSuggestion:
    """Suggested slides of a set: `slides[i]` is that of image `i`, and the evidence for each.

    `evidence` has one row for each slide: `slide`, `images`, `classes`, and `background` and `stain`
    (`allkit.quality.groups.acquisition`).
    """

    data: Dataset
    slides: tuple[str, ...]
    evidence: tuple[dict[str, Any], ...]

    @property
    def number(self) -> int:
        """The number of suggested slides."""
        return len(self.evidence)

    @property
    def in_words(self) -> str:
        """How many slides there seem to be, as the beginning of a sentence."""
        n = self.number
        return "There seems to be 1 slide" if n == 1 else f"There seem to be {n:,} slides"

    def to_dataset(self) -> Dataset:
        """Return the set with these slides; its column `slide_source` says that they are a guess."""
        samples = [
            replace(s, slide=slide, columns={**s.columns, SLIDE_SOURCE: SUGGESTED})
            for s, slide in zip(self.data, self.slides, strict=True)
        ]
        return self.data.same_images(samples, self.data.split_by)

    def to_csv(self, path: str | Path) -> None:
        """Write the set as a table with the columns `slide` and `slide_source`."""
        self.to_dataset().to_csv(path)

    def to_dict(self) -> dict[str, Any]:
        """Return number, way and evidence as plain values."""
        return {"number": self.number, "how": HOW, "evidence": list(self.evidence)}


def suggest_slides(data: Dataset, colours: Floats) -> SlideSuggestion:
    """Return suggested slides from the `acquisition` of every image, `(N, 6)`."""
    by_colour = _by_colour([s.image for s in data], colours)
    slides = joined_units(len(data), by_colour.tolist(), data.fields.tolist())
    names = [f"slide {number + 1}" for number in by_size(slides)]
    rows = []
    for name in sorted(set(names), key=lambda text: int(text.split()[1])):
        members = [i for i, other in enumerate(names) if other == name]
        middle = np.median(colours[members], axis=0)
        rows.append(
            {
                "slide": name,
                "images": len(members),
                "classes": dict(Counter(str(data.samples[i].label) for i in members)),
                "background": [round(float(v), 1) for v in middle[:3]],
                "stain": [round(float(v), 1) for v in middle[3:]],
            }
        )
    return SlideSuggestion(data, tuple(names), tuple(rows))


def _by_colour(images: Sequence[str], colours: Floats) -> Ints:
    """Return `(N,)` the number of the slide that each image is of by its name and its colours."""
    blocks = consecutive(images)
    number = np.zeros(len(images), dtype=np.int64)
    folders = [folder_of(images[block[0]]) for block in blocks]
    taken = 0
    for folder in dict.fromkeys(folders):
        inside = [block for block, of in zip(blocks, folders, strict=True) if of == folder]
        middles = np.stack([np.median(colours[block], axis=0) for block in inside])
        for block, slide in zip(inside, _without_turns(_near(middles, APART)), strict=True):
            number[block] = taken + slide
        taken = int(number.max()) + 1
    present = np.unique(number)
    middles = np.stack([np.median(colours[number == slide], axis=0) for slide in present])
    result: Ints = _near(middles, ALIKE)[np.searchsorted(present, number)]
    return result


def _near(middles: Floats, apart: float) -> Ints:
    """Return `(B,)` clusters of colours whose means lie less than `apart` from one another."""
    from sklearn.cluster import AgglomerativeClustering

    if len(middles) < 2:
        return np.zeros(len(middles), dtype=np.int64)
    clusters = AgglomerativeClustering(
        n_clusters=None, distance_threshold=apart, linkage="average"
    ).fit_predict(middles)
    return np.asarray(clusters, dtype=np.int64)


def _without_turns(clusters: Ints) -> Ints:
    """Return the clusters of blocks in order, those joined that alternate.

    Where a cluster comes back after another one, either one slide changed and changed back, or two
    lie mixed in the names; the blocks cannot tell which.
    """
    joined = clusters.copy()
    for cluster in np.unique(clusters):
        places = np.flatnonzero(clusters == cluster)
        between = np.unique(joined[places[0] : places[-1] + 1])
        joined[np.isin(joined, between)] = between[0]
    return np.unique(joined, return_inverse=True)[1].astype(np.int64)
