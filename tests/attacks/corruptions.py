"""Corrupted smears: a wrong answer must not be accepted; how many right ones stay so is measured.

The short form draws smears whose stain follows the class, which a network with random weights
learns: then what changes a colour changes the answer, and only the trust layer stands against that. The
six of the eleven kinds that need no more than Pillow are made here as medmnistc makes them. The long
form makes all of them, on real images, by `benchmarks/corruptions.py`.
"""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from attacks import Counts, Scale

TITLE = "Corrupted smears"

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
REAL = Path(__file__).parents[3] / "shared" / "data" / "taleqani" / "index.csv"
TWO = {"Benign": "Benign", "Early": "Benign", "Pre": "Pro", "Pro": "Pro"}
TINY = {"backbone": "timm:test_resnet", "weights": "none", "view": "rgb", "bag": "field"}


def run(scale: Scale, folder: Path) -> dict[str, Counts]:
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))
    return _drawn(folder) if scale == "short" else _real(folder)


def _drawn(folder: Path) -> dict[str, Counts]:
    import corruptions
    from left_out import Protocol

    import allkit
    from allkit.config import TrainConfig
    from allkit.data.drawn import write_smears

    data = allkit.Dataset.open(write_smears(folder, 64, groups=8, size=128, colour_cue=True))
    # Two classes of four slides each: enough of each for limits, and quickly trained.
    samples = [replace(s, label=TWO[s.label], slide=s.group, group=None, case=None) for s in data]
    data = allkit.Dataset(samples, ("Benign", "Pro"), name="drawn smears")
    place = np.arange(len(data)) // 8  # the slides take turns
    train, fields = data.subset(np.flatnonzero(place < 7)), data.subset(np.flatnonzero(place >= 7))
    protocol = Protocol(data, TrainConfig(**TINY), log=folder / "looks.csv")
    piece = corruptions.Piece("drawn", train, fields, ())
    parts = [corruptions.answered(protocol, piece, SIMPLE)]
    figures = corruptions.figures_of(corruptions.Corrupted.of(parts))
    # The light of a drawn slide never changes, so what is darker or brighter is unfamiliar at once: what
    # is still accepted is measured on real smears.
    return {"drawn smears, other fields of known slides": _counts(figures, "silent")}


def _real(folder: Path) -> dict[str, Counts]:
    import corruptions
    from left_out import Protocol

    import allkit
    from allkit.config import TrainConfig
    from allkit.features import FeatureCache

    why = "" if REAL.is_file() else "the real images (../shared/data) are not on this machine"
    try:
        kinds = corruptions.blood_corruptions()
    except ImportError as error:
        why = f"{error}: benchmarks/corruptions.py says what is needed"
    if why:
        return {f"left out: {why}": Counts()}
    config = TrainConfig(backbone="efficientnet-lite0")
    cache = FeatureCache(folder / "cache")
    data = allkit.Dataset.open(REAL)
    protocol = Protocol(data, config, cache=cache, log=folder / "looks.csv")
    # What is still accepted in grade 1 misses its goal of 80 % (docs/figures.md): measured, not demanded.
    return {
        f"real smears, {words}": _counts(corruptions.measured(protocol, step, kinds), "silent")
        for step, words in (("known", "known slides"), ("unseen", "slides left out"))
    }


def _counts(figures: dict[str, Any], demanded: str = "") -> Counts:
    """Count each demand of the figures (those that begin so) as one that holds or fails."""
    import corruptions

    counts = Counts()
    for demand, missed in corruptions.demands(figures).items():
        if not demand.startswith(demanded):
            continue
        if missed:
            counts.failed.append(f"{demand}: {missed}")
        else:
            counts.right += 1
    grades = figures["by grade"]
    corrupted = [row for grade, row in grades.items() if grade != "0"]
    counts.measured = {
        "pictures": sum(row["silent"][1] for row in corrupted),
        "class accepted without corruption %": _percent(grades["0"]["class accepted"]),
        "most silent errors in a grade %": max(_percent(row["silent"]) for row in corrupted),
        "class kept in grade 1 %": _percent(grades["1"]["class kept"]),
        "group kept in grade 1 %": _percent(grades["1"]["group kept"]),
    }
    return counts


def _percent(share: list[float]) -> float:
    return 100 * share[0] / share[1] if share[1] else 0.0


# ── the kinds that Pillow makes, with the strengths of medmnistc ────────────────────────────────


def _pixelated(image: Image.Image, strength: float) -> Image.Image:
    width, height = image.size
    small = image.resize((int(width * strength), int(height * strength)), Image.Resampling.BOX)
    return small.resize((width, height), Image.Resampling.BOX)


def _jpeg(image: Image.Image, strength: float) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(strength))
    return Image.open(file)


def _brightness(image: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(strength)


def _contrast(image: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(strength)


def _kind(make: Any, *strengths: float) -> Any:
    return lambda pixels, grade: np.asarray(make(Image.fromarray(pixels), strengths[grade - 1]))


SIMPLE = {
    "pixelate": _kind(_pixelated, 0.6, 0.5, 0.4, 0.3, 0.25),
    "jpeg_compression": _kind(_jpeg, 50, 30, 15, 10, 7),
    "brightness_up": _kind(_brightness, 1.1, 1.2, 1.3, 1.35, 1.4),
    "brightness_down": _kind(_brightness, 0.9, 0.8, 0.7, 0.6, 0.5),
    "contrast_up": _kind(_contrast, 1.1, 1.15, 1.2, 1.25, 1.3),
    "contrast_down": _kind(_contrast, 0.9, 0.8, 0.7, 0.6, 0.5),
}
