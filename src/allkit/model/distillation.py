"""The record of a distillation: whose student a model is, and what it loses against its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from allkit.errors import ExportError
from allkit.runtime.fields import Name, Text, Whole, checked

__all__ = ["COUNTED", "Distillation", "Loss"]

COUNTED = (
    "right",
    "accepted_right",
    "accepted_wrong",
    "coarse_right",
    "coarse_accepted_right",
    "coarse_accepted_wrong",
)
"""What is counted of the answers of teacher and student, for the class and for its group."""
KEY = "distillation"
"""Where it stands in the parity report of an exported file."""
TITLES = ("right", "accepted rightly", "accepted wrongly")
MOST_CLASSES = 12
"""Classes that an exported file has rows for; with more it holds the sums only."""
TOLERATED = 0.005
"""Share of right answers that a student may lose without a word of caution."""


Counts = Annotated[tuple[Whole, ...], Field(min_length=len(COUNTED), max_length=len(COUNTED))]


class Loss(BaseModel):
    """How teacher and student answered the images of one class: counts in the order of `COUNTED`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: Name
    images: Whole
    teacher: Counts
    student: Counts

    @model_validator(mode="after")
    def _of_its_images(self) -> Self:
        if max(*self.teacher, *self.student) > self.images:
            raise ValueError(f"{self.name}: more answers than its {self.images} images")
        return self

    def of(self, counted: str) -> tuple[int, int]:
        """Return one of `COUNTED` for teacher and student."""
        place = COUNTED.index(counted)
        return self.teacher[place], self.student[place]

    @classmethod
    def total(cls, rows: Sequence[Loss]) -> Loss:
        """Return the sums of several rows."""
        sides = [
            tuple(map(sum, zip(*(getattr(row, side) for row in rows), strict=True)))
            for side in ("teacher", "student")
        ]
        images = sum(row.images for row in rows)
        return cls(name="all", images=images, teacher=sides[0], student=sides[1])


class Distillation(BaseModel):
    """Whose student a model is, and what it loses. No name of a file, group or slide is in it.

    `known` is measured on further images of known slides, `left_out` on `slides` slides that were left
    out; in both cases on images of which neither teacher nor student had learnt. Empty where it was not
    measured; `notes` say why.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    teacher: Text
    """The `content_hash` of the teacher."""
    backbone: Name
    """The name of the teacher's backbone."""
    known: tuple[Loss, ...] = ()
    left_out: tuple[Loss, ...] = ()
    slides: Whole = 0
    slides_worse: Whole = 0
    """On how many of these slides the student accepted more wrong answers than the teacher."""
    notes: tuple[Text, ...] = ()

    def in_file(self) -> dict[str, Any]:
        """Return what the parity report of an exported file holds of it: for many classes only their sums."""
        sums = {
            name: (Loss.total(rows),)
            for name in ("known", "left_out")
            if len(rows := getattr(self, name)) > MOST_CLASSES
        }
        return {KEY: self.model_copy(update=sums | {"notes": ()}).model_dump(mode="json")}

    @classmethod
    def of_file(cls, file: Any) -> Distillation | None:
        """Return what an opened exported file holds; `None` where it is no student."""
        report = getattr(file, "info", {}).get("proof")
        found = report.get(KEY) if isinstance(report, dict) else None
        if found is None:
            return None
        return checked(cls, found, Path(getattr(file, "path", "the file")), ExportError)

    def cautions(self) -> list[str]:
        """Return in what the student is worse than its teacher, in sentences; empty if in nothing."""
        found = []
        if self.known:
            row = Loss.total(self.known)
            teacher, student = row.of("right")
            if teacher - student > TOLERATED * row.images:
                found.append(
                    f"On further images of known slides the student is right {teacher - student} times "
                    f"less than its teacher, of {row.images:,}."
                )
        if self.left_out:
            row = Loss.total(self.left_out)
            for counted, what in (
                ("coarse_accepted_wrong", "groups of classes"),
                ("accepted_wrong", "classes"),
            ):
                teacher, student = row.of(counted)
                if student > teacher:
                    found.append(
                        f"On slides that were left out the student accepts more wrong {what} than its "
                        f"teacher: {student}, not {teacher}, of {row.images:,} images."
                    )
            teacher, student = row.of("coarse_accepted_right")
            if student < teacher:
                found.append(
                    f"On slides that were left out the student accepts fewer right groups of classes "
                    f"than its teacher: {student:,}, not {teacher:,}, of {row.images:,} images."
                )
        return found

    def lines(self) -> list[str]:
        """Return the record for a terminal, one line each."""
        lines = [f"A student of the model {self.teacher[:12]}… ({self.backbone})."]
        if self.known:
            lines += [
                "Further images of known slides, of which neither had learnt: teacher → student",
                *_table(self.known, "{}"),
            ]
        if self.left_out:
            lines += [
                f"{self.slides} slides left out of both trainings, the class: teacher → student",
                *_table(self.left_out, "{}"),
                "the same, the group of classes",
                *_table(self.left_out, "coarse_{}"),
            ]
        if not self.known and not self.left_out and not self.notes:
            lines.append("What it loses was not measured.")
        return [*lines, *self.notes]


def _table(losses: Sequence[Loss], pattern: str) -> list[str]:
    """Return a row for each class and one for all, with the counts named by `pattern`."""
    rows = [*losses, *([Loss.total(losses)] if len(losses) > 1 else [])]
    width = max(len(row.name) for row in rows) + 2
    names = [pattern.format(name) for name in COUNTED[: len(TITLES)]]
    lines = [f"  {'':<{width}}{'images':>7}" + "".join(f"{title:>18}" for title in TITLES)]
    for row in rows:
        pairs = (row.of(name) for name in names)
        cells = "".join(f"{f'{teacher:,} → {student:,}':>18}" for teacher, student in pairs)
        lines.append(f"  {row.name:<{width}}{row.images:>7,}{cells}")
    return lines
