"""Parity: whether an exported file gives the answers of its model.

Without torch: a model is whatever answers, and `allkit verify` runs where only the file is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import zip_longest
from typing import Any, Protocol, Self

from allkit.errors import ExportError
from allkit.evaluation.parity_images import ParityImage, hash_of, parity_images, probe_images
from allkit.records import Prediction
from allkit.shown.html import fragment, paragraph
from allkit.types import Progress

__all__ = ["Answering", "ParityReport", "measure_parity", "parity_of"]

DIFFERENCE = 1e-4
"""Largest difference of a probability in float32."""
CLASSES, VERDICTS, ACCURACY = 0.005, 0.05, 0.003
"""Shares of the images, for int8: whose class may change, whose verdict, and of answers lost."""


class Answering(Protocol):
    """A model or an exported file."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""

    def stream(self, images: Any, *, batch_size: int = 16) -> Iterator[Prediction]:
        """Yield one answer per image, in order."""


@dataclass(frozen=True, repr=False)
class ParityReport:
    """How the answers of an exported file agree with those of its model, image by image.

    Both answered `images`; `same_class` and `same_verdict` count the answers that agree, and
    `difference` is the largest difference of a probability. `per_class` holds, for labelled images,
    how many there were of a class and how many of these model and file named rightly. `drawn` says
    that allkit drew the images; then nothing follows for real smears. `trained_on` of them are images
    that the model learnt from, so that its accuracy on them says little. `model`, `compared` and
    `calibrated` are hashes of the model and of the two sets, which share no image.
    """

    precision: str
    drawn: bool
    images: int
    same_class: int
    same_verdict: int
    difference: float
    unreadable: int = 0
    per_class: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    trained_on: int = 0
    calibrated_on: int = 0
    model: str = ""
    compared: str = ""
    calibrated: str = ""
    probes: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        kind = "drawn images" if self.drawn else "images"
        return (
            f"<ParityReport: {self.precision}, {self.images:,} {kind}; the same class on "
            f"{self.same_class:,}, the same verdict on {self.same_verdict:,}>"
        )

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        short = self.shortfalls()
        kind = "caution" if short else "good"
        text = "; ".join(short) if short else "The file gives the answers of its model."
        lines = (paragraph(line.strip().removeprefix("CAUTION  ")) for line in self.lines())
        return fragment(paragraph(text, kind), *lines)

    @property
    def accuracy(self) -> tuple[float, float] | None:
        """Share of labelled images that the model and the file name rightly; `None` without."""
        total = sum(row[0] for row in self.per_class.values())
        if not total:
            return None
        right = [sum(row[k] for row in self.per_class.values()) for k in (1, 2)]
        return right[0] / total, right[1] / total

    def shortfalls(self) -> list[str]:
        """Return where the answers of the file differ from the model's, in words; empty if nowhere.

        float32: no class and no verdict differs, no probability by more than 0.0001. int8: at
        most 0.5 % of the classes and 5 % of the verdicts differ, and at most 0.3 % of the right
        answers are lost; of few images, one.
        """
        exact = self.precision == "float32"
        changed, judged = self.images - self.same_class, self.images - self.same_verdict
        reasons = []
        if not self.images:
            reasons.append("no image could be compared")
        if changed > (0 if exact else math.ceil(CLASSES * self.images)):
            reasons.append(f"{changed} of {self.images} images get another class")
        if judged > (0 if exact else math.ceil(VERDICTS * self.images)):
            reasons.append(f"{judged} of {self.images} images get another verdict")
        if exact and not self.difference <= DIFFERENCE:
            reasons.append(f"the probabilities differ by up to {self.difference:.2g}")
        total, model, file = (sum(row[k] for row in self.per_class.values()) for k in range(3))
        if not exact and total and model - file > math.ceil(ACCURACY * total):
            reasons.append(f"the file names {file} of {total} images rightly, the model {model}")
        return reasons

    def lines(self) -> list[str]:
        """Return the report in sentences, one a line."""
        kind = "drawn images" if self.drawn else "images"
        lines = [
            f"On {self.images:,} {kind}: the same class on {self.same_class:,}, the same verdict on "
            f"{self.same_verdict:,}; probabilities differ by at most {self.difference:.1g}."
        ]
        if self.drawn:
            lines.append(
                "The images were drawn by allkit: this says nothing about real smears. "
                "Give --data real ones."
            )
        if self.calibrated_on:
            lines.append(
                f"Calibrated on {self.calibrated_on} images, none of which is among these."
            )
        if self.unreadable:
            lines.append(f"{self.unreadable} further images could be read by neither.")
        if self.accuracy is not None:
            model, file = self.accuracy
            lines.append(f"Accuracy: model {model:.4f}, file {file:.4f}.")
            for name, (count, ours, theirs) in self.per_class.items():
                lines.append(f"  {name}: {count} images, model {ours} right, file {theirs} right.")
            if self.trained_on:
                lines.append(
                    f"CAUTION  {self.trained_on} of these {self.images} images were trained on: the "
                    f"accuracy is too high."
                )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Take what `to_dict` made; keys of a newer version are left out."""
        names = {field.name for field in fields(cls)}
        arguments = {key: value for key, value in values.items() if key in names}
        per_class = arguments.get("per_class", {})
        arguments["per_class"] = {name: tuple(row) for name, row in per_class.items()}
        return cls(**arguments)


def measure_parity(
    model: Answering,
    file: Answering,
    compared: Sequence[ParityImage],
    *,
    precision: str,
    drawn: bool = False,
    progress: Progress | None = None,
) -> ParityReport:
    """Let both answer every image, a few at a time, and return how the answers compare.

    Without `compared` the drawn `probe_images` are used. `drawn` says that allkit drew the
    images. Raises `ExportError` when the classes differ.
    """
    if tuple(model.classes) != tuple(file.classes):
        raise ExportError(
            f"The file knows the classes {', '.join(file.classes)}, the model "
            f"{', '.join(model.classes)}. Compare a file with the model it was exported from."
        )
    drawn = drawn or not compared
    chosen = list(compared) or parity_images(probe_images())
    labelled = all(image.label in model.classes for image in chosen)
    images, same_class, same_verdict, unreadable, difference = 0, 0, 0, 0, 0.0
    counts: dict[str, list[int]] = {name: [0, 0, 0] for name in model.classes}
    pairs = zip_longest(
        chosen,
        model.stream(image.read() for image in chosen),
        file.stream(image.read() for image in chosen),
    )
    for number, (image, ours, theirs) in enumerate(pairs, start=1):
        if progress:
            progress("compared", number, len(chosen))
        if image is None or ours is None or theirs is None:
            raise ExportError("The file does not give one answer for each image.")
        if "unreadable" in (ours.verdict, theirs.verdict):
            unreadable += 1
            # An image that only one of them can read is a difference.
            images += ours.verdict != theirs.verdict
            continue
        images += 1
        same_class += ours.label == theirs.label
        same_verdict += ours.verdict == theirs.verdict
        apart = [abs(ours.probabilities[n] - theirs.probabilities[n]) for n in model.classes]
        worst = max(apart, key=lambda value: value if value == value else math.inf)
        difference = max(difference, worst if worst == worst else math.inf)
        if labelled and image.label is not None:
            row = counts[image.label]
            row[0] += 1
            row[1] += ours.label == image.label
            row[2] += theirs.label == image.label
    return ParityReport(
        precision=precision,
        drawn=drawn,
        images=images,
        same_class=same_class,
        same_verdict=same_verdict,
        difference=difference,
        unreadable=unreadable,
        per_class={name: (row[0], row[1], row[2]) for name, row in counts.items() if row[0]},
        compared=hash_of(chosen),
    )


def parity_of(file: Any, name: str) -> ParityReport:
    """Return the report that an opened file holds; raise `ExportError` when it has none."""
    values = getattr(file, "info", {}).get("proof")
    if not isinstance(values, dict):
        raise ExportError(
            f"{name} has no parity report: it was exported by an older allkit, or its exporter keeps "
            f"none. Export the model again, or compare it: allkit verify {name} MODEL DATA"
        )
    return ParityReport.from_dict(values)
