"""Whether an exported file answers like its model, and what is kept of that in the file.

Without torch: a model is whatever answers, and `allkit verify` runs where only the file is used.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import zip_longest
from typing import Any, Protocol, Self

import numpy as np
from PIL import Image

from allkit.data.dataset import Dataset
from allkit.data.drawn import draw_smears
from allkit.errors import ExportError
from allkit.images.decode import read_image
from allkit.records import Prediction
from allkit.types import Pixels, Progress

__all__ = [
    "ParityReport",
    "Repeated",
    "Subject",
    "compare",
    "divide",
    "parity_of",
    "probes",
    "repeat",
]
__all__ += ["sample", "subjects"]


DIFFERENCE = 1e-4
"""Largest difference of a probability in float32."""
CLASSES, VERDICTS, ACCURACY = 0.005, 0.05, 0.003
"""Shares of the images, for int8: whose class may change, whose verdict, and of answers lost."""
FEWEST, CALIBRATED_ON = 32, 128
"""Images that int8 needs, and takes at most, to calibrate."""
COMPARED = 1000
"""Images of a set that are compared at most."""
HELD_OUT = 4
"""Where the calibrating images are also those to compare on, a fourth is kept for that."""
ELSEWHERE = {"float32": 1e-3, "int8": 0.05}
"""Difference of a probability that another machine or version of the engine may make."""
LARGEST = 768
"""Pixels; larger images are shrunk before they calibrate, so that all of them fit into memory."""


class Answering(Protocol):
    """A model or an exported file."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""

    def stream(self, images: Any, *, batch_size: int = 16) -> Iterator[Prediction]:
        """Yield one answer per image, in order."""


@dataclass(frozen=True)
class Subject:
    """One image to compare or to calibrate on; `read` gives its file's bytes or its pixels."""

    read: Callable[[], Any]
    digest: str
    label: str | None = None


