"""What `clean` returns, and the table and the text that it writes beside the images."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from allkit.data.dataset import Dataset
from allkit.quality.check import Check
from allkit.quality.corners import Corners
from allkit.quality.treatment import Treatment
from allkit.shown.text import cell, how_many, one_line, path_cell

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["INDEX", "README", "TABLE", "Cleaned", "CleanedImage", "readme_of", "table_text"]

INDEX, TABLE, README = "index.csv", "cleaned.csv", "README.txt"
"""The files beside the images. By the table a folder is known as one of `clean`."""


CORNERS = {
    "chance": "no treated corner tells the class",
    "crop": "a corner still tells the class: cutting off is needed",
    "field": "a corner tells the class where no mark is left",
    "unknown": "whether a corner tells the class could not be measured",
}
"""The verdict on the corners, in words."""


@dataclass(frozen=True)
class CleanedImage:
    """What was done with one image of the original set: a row of `cleaned.csv`.

    `written` is the new file below the folder, empty where the image was `dropped`; `reason` says why.
    `copy_of` names the image that was kept in its place, `near_duplicate_of` the field that it shows with
    others. `painted` are the boxes in pixels of the original, `left,top,right,bottom`, and `cropped_to`
    the part of it that was kept. `mark` is `yes` where a mark was found in it. `sha256_before` and
    `sha256_after` are of the files.
    """

    image: str
    label: str | None
    done: Literal["kept", "dropped"] = "kept"
    reason: str = ""
    written: str = ""
    copy_of: str = ""
    near_duplicate_of: str = ""
    painted: str = ""
    cropped_to: str = ""
    mark: str = ""
    colour_profile: str = ""
    sha256_before: str = ""
    sha256_after: str = ""


@dataclass(frozen=True)
class Cleaned:
    """What was done to a set. `images` holds a row for each image of the original, in its order.

    `folder` has the new images, `index.csv`, `cleaned.csv` and `README.txt`. `marks` says what was done
    to marks, `treatment` where, as shares of every image. `corners` says whether a corner still tells
    the class. `cells_looked_at` white cells were found in `images_looked_at` images, and the centres of
    `cells_hidden` of them are painted over or cut off. `notes` are what else one has to know.
    """

    folder: Path
    images: tuple[CleanedImage, ...]
    marks: Literal["paint", "crop", "keep"]
    treatment: Treatment
    corners: Corners
    check: Check
    images_looked_at: int = 0
    cells_looked_at: int = 0
    cells_hidden: int = 0
    notes: tuple[str, ...] = ()

    @property
    def data(self) -> Dataset:
        """The new set, read from its table."""
        return Dataset.open(self.folder / INDEX)

    @property
    def kept(self) -> tuple[CleanedImage, ...]:
        """The images that were written."""
        return tuple(row for row in self.images if row.done == "kept")

    @property
    def dropped(self) -> tuple[CleanedImage, ...]:
        """The images that were left out, each with its reason."""
        return tuple(row for row in self.images if row.done == "dropped")

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, in the form of `allkit clean --json`."""
        treatment = self.treatment
        return {
            "folder": str(self.folder),
            "images": len(self.images),
            "kept": len(self.kept),
            "dropped": [{"image": row.image, "reason": row.reason} for row in self.dropped],
            "marks": self.marks,
            "painted": [list(box) for box in treatment.painted],
            "colour": list(treatment.colour) if treatment.painted else None,
            "cropped_to": list(treatment.kept),
            "shown": round(treatment.shown, 4),
            "images_looked_at": self.images_looked_at,
            "cells_looked_at": self.cells_looked_at,
            "cells_hidden": self.cells_hidden,
            "corners": self.corners.to_dict(),
            "notes": list(self.notes),
        }

    def to_frame(self) -> pd.DataFrame:
        """Return `images` as a data frame with the columns of `cleaned.csv`."""
        import pandas as pd

        names = [field.name for field in fields(CleanedImage)]
        return pd.DataFrame(
            [[getattr(row, n) for n in names] for row in self.images], columns=names
        )

    def summary(self) -> str:
        """Return what was done, in sentences, a line each."""
        return "\n".join(_lines(self))

    def __repr__(self) -> str:
        done = [
            *(["painted over"] if self.treatment.painted else []),
            *(["cut off"] if self.treatment.cut else []),
        ]
        marks = f"marks {' and '.join(done)}" if done else "no mark painted over or cut off"
        return (
            f"<Cleaned {str(self.folder)!r}: {len(self.kept):,} of {how_many(len(self.images), 'image')}, "
            f"{marks}; {CORNERS[self.corners.verdict]}>"
        )


def _lines(result: Cleaned) -> list[str]:
    treatment = result.treatment
    lines = [f"{len(result.kept):,} of {len(result.images):,} images are in {result.folder}."]
    reasons: dict[str, list[str]] = {}
    for row in result.dropped:
        reasons.setdefault(row.reason.split(":")[0], []).append(row.image)
    for reason, names in reasons.items():
        some = f"{', '.join(one_line(n) for n in names[:3])}{', …' if len(names) > 3 else ''}"
        lines.append(f"Dropped, {reason}: {len(names):,} ({some}).")
    if treatment.painted:
        lines.append(
            f"Painted over in every image of every class, in one colour (RGB "
            f"{', '.join(map(str, treatment.colour))}): {_places(treatment)}."
        )
    if treatment.cut:
        left, top, right, bottom = (round(100 * v, 1) for v in treatment.kept)
        lines.append(
            f"Cut off from every image of every class: what is left are {left:g}–{right:g} % of the width "
            f"and {top:g}–{bottom:g} % of the height."
        )
    if treatment.painted or treatment.cut:
        share = result.cells_hidden / max(1, result.cells_looked_at)
        lines.append(
            f"This hides {1 - treatment.shown:.1%} of the area. Of {result.cells_looked_at:,} white cells in "
            f"{result.images_looked_at:,} images, the centres of {result.cells_hidden:,} ({share:.1%}) are "
            f"hidden."
        )
    elif result.marks == "keep":
        lines.append("No mark was painted over or cut off.")
    else:
        lines.append("No mark was found, and no place was named.")
    return lines + list(result.notes)


def _places(treatment: Treatment) -> str:
    return "; ".join(
        f"{100 * a:.3g}–{100 * c:.3g} % of the width and {100 * b:.3g}–{100 * d:.3g} % of the height"
        for a, b, c, d in treatment.painted
    )


def table_text(rows: Sequence[CleanedImage]) -> str:
    """Return the text of `cleaned.csv`: a row for each image of the original set."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = [field.name for field in fields(CleanedImage)]
    writer.writerow(names)
    for row in rows:
        values = {name: getattr(row, name) for name in names}
        shown: Mapping[str, Any] = {n: path_cell(values[n]) for n in ("image", "written")}
        writer.writerow([shown[n] if n in shown else cell(v) for n, v in values.items()])
    return stream.getvalue()


def readme_of(result: Cleaned, version: str) -> str:
    """Return the text of `README.txt`."""
    origin = one_line("/".join(Path(result.check.data.name).parts[-2:]))
    return (
        f"Images cleaned by allkit {version}, from {origin}\n\n"
        f"{INDEX}: the new set, for every command of allkit\n"
        f"{TABLE}: a row for each image of the original set, and what was done with it\n"
        f"images/: PNG files of 8 bits a colour, without EXIF or any other text of the originals\n\n"
        f"{result.summary()}\n\n{result.corners.message}\n"
    )
