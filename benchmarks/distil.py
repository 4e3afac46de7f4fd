"""A student of a model against the model: accuracy, answers on slides left out, and latency of the file.

    python benchmarks/distil.py --data index.csv --teacher vgg16 --weights vgg16.safetensors \
        --student efficientnet-lite0 --out distil.json
    python benchmarks/distil.py --data index.csv --only slides --labels --out control.json

Protocol. The table has the columns `group` and `slide`. In each step a teacher is trained with the
defaults without the images that are judged, and a student of that teacher without them too, as
`allkit.distil` does; both have limits and calibration of their own, by the images that they learnt from.

`known`: five folds by group; other images of slides that both know. Differences are student less teacher,
with 95 % intervals of a paired bootstrap of groups. `slides`: every slide left out alone, and all
images that share a group, a case or a field with it in no part; shares with intervals over slides
(`left_out.py`). Whatever judges a slide left out is written into `benchmarks/looks.csv` before it is shown.
`latency`: both on all images; from the path of an image to its `Prediction`, one image at a time, the
teacher as a plain `nn.Module` in float32 (*eager*) and the files of the student by turns (`exports.py`).

`--labels` adds a model with the student's backbone that learnt the labels: what the teacher is worth.
Features come from the cache where they are there; without, those of the teacher take most of the time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import looks
import numpy as np
from exports import FILES, Eager, latencies
from left_out import Answers, Protocol, bounds, counts, joined, over_slides, without

import allkit
from allkit.cli.models import open_model
from allkit.config import TrainConfig
from allkit.config.files import override
from allkit.data.relations import SAME_FIELD
from allkit.errors import ExportError
from allkit.evaluation.compare import compare
from allkit.evaluation.evaluate import as_answers
from allkit.evaluation.judged import Judged
from allkit.features import FeatureCache
from allkit.model.classifier import Classifier
from allkit.training.distilling import student_settings

STEPS = ("known", "slides", "latency")
FOLDS = 5
Figures = dict[str, Any]


class Pair(NamedTuple):
    """A teacher, its student, and where it is wanted the model that learnt the labels, by name."""

    models: dict[str, Classifier]
    configs: dict[str, TrainConfig]


def trained(protocol: Protocol, train: allkit.Dataset, options: argparse.Namespace) -> Pair:
    """Train a teacher on images, and a student of it on the same."""
    teacher = protocol.train(train)
    config = student_settings(teacher, options.student, options.student_weights)
    student = protocol.train(train, config, teacher=teacher)
    pair = Pair(
        {"teacher": teacher, "student": student}, {"teacher": protocol.config, "student": config}
    )
    if options.labels:
        pair.models["labels"] = protocol.train(train, config)
        pair.configs["labels"] = config
    return pair


# ── the steps ───────────────────────────────────────────────────────────────────────────────────


def known(protocol: Protocol, options: argparse.Namespace) -> Figures:
    """Judge other images of known slides, in five folds by group."""
    data = protocol.data
    position = {sample.image: row for row, sample in enumerate(data)}
    rows: list[int] = []
    tables: dict[str, list[Judged]] = {}
    parts: dict[str, list[Answers]] = {}
    for number, split in enumerate(data.folds(FOLDS, seed=0)):
        pair = trained(protocol, split.train, options)
        for name, model in pair.models.items():
            judged, answers = protocol.judge(model, split.test)
            tables.setdefault(name, []).append(judged)
            parts.setdefault(name, []).append(answers)
        rows += [position[sample.image] for sample in split.test]
        print(
            f"known, fold {number}",
            {n: float(p[-1].right.mean()) for n, p in parts.items()},
            flush=True,
        )
    whole = data.subset(rows)
    answers_of = {
        name: as_answers(whole, _pooled(found), data.classes) for name, found in tables.items()
    }
    figures: Figures = {"images": len(rows)}
    for name, found in parts.items():
        answers = joined(found)
        figures[name] = {
            "accuracy": float(answers.right.mean()),
            "by class": {
                label: [
                    int(answers.right[answers.truth == label].sum()),
                    int((answers.truth == label).sum()),
                ]
                for label in data.classes
            },
            **{key: value for key, value in counts(answers).items() if "never" not in key},
        }
    for name in answers_of:
        if name != "teacher":
            found = compare(answers_of["teacher"], answers_of[name], whole.units)
            figures[f"{name} less teacher"] = {
                key: [found.differences[key], *found.intervals[key]]
                for key in ("accuracy", "balanced_accuracy", "accepted_share", "silent_error_rate")
                if key in found.intervals
            }
    return figures


def _pooled(parts: Sequence[Judged]) -> Judged:
    """Return the answers of all folds, one after another; prediction sets are not needed."""
    return Judged(
        np.concatenate([part.probabilities for part in parts]),
        [decision for part in parts for decision in part.decisions],
        None,
    )


def slides(protocol: Protocol, options: argparse.Namespace) -> Figures:
    """Leave every slide out of the trainings of all, and judge it."""
    rows: Figures = {}
    parts: dict[str, list[Answers]] = {}
    for slide in protocol.slides:
        division = without(protocol.data, [slide])
        pair = trained(protocol, division.train, options)
        rows[slide] = {"label": division.test.label_names[0], "images": len(division.test)}
        for name, model in pair.models.items():
            config, step = pair.configs[name], f"distil: {name}"
            _, answers = protocol.look(model, division.test, [slide], step=step, config=config)
            parts.setdefault(name, []).append(answers)
            rows[slide][name] = counts(answers)
        print(slide, json.dumps(rows[slide]), flush=True)
    return {
        "slides": rows,
        **{
            name: {"summary": over_slides(joined(found)), "bounds": bounds(joined(found))}
            for name, found in parts.items()
        },
    }


def latency(protocol: Protocol, options: argparse.Namespace) -> Figures:
    """Time one image, from its path to the answer: the eager teacher, and files of the student."""
    pair = trained(
        protocol, protocol.data, argparse.Namespace(**{**vars(options), "labels": False})
    )
    few = protocol.data.subset(range(0, len(protocol.data), 16))
    images = [str(options.data.parent / sample.image) for sample in few]
    who: dict[str, Any] = {"eager": Eager(pair.models["teacher"])}
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.files:
            format_name, suffix, int8 = FILES[name]
            path = Path(folder) / f"student{suffix}"
            try:
                report = pair.models["student"].export(
                    path, format=format_name, precision="int8" if int8 else "float32",
                    calibration=protocol.data if int8 else None, check=None if int8 else few,
                )  # fmt: skip
            except ExportError as error:  # int8 without VNNI, for one
                figures[name] = {"refused": str(error)}
                continue
            figures[name] = {
                "size_mb": path.stat().st_size / 1e6, "compared": report.images,
                "same class": report.same_class, "same verdict": report.same_verdict,
            }  # fmt: skip
            who[name] = open_model(path)
        found = latencies(who, images, options.rounds, options.each)
    figures["eager"] = {}
    for name, row in found.items():
        ratio = found["eager"]["p50_ms"] / row["p50_ms"]
        of_processor = found["eager"]["processor_p50_ms"] / row["processor_p50_ms"]
        figures[name] |= row | {"ratio": ratio, "processor_ratio": of_processor}
    return figures


# ── the command ─────────────────────────────────────────────────────────────────────────────────


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a table with group and slide")
    parser.add_argument("--every", type=int, default=1, help="take every so many-th image only")
    parser.add_argument("--benign", nargs="+", default=["Benign"], help="classes that are benign")
    parser.add_argument("--teacher", default="vgg16")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--set", dest="changes", nargs="+", action="extend", default=[])
    parser.add_argument("--student", default="efficientnet-lite0")
    parser.add_argument("--student-weights", default="default")
    parser.add_argument("--labels", action="store_true", help="also a model that learnt the labels")
    parser.add_argument("--only", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument(
        "--files", nargs="+", default=["onnx float32", "onnx int8", "openvino float32", "openvino int8"],
        choices=[name for name in FILES if name != "pt2 float32"],
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--each", type=int, default=6)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, *, log: Path = looks.LOOKS) -> None:
    """Measure and write the figures, after every step."""
    options = options_of(arguments)
    warnings.simplefilter("ignore")
    given = override({"backbone": options.teacher, "weights": options.weights}, options.changes)
    data = allkit.Dataset.open(options.data)
    data = data.subset(range(0, len(data), options.every))
    config = TrainConfig.parse(given, source="--set")
    protocol = Protocol(data, config, options.benign, cache=FeatureCache(), log=log)
    data.passes.measure(SAME_FIELD, cache=protocol.cache)
    figures: Figures = {
        "commit": protocol.commit, "date": looks.now(), "teacher": options.teacher,
        "configuration": looks.configuration(config), "student": options.student, "images": len(data),
    }  # fmt: skip
    for name in options.only:
        begun = time.perf_counter()
        figures[name] = {"known": known, "slides": slides, "latency": latency}[name](
            protocol, options
        )
        figures[name]["seconds"] = time.perf_counter() - begun
        options.out.write_text(json.dumps(figures, indent=1) + "\n")
        shown = {k: v for k, v in figures[name].items() if k != "slides"}
        print(name, json.dumps(shown, indent=1), flush=True)


if __name__ == "__main__":
    main()
