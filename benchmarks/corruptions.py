#!/usr/bin/env python
"""Corrupted smears: is a wrong answer accepted, and is what was accepted before still accepted?

    pip install --target corr --no-deps medmnistc wand scikit-image lazy_loader imageio tifffile
    PYTHONPATH=corr python benchmarks/corruptions.py --data index.csv --answers folder --out corruptions.json

The table must have the column `slide`. The corruptions are the eleven kinds in five grades by which
medmnistc (Di Salvo et al. 2024, Apache-2.0) makes BloodMNIST-C of BloodMNIST; motion blur needs the
library of ImageMagick (`libmagickwand`). Their strengths are those for images of 224 × 224, and a field is
corrupted at the size that it has, so a field should have about that size. Of each slide, fields are drawn
with a fixed seed, one of each cluster of near-duplicates; the same ones in every step, where there are.

`known`: a division by group; the fields of the smaller part are answered by a model that was trained on
the other, so on other fields of their slides. `unseen`: each slide left out alone. `pairs`: each pair of
a benign and a malignant slide left out. A *silent error* is an answer that was accepted with a wrong
label, as a share of all pictures: of the class, of the group (benign or malignant), or of either. *Kept*
is the share that is still accepted of what was accepted without a corruption. Intervals (95 %) resample
slides.

`--answers` keeps the answers of each training, so that a run that was ended goes on. Whatever judges a slide
left out is written into `benchmarks/looks.csv` before it is shown.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import looks
import numpy as np
import numpy.typing as npt
from left_out import Answers, Protocol, without
from PIL import Image
from slide_draws import clusters_of

import allkit
from allkit.config import TrainConfig
from allkit.config.files import override
from allkit.data.sources import BytesSource
from allkit.evaluation.result import bootstrap
from allkit.features import FeatureCache
from allkit.model.classifier import Classifier

Pixels = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Corrupt = Callable[[Pixels, int], Pixels]
"""Gives an image `(H, W, 3)` uint8 in a grade of 1 to 5."""
Figures = dict[str, Any]

STEPS = ("known", "unseen", "pairs")
GRADES = (1, 2, 3, 4, 5)
CLEAN = "as it is"
FIELDS = 12  # of each slide
TEST = 0.3  # share of the images that is not trained on in the step `known`
MOST_SILENT, LEAST_KEPT = 0.02, 0.80  # what must hold in each grade; and in the first


# ── the pictures ────────────────────────────────────────────────────────────────────────────────


def blood_corruptions() -> dict[str, Corrupt]:
    """Return the corruptions of BloodMNIST-C by name; raises `ImportError` without medmnistc."""
    from medmnistc.corruptions.registry import CORRUPTIONS_DS

    def one(corruption: Any) -> Corrupt:
        def corrupt(image: Pixels, grade: int) -> Pixels:
            # It reads bytes with a function that numpy has no longer.
            with mock.patch.object(np, "fromstring", np.frombuffer):
                result: Pixels = corruption.apply(Image.fromarray(image), grade - 1)
            return result

        return corrupt

    return {name: one(corruption) for name, corruption in CORRUPTIONS_DS["bloodmnist"].items()}


def corrupted(image: Pixels, corrupt: Corrupt, grade: int, seed: str) -> Pixels:
    """Return the image in a grade of a corruption, always the same for the same seed."""
    number = zlib.crc32(seed.encode())
    before = random.getstate(), np.random.get_state()
    random.seed(number)  # the corruptions draw from the global state of both
    np.random.seed(number)  # noqa: TID251
    try:
        return corrupt(image, grade)
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


class Pictures(NamedTuple):
    """Fields as they are, then in each grade of each corruption: the images, and, of each one, the
    kind and the grade (0 as it is) of its corruption."""

    images: allkit.Dataset
    kind: list[str]
    grade: list[int]


def pictures_of(fields: allkit.Dataset, kinds: Mapping[str, Corrupt]) -> Pictures:
    """Return all pictures of some fields."""
    samples, kind, grade = list(fields), [CLEAN] * len(fields), [0] * len(fields)
    for index, sample in enumerate(fields):
        image = fields.read(index)
        for name, corrupt in kinds.items():
            for strength in GRADES:
                seed = f"{sample.image} {name} {strength}"
                file = io.BytesIO()
                picture = corrupted(image, corrupt, strength, seed)
                Image.fromarray(picture).save(file, "PNG", compress_level=1)
                samples.append(replace(sample, source=BytesSource(file.getvalue())))
                kind.append(name)
                grade.append(strength)
    return Pictures(allkit.Dataset(samples, fields.classes, name=fields.name), kind, grade)


def drawn_fields(data: allkit.Dataset, count: int, test: Collection[str] = ()) -> list[int]:
    """Return the positions of so many fields of each slide, one of each cluster of near-duplicates.

    Of slides with images in `test`, fields are drawn from these.
    """
    slides = data.column("slide")
    by_slide: dict[str | None, list[int]] = {slide: [] for slide in sorted(map(str, slides))}
    for cluster in clusters_of(data):
        by_slide[slides[cluster[0]]].append(cluster[0])
    chosen: list[int] = []
    for number, rows in enumerate(by_slide.values()):
        drawn = np.random.default_rng([0, number]).permutation(rows).tolist()
        chosen += sorted(drawn, key=lambda row: data.samples[row].image not in test)[:count]
    return sorted(chosen)


# ── the answers ─────────────────────────────────────────────────────────────────────────────────


class Piece(NamedTuple):
    """What one training answers: its name, the images to train on, and fields of slides. The
    slides that were `left_out` of it are named; where none was, the answers are no look."""

    name: str
    train: allkit.Dataset
    fields: allkit.Dataset
    left_out: tuple[str, ...]


def pieces(protocol: Protocol, step: str, count: int) -> Iterator[Piece]:
    """Yield the trainings of a step."""
    data = protocol.data
    split = data.split(test=TEST, seed=0)
    chosen = drawn_fields(data, count, {sample.image for sample in split.test})
    wanted = {data.samples[row].image for row in chosen}

    def of(images: allkit.Dataset) -> allkit.Dataset:
        return images.subset([i for i, sample in enumerate(images) if sample.image in wanted])

    if step == "known":
        yield Piece("known", split.train, of(split.test), ())
        return
    slides: list[tuple[str, ...]] = [(slide,) for slide in protocol.slides]
    if step == "pairs":
        slides = [(b, m) for b in protocol.benign_slides for m in protocol.malignant_slides]
    for names in slides:
        parts = without(data, names)
        yield Piece(f"{step} {'+'.join(names)}", parts.train, of(parts.test), names)


def answered(protocol: Protocol, piece: Piece, kinds: Mapping[str, Corrupt]) -> Figures:
    """Train, answer all pictures of the fields, and return the answers in columns."""
    model: Classifier = protocol.train(piece.train)
    pictures = pictures_of(piece.fields, kinds)
    if piece.left_out:
        step = "corruptions"
        judged, answers = protocol.look(model, pictures.images, piece.left_out, step=step)
    else:
        judged, answers = protocol.judge(model, pictures.images)
    return {
        "kind": pictures.kind,
        "grade": pictures.grade,
        "codes": [list(decision.codes) for decision in judged.decisions],
        **answers.columns(),
    }


class Corrupted(NamedTuple):
    """Answers on N pictures, and of each `(N,)` the kind and grade of its corruption, the number of
    its field as it is, and the codes of the reasons against it."""

    answers: Answers
    kind: npt.NDArray[np.str_]
    grade: npt.NDArray[np.int64]
    field: npt.NDArray[np.int64]
    codes: list[list[str]]

    @classmethod
    def of(cls, parts: Sequence[Figures]) -> Corrupted:
        """Join what several trainings answered."""
        names = [name for name in parts[0] if name not in ("kind", "grade", "codes")]
        columns = {name: np.concatenate([np.array(part[name]) for part in parts]) for name in names}
        kind = np.concatenate([np.array(part["kind"]) for part in parts])
        training = np.repeat(np.arange(len(parts)), [len(part["kind"]) for part in parts])
        keys = [f"{t} {image}" for t, image in zip(training, columns["image"], strict=True)]
        place = {key: row for row, key in enumerate(keys) if kind[row] == CLEAN}
        return cls(
            Answers(**columns),
            kind,
            np.concatenate([np.array(part["grade"]) for part in parts]),
            np.array([place[key] for key in keys]),
            [codes for part in parts for codes in part["codes"]],
        )


# ── what is counted ─────────────────────────────────────────────────────────────────────────────


def figures_of(given: Corrupted) -> Figures:
    """Return the counts as they are, by grade, and by kind and grade; and the reasons in grade 1."""
    kinds = [str(name) for name in dict.fromkeys(given.kind) if name != CLEAN]
    grades = sorted({int(grade) for grade in given.grade})
    lost: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    accepted = given.answers.accepted
    for row in np.flatnonzero((given.grade == 1) & accepted[given.field] & ~accepted):
        lost[str(given.kind[row])].update(given.codes[row])
    return {
        "slides": len(np.unique(given.answers.slide)),
        "fields": int((given.grade == 0).sum()),
        "by grade": {str(g): counted(given, given.grade == g, interval=True) for g in grades},
        "by kind": {
            kind: {
                str(g): counted(given, (given.kind == kind) & (given.grade == g))
                for g in grades
                if g
            }
            for kind in kinds
        },
        "why no longer accepted in grade 1": {
            kind: dict(counts.most_common(5)) for kind, counts in lost.items() if counts
        },
    }


def counted(given: Corrupted, rows: Flags, *, interval: bool = False) -> Figures:
    """Return the counts on some pictures: each as hits and among how many, and with an interval."""
    answers, every = given.answers, np.ones(len(given.kind), dtype=bool)
    class_wrong = answers.accepted & ~answers.right
    group_wrong = answers.coarse_accepted & ~answers.coarse_right
    shares = {
        "class accepted": (answers.accepted, every),
        "class accepted wrongly": (class_wrong, every),
        "class kept": (answers.accepted, answers.accepted[given.field]),
        "group accepted": (answers.coarse_accepted, every),
        "group accepted wrongly": (group_wrong, every),
        "group kept": (answers.coarse_accepted, answers.coarse_accepted[given.field]),
        "silent": (class_wrong | group_wrong, every),
        "leukaemia accepted as benign": (answers.leukaemia_as_benign, answers.malignant),
    }
    result: Figures = {}
    slides = np.unique(answers.slide[rows], return_inverse=True)[1]
    for name, (hits, among) in shares.items():
        of = [np.bincount(slides, weights=flags[rows]) for flags in (hits & among, among)]
        result[name] = [int(of[0].sum()), int(of[1].sum())]
        if interval and of[1].any():
            result[name] += _interval(*of)
    return result


def _interval(hits: npt.NDArray[np.float64], among: npt.NDArray[np.float64]) -> list[float]:
    def share(weights: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        with np.errstate(invalid="ignore"):
            return {"share": (weights @ hits) / (weights @ among)}

    return bootstrap(share, len(hits), None, 0).get("share", [])


def demands(figures: Figures) -> dict[str, str]:
    """Return what must hold, by name, and in words what is missed; empty where it holds."""
    grades = {g: row for g, row in figures["by grade"].items() if g != "0"}
    said = {}
    for grade, row in grades.items():
        hits, images = row["silent"][:2]
        wrong = hits / images > MOST_SILENT
        said[f"silent errors in grade {grade}"] = (
            f"{hits} of {images} pictures of grade {grade} were accepted wrongly" if wrong else ""
        )
    for answer in ("class", "group"):
        hits, among = grades["1"][f"{answer} kept"][:2]
        few = among and hits / among < LEAST_KEPT
        said[f"{answer} kept in grade 1"] = (
            f"the {answer} of {hits} of {among} pictures is still accepted in grade 1"
            if few
            else ""
        )
    return said


# ── the text ────────────────────────────────────────────────────────────────────────────────────

COLUMNS = (
    "class accepted",
    "class accepted wrongly",
    "class kept",
    "group accepted",
    "group accepted wrongly",
    "group kept",
    "silent",
)


def text_of(step: str, figures: Figures) -> str:
    """Return the tables of a step: by grade, and by kind and grade."""
    lines = [
        f"## {step}: {figures['fields']} fields of {figures['slides']} slides",
        f"| grade | {' | '.join(COLUMNS)} |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for grade, row in figures["by grade"].items():
        lines.append(f"| {grade} | {' | '.join(_percent(row[name]) for name in COLUMNS)} |")
    for title, name in (
        ("silent errors, %", "silent"),
        ("class kept, %", "class kept"),
        ("group kept, %", "group kept"),
    ):
        lines += ["", f"| {title} | {' | '.join(map(str, GRADES))} |", "|---" * 6 + "|"]
        for kind, rows in figures["by kind"].items():
            cells = [_percent(row[name]) for row in rows.values()]
            lines.append(f"| {kind} | {' | '.join(cells)} |")
    lines += ["", *(f"missed: {words}" for words in demands(figures).values() if words)]
    why = figures["why no longer accepted in grade 1"]
    lines += [f"no longer accepted, {kind}: {counts}" for kind, counts in why.items()]
    return "\n".join(lines) + "\n"


def _percent(share: Sequence[float]) -> str:
    hits, among, *interval = share
    if not among:
        return "–"
    ends = f" ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})" if interval else ""
    return f"{100 * hits / among:.1f}{ends}"


# ── the command ─────────────────────────────────────────────────────────────────────────────────


def measured(
    protocol: Protocol,
    step: str,
    kinds: Mapping[str, Corrupt],
    *,
    fields: int = FIELDS,
    answers: Path | None = None,
) -> Figures:
    """Return the figures of a step; what is in the folder `answers` is not answered again."""
    parts = []
    for piece in pieces(protocol, step, fields):
        if not len(piece.fields):
            continue
        kept = None if answers is None else answers / f"{piece.name.replace(' ', '_')}.json"
        if kept is not None and kept.is_file():
            parts.append(json.loads(kept.read_text()))
            continue
        parts.append(answered(protocol, piece, kinds))
        if kept is not None:
            half = kept.with_suffix(".part")
            half.write_text(json.dumps(parts[-1]))
            half.replace(kept)
    return figures_of(Corrupted.of(parts))


def main(arguments: Sequence[str] | None = None, *, log: Path = looks.LOOKS) -> Figures:
    """Measure, print, and write the figures; `log` is another file only in tests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a table with the column slide")
    parser.add_argument("--benign", nargs="+", default=["Benign"], help="classes that are benign")
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--set", dest="changes", nargs="+", action="extend", default=[])
    parser.add_argument("--only", nargs="+", default=["known", "unseen"], choices=STEPS)
    parser.add_argument("--fields", type=int, default=FIELDS, help="of each slide")
    parser.add_argument("--answers", type=Path, help="a folder that keeps what was answered")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        kinds = blood_corruptions()
    except ImportError as error:
        raise SystemExit(f"{error}. The first lines of this file say what is needed.") from None
    if options.answers:
        options.answers.mkdir(parents=True, exist_ok=True)
    settings = {"backbone": options.backbone, "weights": options.weights}
    config = TrainConfig.parse(override(settings, options.changes), source="--set")
    data = allkit.Dataset.open(options.data)
    protocol = Protocol(data, config, options.benign, cache=FeatureCache(), log=log)
    figures: Figures = {
        "backbone": config.backbone,
        "configuration": looks.configuration(config),
        "commit": protocol.commit,
        "date": looks.now(),
    }
    for step in options.only:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            figures[step] = measured(
                protocol, step, kinds, fields=options.fields, answers=options.answers
            )
        options.out.write_text(json.dumps(figures, indent=1) + "\n")
        print(text_of(step, figures[step]), flush=True)
    return figures


if __name__ == "__main__":
    main()