@dataclass(frozen=True)
class ParityReport:
    """How an exported file compared with its model, image by image.

    `images` were answered by both: `same_class` and `same_verdict` of them alike, no probability
    further apart than `difference`. `per_class` holds, for images with labels, how many there
    were of a class and how many of them model and file named rightly. `drawn` says that the
    images were drawn by the program; then nothing follows for real smears. `model`, `compared`
    and `calibrated` are hashes of the model and of the two sets, of which no image is on both.
    """

    precision: str
    drawn: bool
    images: int
    same_class: int
    same_verdict: int
    difference: float
    unreadable: int = 0
    per_class: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    calibrated_on: int = 0
    model: str = ""
    compared: str = ""
    calibrated: str = ""
    probes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def accuracy(self) -> tuple[float, float] | None:
        """Share of labelled images that the model and the file name rightly; `None` without."""
        total = sum(row[0] for row in self.per_class.values())
        if not total:
            return None
        right = [sum(row[k] for row in self.per_class.values()) for k in (1, 2)]
        return right[0] / total, right[1] / total

    def shortfalls(self) -> list[str]:
        """Return in what the file does not answer like the model, in words; empty if it does.

        float32: no class and no verdict differs, no probability by more than 0.0001. int8: at
        most 0.5 % of the classes and 5 % of the verdicts differ, and at most 0.3 % of the right
        answers are lost; of few images, one.
        """
        exact = self.precision == "float32"
        changed, judged = self.images - self.same_class, self.images - self.same_verdict
        found = []
        if not self.images:
            found.append("no image could be compared")
        if changed > (0 if exact else math.ceil(CLASSES * self.images)):
            found.append(f"{changed} of {self.images} images get another class")
        if judged > (0 if exact else math.ceil(VERDICTS * self.images)):
            found.append(f"{judged} of {self.images} images get another verdict")
        if exact and not self.difference <= DIFFERENCE:
            found.append(f"the probabilities differ by up to {self.difference:.2g}")
        total, model, file = (sum(row[k] for row in self.per_class.values()) for k in range(3))
        if not exact and total and model - file > math.ceil(ACCURACY * total):
            found.append(f"the file names {file} of {total} images rightly, the model {model}")
        return found

    def lines(self) -> list[str]:
        """Return what was found, a sentence a line."""
        kind = "drawn images" if self.drawn else "images"
        lines = [
            f"On {self.images:,} {kind}: the same class on {self.same_class:,}, the same verdict on "
            f"{self.same_verdict:,}; probabilities differ by at most {self.difference:.1g}."
        ]
        if self.drawn:
            lines.append(
                "The images were drawn by allkit; give --data real ones for a proof that counts."
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
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Take what `to_dict` made; what is not known is left out."""
        known = {f.name for f in fields(cls)}
        own = {key: value for key, value in values.items() if key in known}
        own["per_class"] = {k: tuple(v) for k, v in own.get("per_class", {}).items()}
        return cls(**own)


# ── images ─────────────────────────────────────────────────────────────────────────────────────


def subjects(images: Dataset | Sequence[Pixels]) -> list[Subject]:
    """Return the images of a set, or `(H, W, 3)` uint8 arrays, one by one."""
    if isinstance(images, Dataset):
        return [
            Subject(sample.source.read, digest, sample.label)
            for sample, digest in zip(images, images.hashes, strict=True)
        ]
    # A default gives an argument of a lambda no type.
    return [Subject(lambda image=image: image, _digest(image)) for image in images]  # type: ignore[misc]


def probes() -> list[Pixels]:
    """Return the drawn images on which every exported file keeps its answers."""
    return [field.image for field in draw_smears(8, groups=8, seed=20)]


def divide(
    calibration: Dataset | Sequence[Pixels] | None, check: Dataset | Sequence[Pixels] | None
) -> tuple[list[Subject], list[Subject]]:
    """Return the images to calibrate on and those to compare on; none is among both.

    Without `check`, or where it holds calibrating images, a fourth of these is kept for the
    comparison. Raises `ExportError` when too few are left to calibrate.
    """
    compared = subjects(check) if check is not None else []
    if calibration is None:
        return [], sample(compared, COMPARED)
    given = subjects(calibration)
    shared = not compared or not {s.digest for s in given}.isdisjoint(s.digest for s in compared)
    chosen = sample(given, len(given) - len(given) // HELD_OUT) if shared else given
    if len(chosen) < FEWEST:
        kept = f" ({len(given)} less a fourth to compare on)" if shared else ""
        wanted = math.ceil(FEWEST * HELD_OUT / (HELD_OUT - 1)) if shared else FEWEST
        raise ExportError(
            f"There are {len(chosen)} images to calibrate int8 on{kept}, and it needs {FEWEST} at "
            f"least. Give --calibrate a set of {wanted} or more training images."
        )
    chosen = sample(chosen, CALIBRATED_ON)
    used = {s.digest for s in chosen}
    compared = [s for s in compared or given if s.digest not in used]
    return chosen, sample(compared, COMPARED)


def sample(items: Sequence[Subject], count: int) -> list[Subject]:
    """Return at most `count` of `items` in their order: always the same, and of every kind.

    Chosen by their hashes: places at equal distances could all be of one class.
    """
    last = sorted(s.digest for s in items)[:count]
    return [s for s in items if s.digest <= last[-1]][:count] if last else []


def pixels_of(chosen: Sequence[Subject]) -> list[Pixels]:
    """Return the images themselves, the larger ones shrunk to 768 pixels a side."""
    images = []
    for subject in chosen:
        image = read_image(subject.read())
        if max(image.shape[:2]) > LARGEST:
            small = Image.fromarray(image)
            small.thumbnail((LARGEST, LARGEST), Image.Resampling.BILINEAR)
            image = np.asarray(small)
        images.append(image)
    return images


def hash_of(chosen: Sequence[Subject]) -> str:
    """Return one hash of many images, in whatever order they come; empty for none."""
    text = " ".join(sorted(s.digest for s in chosen))
    return hashlib.sha256(text.encode()).hexdigest()[:32] if chosen else ""


def _digest(image: Pixels) -> str:
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


# ── comparing ──────────────────────────────────────────────────────────────────────────────────


def compare(
    model: Answering,
    file: Answering,
    compared: Sequence[Subject],
    *,
    precision: str,
    drawn: bool = False,
    progress: Progress | None = None,
) -> ParityReport:
    """Ask both about every image, few at a time, and return how the answers compare.

    Without `compared` the probes are taken. `drawn` says that the program drew the images. Raises
    `ExportError` when the classes differ.
    """
    if tuple(model.classes) != tuple(file.classes):
        raise ExportError(
            f"The file knows the classes {', '.join(file.classes)}, the model "
            f"{', '.join(model.classes)}. Compare a file with the model it was exported from."
        )
    drawn = drawn or not compared
    chosen = list(compared) or subjects(probes())
    labelled = all(subject.label in model.classes for subject in chosen)
    images, same_class, same_verdict, unreadable, difference = 0, 0, 0, 0, 0.0
    counts: dict[str, list[int]] = {name: [0, 0, 0] for name in model.classes}
    pairs = zip_longest(
        chosen,
        model.stream(subject.read() for subject in chosen),
        file.stream(subject.read() for subject in chosen),
    )
    for number, (subject, ours, theirs) in enumerate(pairs, start=1):
        if progress:
            progress("compared", number, len(chosen))
        if subject is None or ours is None or theirs is None:
            raise ExportError("The file does not give one answer for each image.")
        if "unreadable" in (ours.verdict, theirs.verdict):
            unreadable += 1
            # Whatever only one of them can read is a difference.
            images += ours.verdict != theirs.verdict
            continue
        images += 1
        same_class += ours.label == theirs.label
        same_verdict += ours.verdict == theirs.verdict
        apart = [abs(ours.probabilities[n] - theirs.probabilities[n]) for n in model.classes]
        worst = max(apart, key=lambda value: value if value == value else math.inf)
        difference = max(difference, worst if worst == worst else math.inf)
        if labelled and subject.label is not None:
            row = counts[subject.label]
            row[0] += 1
            row[1] += ours.label == subject.label
            row[2] += theirs.label == subject.label
    return ParityReport(
        precision, drawn, images, same_class, same_verdict, difference, unreadable=unreadable,
        per_class={n: (r[0], r[1], r[2]) for n, r in counts.items() if r[0]},
        compared=hash_of(chosen),
    )  # fmt: skip


def answers_on_probes(file: Answering) -> dict[str, Any]:
    """Return what a file says on the probes, and a hash of each of these, as plain values."""
    images = probes()
    found = list(file.stream(images))
    return {
        "sha256": [_digest(image)[:16] for image in images],
        "verdicts": [answer.verdict for answer in found],
        "probabilities": [
            [round(answer.probabilities[name], 6) for name in file.classes] for answer in found
        ],
    }


@dataclass(frozen=True)
class Repeated:
    """What a file says today on the probes, beside what it said when it was exported.

    `alike` is false when this machine draws other probes, so that nothing can be told.
    """

    images: int
    same_class: int
    same_verdict: int
    difference: float
    alike: bool
    precision: str

    def shortfalls(self) -> list[str]:
        """Return in what the file answers otherwise than when it was exported, in words."""
        if not self.alike:
            return ["this machine draws other probes, so that answers cannot be compared"]
        found = []
        if self.same_class < self.images:
            found.append(
                f"{self.images - self.same_class} of {self.images} probes get another class"
            )
        if not self.difference <= ELSEWHERE.get(self.precision, ELSEWHERE["float32"]):
            found.append(f"the probabilities on probes differ by up to {self.difference:.2g}")
        return found


def parity_of(file: Any, name: str) -> ParityReport:
    """Return the proof that an opened file carries; raise `ExportError` when it has none."""
    values = getattr(file, "info", {}).get("proof")
    if not isinstance(values, dict):
        raise ExportError(
            f"{name} carries no proof: it was exported by an older allkit, or its exporter keeps "
            f"none. Export the model again, or compare it: allkit verify {name} MODEL DATA"
        )
    return ParityReport.from_dict(values)


def repeat(file: Answering, proof: ParityReport) -> Repeated:
    """Ask a file about the probes again, and return how that compares with its proof."""
    now, then = answers_on_probes(file), proof.probes
    ours, theirs = np.array(now["probabilities"]), np.array(then["probabilities"])
    margin = ELSEWHERE.get(proof.precision, ELSEWHERE["float32"])
    # Where two classes were closer than what may differ, either may come first.
    two = np.sort(theirs, axis=1)[:, -2:]
    same = (ours.argmax(axis=1) == theirs.argmax(axis=1)) | (two[:, 1] - two[:, 0] < margin)
    verdicts = sum(a == b for a, b in zip(now["verdicts"], then["verdicts"], strict=True))
    difference = float(np.abs(ours - theirs).max())
    return Repeated(
        len(ours), int(same.sum()), int(verdicts), difference if difference == difference else math.inf,
        now["sha256"] == then["sha256"], proof.precision,
    )  # fmt: skip
