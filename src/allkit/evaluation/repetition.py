"""The answers of an exported file on drawn images, compared again on the machine that uses it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from allkit.evaluation.parity import Answering, ParityReport
from allkit.evaluation.parity_images import pixel_hash, probe_images

__all__ = ["Repeated", "answers_on_probes", "repeat"]

ELSEWHERE = {"float32": 1e-3, "int8": 0.05}
"""Largest difference of a probability that counts as the same on another machine or engine."""


def answers_on_probes(file: Answering) -> dict[str, Any]:
    """Return the answers of a file on the drawn images, and a hash of each, as plain values."""
    images = probe_images()
    answers = list(file.stream(images))
    return {
        "sha256": [pixel_hash(image)[:16] for image in images],
        "verdicts": [answer.verdict for answer in answers],
        "probabilities": [
            [round(answer.probabilities[name], 6) for name in file.classes] for answer in answers
        ],
    }


@dataclass(frozen=True)
class Repeated:
    """The answers of a file on the drawn images today, compared with those at its export.

    `alike` is false when this machine draws other images, so that answers cannot be compared.
    """

    images: int
    same_class: int
    same_verdict: int
    difference: float
    alike: bool
    precision: str

    def shortfalls(self) -> list[str]:
        """Return how the answers differ from those at the export, in words."""
        if not self.alike:
            return ["this machine draws other probes, so that answers cannot be compared"]
        reasons = []
        if self.same_class < self.images:
            reasons.append(
                f"{self.images - self.same_class} of {self.images} probes get another class"
            )
        if not self.difference <= ELSEWHERE.get(self.precision, ELSEWHERE["float32"]):
            reasons.append(f"the probabilities on probes differ by up to {self.difference:.2g}")
        return reasons


def repeat(file: Answering, report: ParityReport) -> Repeated:
    """Let a file answer the drawn images again, and compare the answers with its report."""
    now, then = answers_on_probes(file), report.probes
    ours, theirs = np.array(now["probabilities"]), np.array(then["probabilities"])
    margin = ELSEWHERE.get(report.precision, ELSEWHERE["float32"])
    # Where two classes were closer than the tolerance, either may come first.
    two = np.sort(theirs, axis=1)[:, -2:]
    same = (ours.argmax(axis=1) == theirs.argmax(axis=1)) | (two[:, 1] - two[:, 0] < margin)
    verdicts = sum(a == b for a, b in zip(now["verdicts"], then["verdicts"], strict=True))
    difference = float(np.abs(ours - theirs).max())
    return Repeated(
        images=len(ours),
        same_class=int(same.sum()),
        same_verdict=verdicts,
        difference=math.inf if math.isnan(difference) else difference,
        alike=now["sha256"] == then["sha256"],
        precision=report.precision,
    )
