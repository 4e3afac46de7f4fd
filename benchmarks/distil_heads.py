"""What a student's head is worth by what it learnt: heads alone, on slides left out, without any limits.

    python benchmarks/distil_heads.py --data index.csv --teacher vgg16 --weights vgg16.safetensors \
        --student efficientnet-lite0 --out heads.json

Protocol. Each slide is left out in turn, with all images that share a group, a case or a field with it.
The student's head learns on the others: *labels*; *own*, the answers of a teacher that was trained on all
images; *again*, those of a head of the teacher that was trained on the same images as the student's, which
is what a training does (`allkit.training.teacher`). *teacher* is that head itself. *Worst*: the evidence for
the wrong group of classes (log-odds) that 0.5 % of a slide's images exceed, from which limits for unseen
slides are made; *median*: that for the right group. Every slide is a row in `benchmarks/looks.csv` for each.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import looks
import numpy as np
from left_out import without

import allkit
from allkit.config import TrainConfig
from allkit.config.files import override
from allkit.features import FeatureCache
from allkit.training.distilling import student_settings
from allkit.training.division import Division
from allkit.training.session import Session
from allkit.training.teacher import Teacher, teacher_of
from allkit.trust.groups import groups_of
from allkit.types import Doubles, Indices

QUANTILE = 0.995


class Own:
    """A teacher that gives its own answers, whatever is held out."""

    independent = False

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher

    def answers(self, learn: Indices, check: Indices) -> Doubles:
        return self.teacher.answers(learn, check[:0])


def logits_of(session: Session, learn: Indices, check: Indices) -> Any:
    """Return the logits on images of a head of `session` that learnt from others."""
    division = Division(session.division.dataset, [(learn, check)], None)
    alone = replace(session, division=division)
    return alone.held_out([0], [alone.train(0)[0]]).logits


def main(arguments: Sequence[str] | None = None, *, log: Path = looks.LOOKS) -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a table with group and slide")
    parser.add_argument("--every", type=int, default=1, help="take every so many-th image only")
    parser.add_argument("--teacher", default="vgg16")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--set", dest="changes", nargs="+", action="extend", default=[])
    parser.add_argument("--student", default="efficientnet-lite0")
    parser.add_argument("--student-weights", default="default")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    cache = FeatureCache()
    given = override({"backbone": options.teacher, "weights": options.weights}, options.changes)
    config = TrainConfig.parse(given, source="--set")
    data = allkit.Dataset.open(options.data)
    data = data.subset(range(0, len(data), options.every))
    teacher = allkit.Trainer(config, cache=cache).fit(data)
    config = student_settings(teacher, options.student, options.student_weights)
    groups = groups_of(config.class_groups, data.classes)
    if groups is None:
        raise SystemExit("The classes are in no groups. Give --set class_groups=…")
    of_image = np.array(groups.of_class)[data.labels]
    figures: dict[str, Any] = {"commit": looks.commit(), "date": looks.now(), "slides": {}}
    with allkit.Trainer(config, cache=cache)._session(data, None) as session:
        taught = teacher_of(teacher, session)
        if taught.again is None:
            raise SystemExit(
                "The teacher trains more than a head, so it cannot be trained again here."
            )
        ways = {
            "labels": session,
            "own": replace(session, teacher=Own(taught)),
            "again": replace(session, teacher=taught),
            "teacher": taught.again,
        }
        for slide in data.slide_names:
            place = {sample.image: row for row, sample in enumerate(data)}
            parts = without(data, [slide])
            learn = np.array([place[sample.image] for sample in parts.train])
            check = np.array([place[sample.image] for sample in parts.test])
            rows = {}
            for name, way in ways.items():
                logits = logits_of(way, learn, check)
                evidence, truth = groups.log_odds(logits), of_image[check]
                right = evidence.argmax(axis=1) == truth
                of_truth = evidence[np.arange(len(truth)), truth]
                others = np.where(np.arange(len(groups)) == truth[:, None], -np.inf, evidence)
                rows[name] = {
                    "images": len(check),
                    "group right": int(right.sum()),
                    "class right": int((logits.argmax(axis=1) == data.labels[check]).sum()),
                    "worst": float(np.quantile(others.max(axis=1), QUANTILE)),
                    "median": float(np.median(of_truth)),
                }
                looks.append(
                    log,
                    looks.Look(
                        date=looks.now(), commit=figures["commit"], backbone=way.config.backbone,
                        step=f"distil heads: {name}", configuration=looks.configuration(way.config),
                        slides=str(slide), images=len(check), coarse_right=int(right.sum()),
                        coarse_accepted_wrong=0, fine_accepted_wrong=0,
                    ),
                )  # fmt: skip
            figures["slides"][slide] = rows
            print(slide, json.dumps(rows), flush=True)
    for name in ways:
        table = [rows[name] for rows in figures["slides"].values()]
        figures[name] = {
            key: sum(row[key] for row in table) for key in ("images", "group right", "class right")
        }
        print(name, figures[name], flush=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
