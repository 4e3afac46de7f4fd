"""What the corners of images tell of their classes before and after cleaning, in figures and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from allkit.data.dataset import Dataset
from allkit.evaluation import shortcuts as probes
from allkit.evaluation.shortcuts import CORNER, Probe, corners_of
from allkit.quality.treatment import Box, Treatment
from allkit.types import Bytes, Indices, Pixels, Progress

__all__ = ["CORNERS", "Corners", "Seen", "Verdict", "in_words", "judged"]

Verdict = Literal["chance", "crop", "field", "unknown"]

CORNERS = {
    "corner_tl": "top left",
    "corner_tr": "top right",
    "corner_bl": "bottom left",
    "corner_br": "bottom right",
}
"""The probes of the corners, as `allkit audit` calls them, and the corners in words."""

_ELSE = (
    "train with `view: haematoxylin` (the default), which shows no colours, and quote figures on unseen "
    "slides (`allkit split --scheme leave-one-group-out`)"
)


@dataclass(frozen=True)
class Corners:
    """The probes of the four corners `before` and `after`, and what follows from them.

    `cropped` are those of the images with the marks cut off instead of painted over; empty where that
    was not measured. `verdict` is `chance` when no corner that was treated tells the class, `crop` when
    cropping is needed, `field` when a corner tells it where no mark is left, `unknown` when nothing
    could be measured.
    """

    before: tuple[Probe, ...]
    after: tuple[Probe, ...]
    cropped: tuple[Probe, ...]
    chance: float
    unit: str
    verdict: Verdict
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""

        def figures(found: Sequence[Probe]) -> dict[str, Any]:
            return {
                p.name: {"balanced_accuracy": p.balanced_accuracy, "interval": [p.low, p.high]}
                for p in found
            }

        return {
            "verdict": self.verdict,
            "message": self.message,
            "chance": self.chance,
            "unit": self.unit,
            "before": figures(self.before),
            "after": figures(self.after),
            "cropped_instead": figures(self.cropped),
        }


class Seen:
    """What the probes see of the corners of N images: 1 KB an image; filled from any thread."""

    def __init__(self, count: int) -> None:
        self._table: Bytes = np.zeros((count, len(CORNERS), 240), np.uint8)

    def add(self, index: int, image: Pixels) -> None:
        """Add image `index`, (H, W, 3) uint8."""
        seen = corners_of(image)
        self._table[index] = np.stack([seen[name].ravel() for name in CORNERS])

    def of(self, indices: Indices) -> dict[str, npt.NDArray[np.float32]]:
        """Return what each probe sees of the images at `indices`, (M, 240) float32 by its name."""
        return {
            name: self._table[indices, place].astype(np.float32)
            for place, name in enumerate(CORNERS)
        }


def judged(
    data: Dataset,
    treatment: Treatment,
    seen: tuple[Seen, Seen, Seen | None],
    *,
    indices: Indices,
    progress: Progress | None = None,
) -> Corners:
    """Return how well the corners of the images at `indices` tell the classes, as `allkit audit` does.

    `seen` holds the corners before, after, and with the marks cut off instead, where that is to be
    measured if it is needed.
    """
    chosen = data.subset(indices)
    labels, units = chosen.labels, data.fields[indices]
    chance = 1 / max(1, len(np.unique(labels)))
    unit = "group" if data.has_groups else "field"
    reason = probes.too_few(labels, units, data.classes)
    if reason is not None:
        message = (
            f"Whether a corner tells the class could not be measured: {reason}. Give images of further "
            f"slides or finer groups."
        )
        return Corners((), (), (), chance=chance, unit=unit, verdict="unknown", message=message)
    done = 0

    def scored(one: Seen) -> tuple[Probe, ...]:
        nonlocal done
        done += 1
        if progress:
            progress("corners", done - 1, 3)
        return tuple(probes.score(one.of(indices), labels, units, names=list(CORNERS)))

    before, after = scored(seen[0]), scored(seen[1])
    treated = _treated(treatment)
    told = [probe for probe in after if probe.name in treated and probe.low > chance]
    cropped = scored(seen[2]) if told and seen[2] is not None else ()
    if progress:
        progress("corners", 3, 3)
    verdict, message = in_words(before, after, cropped, treatment=treatment, chance=chance)
    return Corners(
        before, after, cropped, chance=chance, unit=unit, verdict=verdict, message=message
    )


def _treated(treatment: Treatment) -> set[str]:
    """Return the corners that should tell nothing: those that were painted, or else all."""
    return set(CORNERS) if treatment.cut else _painted(treatment) or set(CORNERS)


def _painted(treatment: Treatment) -> set[str]:
    """Return the corners of which a part was painted over."""
    height, width = CORNER
    places: dict[str, Box] = {
        "corner_tl": (0, 0, width, height),
        "corner_tr": (1 - width, 0, 1, height),
        "corner_bl": (0, 1 - height, width, 1),
        "corner_br": (1 - width, 1 - height, 1, 1),
    }
    return {name for name, place in places.items() if treatment.paints(place)}


def in_words(
    before: Sequence[Probe],
    after: Sequence[Probe],
    cropped: Sequence[Probe],
    *,
    treatment: Treatment,
    chance: float,
) -> tuple[Verdict, str]:
    """Return the verdict, and the sentences that go with it."""
    treated = _treated(treatment)
    own = [probe for probe in after if probe.name in treated]
    told = [probe for probe in own if probe.low > chance]
    first = (told or own)[0]
    former = next(probe for probe in before if probe.name == first.name)
    figures = f"balanced accuracy {_figure(first)}, before {_figure(former)}, where chance is {chance:.2f}"
    name = CORNERS[first.name]
    if not told:
        if len(own) == 1:
            which = f"The {name} corner, which was painted over, does not tell"
        elif len(own) == len(CORNERS):
            which = "No corner tells"
        else:
            which = "No corner that was painted over tells"
        most = "" if len(own) == 1 else f"at most (the {name} one) "
        text = f"{which} the class: {most}{figures}."
        others = [p for p in after if p.name not in treated and p.low > chance]
        if others:
            text += (
                f" The {CORNERS[others[0].name]} corner, where no mark was found, gets "
                f"{_figure(others[0])}. That is the field itself, its stain or its light; neither paint nor "
                f"cropping takes it away: {_ELSE}."
            )
        return "chance", text
    still = f"The {name} corner tells the class: {figures}."
    if treatment.cut:
        return "field", (
            f"{still} The marks that were found are cut off, so look at that corner: either a mark is left "
            f"(cut it off with `--region`), or it is the field itself, its stain or its light: then {_ELSE}."
        )
    if not _painted(treatment):
        return "field", (
            f"{still} Nothing was painted over in any corner. Look at that corner: where it bears a mark, "
            f"name its place with `--region`; where it bears none, it is the field itself, its stain or its "
            f"light: {_ELSE}."
        )
    text = f"Cropping is needed (`--marks crop`). {still}"
    if cropped:
        best = cropped[0]
        text += f" With the marks cut off, the strongest corner gets {_figure(best)}"
        text += (
            ", within chance."
            if best.low <= chance
            else f": the field itself tells the class there, its stain or its light, so cropping alone is "
            f"not enough: {_ELSE}."
        )
    return "crop", text


def _figure(probe: Probe) -> str:
    return f"{probe.balanced_accuracy:.3f} ({probe.low:.3f}–{probe.high:.3f})"
