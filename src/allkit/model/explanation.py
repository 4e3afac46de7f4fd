"""The explanation of an answer: a map of where the network looked, and whether it can be believed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from allkit.data.labels import display_name
from allkit.files import write_whole
from allkit.images.statistics import cell_mask
from allkit.records import Prediction
from allkit.report.pictures import Example, explanation_picture
from allkit.shown.answer import share_text
from allkit.types import Singles

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Explanation", "Faithfulness"]

ALIKE = 0.8
"""Correlation with the map of randomised weights above which a map does not show the model."""


@dataclass(frozen=True)
class Faithfulness:
    """Whether a map shows what the answer rests on.

    `deletion`: mean probability of the class while the field is covered, the strongest places of
    the map first (lower is better); `insertion`: while a covered field is uncovered in that order
    (higher is better). Both have a counterpart for squares in random order (Petsiuk et al. 2018).
    `random_weights`: correlation with the map of the same network with shuffled weights, which
    must be another map (Adebayo et al. 2018).
    """

    deletion: float
    deletion_random: float
    insertion: float
    insertion_random: float
    random_weights: float
    curves: dict[str, list[float]] = field(default_factory=dict, repr=False)

    @property
    def faithful(self) -> bool:
        """Whether the map does better than chance both ways and depends on the weights."""
        return (
            self.deletion < self.deletion_random
            and self.insertion > self.insertion_random
            and self.random_weights < ALIKE
        )

    def in_words(self) -> str:
        """Return the finding as one sentence."""
        if self.faithful:
            return (
                "The map was checked: covering what it marks changes the answer more than chance."
            )
        faults = []
        if self.deletion >= self.deletion_random:
            faults.append("covering what it marks changes the answer no more than chance")
        if self.insertion <= self.insertion_random:
            faults.append("what it marks alone does not bring the answer back sooner than chance")
        if self.random_weights >= ALIKE:
            faults.append("random weights give almost the same map")
        return f"Do not rely on this map: {'; '.join(faults)}."


@dataclass(frozen=True, repr=False)
class Explanation:
    """A map for one answer, `(H, W)` float32 from 0 to 1, with what is needed to judge it.

    `target` is the class it explains. `method` names the explainer, with its package where that is
    not allkit, `settings` are those it had, and `title` is how pictures call it. `on_cells` is the
    share of the map that lies on stained cells (`None` where the map is of cells only), `cell_area`
    their share of the field.
    `neighbours` are the nearest training examples.
    """

    answer: Prediction
    target: str
    method: str
    layer: str | None
    map: Singles
    image: npt.NDArray[np.uint8] = field(repr=False)
    on_cells: float | None
    cell_area: float
    check: Faithfulness | None
    neighbours: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()
    title: str = field(kw_only=True)
    settings: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def __repr__(self) -> str:
        answer = self.answer
        checked = "not checked"
        if self.check is not None:
            checked = "faithful" if self.check.faithful else "not to be relied on"
        return (
            f"<Explanation of {answer.image!r}: what speaks for {self.target} ({self.title}), "
            f"{answer.verdict}, {checked}>"
        )

    def _repr_png_(self) -> bytes:
        return self.to_png({self.target: display_name(self.target)})

    def show(self) -> Image.Image:
        """Return the picture as a Pillow image, which a notebook shows; `.show()` of it opens a window."""
        from PIL import Image

        return Image.open(io.BytesIO(self._repr_png_()))

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values; the map itself is in the picture."""
        check = None
        if self.check is not None:
            names = [field.name for field in fields(self.check) if field.name != "curves"]
            check = {name: getattr(self.check, name) for name in (*names, "faithful")}
        return {
            "answer": self.answer.to_dict(),
            "target": self.target,
            "method": self.method,
            "settings": dict(self.settings),
            "layer": self.layer,
            "on_cells": self.on_cells,
            "cell_area": self.cell_area,
            "check": check,
            "neighbours": [
                {"image": n.name, "label": n.label, "distance": n.distance} for n in self.neighbours
            ],
            "notes": list(self.notes),
        }

    def to_png(self, names: dict[str, str] | None = None) -> bytes:
        """Return everything as one picture; `names` maps classes to what is shown for them."""
        names = names or {}
        return explanation_picture(
            self.image,
            self.map,
            cell_mask(self.image),
            title=f"What speaks for {names.get(self.target, self.target)} ({self.title})",
            lines=self.lines(names),
            examples=self.neighbours,
            curves=self.check.curves if self.check else {},
        )

    def lines(self, names: dict[str, str]) -> list[str]:
        """Return the sentences that are shown beside the map."""
        answer = self.answer
        number = share_text(answer.probability or 0.0)
        best = f"{names.get(str(answer.label), str(answer.label))} ({number})"
        reasons = "; ".join(answer.reasons)
        text = {
            "accepted": [f"Accepted: {best}."],
            "review": [f"For review: {reasons}.", f"Most probable: {best}."],
        }.get(answer.verdict, [f"No answer: {reasons}.", "Its map means nothing."])
        if self.on_cells is not None:
            text.append(
                f"{self.on_cells:.0%} of the map lies on stained cells, which cover "
                f"{self.cell_area:.0%} of the field."
            )
        if self.check is not None:
            text.append(self.check.in_words())
        if self.settings:
            made = ", ".join(f"{name} {_shown(value)}" for name, value in self.settings.items())
            text.append(f"The map was made with {made}.")
        return [*text, *self.notes]

    def save(self, path: str | Path, names: dict[str, str] | None = None) -> Path:
        """Write the picture, whole or not at all, and return its path."""
        write_whole(Path(path), self.to_png(names))
        return Path(path)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
