"""The images of a cleaned set and its table, written."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from allkit.data.dataset import Dataset
from allkit.data.sources import DRAWN, FileSource, says_drawn
from allkit.data.written import as_csv, rows_hash
from allkit.errors import DatasetError
from allkit.quality.cleaned import INDEX, Cleaned, CleanedImage
from allkit.quality.corners import Seen
from allkit.quality.sorting_out import dropped_copies
from allkit.quality.treatment import PAINTED, Treatment, as_text, from_text
from allkit.types import Pixels

__all__ = ["Rewriting", "index_text"]

_LEAST_SIDE = 32  # pixels of what is left of an image


@dataclass
class Rewriting:
    """What is written, and what is remembered of it, by the position of each image in `data`."""

    data: Dataset
    readable: Sequence[int]
    rows: list[CleanedImage]
    folder: Path
    treatment: Treatment
    seen: tuple[Seen, Seen, Seen | None]
    instead: Treatment | None
    profiles: dict[str, str]

    def do(self, position: int) -> None:
        """Treat one image and write it."""
        row = self.rows[self.readable[position]]
        if row.done == "dropped":
            return
        image, file = self.data.passes.load(position)
        if hashlib.sha256(file).hexdigest() != row.sha256_before:
            raise DatasetError(f"{row.image} was changed while it was read. Start again.")
        new = self.treatment.apply(image)
        if min(new.shape[:2]) < _LEAST_SIDE:
            raise DatasetError(
                f"Of {row.image} ({image.shape[1]} × {image.shape[0]} pixels) less than {_LEAST_SIDE} pixels "
                f"would be left. Paint over the marks instead of cropping."
            )
        png = _as_png(new, drawn=says_drawn(self.data.samples[position].source))
        (self.folder / row.written).write_bytes(png)
        before, after, cropped = self.seen
        before.add(position, image)
        after.add(position, new)
        if cropped is not None and self.instead is not None:
            cropped.add(position, self.instead.apply(image))
        height, width = image.shape[:2]
        kept = self.treatment.kept_pixels(image)
        self.rows[self.readable[position]] = replace(
            row,
            painted="; ".join(_text(place) for place in self.treatment.painted_pixels(image)),
            cropped_to=_text(kept) if self.treatment.cut else f"0,0,{width},{height}",
            colour_profile=self.profiles.get(row.image, ""),
            sha256_after=hashlib.sha256(png).hexdigest(),
        )

    def without_same(self, drop_unusable: bool) -> list[CleanedImage]:
        """Return the rows without images that are the same now that they are cleaned, as their files say.

        They were the same pixels in two files, or differed under a mark only. Their new files are removed.
        Raises `DatasetError` where these have two labels, unless they are to be dropped.
        """
        rows = dropped_copies(
            self.rows, [row.sha256_after for row in self.rows], "a copy once cleaned"
        )
        twice = [(row, old) for row, old in zip(rows, self.rows, strict=True) if row != old]
        unusable = [row for row, _ in twice if not row.copy_of]
        if unusable and not drop_unusable:
            raise DatasetError(
                f"{len(unusable):,} images of {self.data.name} cannot be used: {unusable[0].reason}, once "
                f"cleaned. Fix them, or have them dropped by name (`--drop-unusable`, in Python "
                f"drop_unusable=True)."
            )
        for _, old in twice:
            (self.folder / old.written).unlink()
        return [replace(row, sha256_after="") if row.done == "dropped" else row for row in rows]


def index_text(result: Cleaned, readable: Sequence[int], folder: Path) -> str:
    """Return the text of `index.csv`, divided as the original set was."""
    samples, rows = [], []
    for sample, index in zip(result.check.data, readable, strict=True):
        row = result.images[index]
        if row.done == "dropped":
            continue
        columns = dict(sample.columns)
        places = result.treatment.painted_in_kept(from_text(columns.get(PAINTED)))
        columns |= {PAINTED: as_text(places)} if places else {}
        columns |= {"near_duplicate_of": row.near_duplicate_of} if row.near_duplicate_of else {}
        source = FileSource(str(folder / row.written))
        samples.append(replace(sample, image=row.written, source=source, columns=columns))
        rows.append(row)
    data, fingerprint = result.check.data, None
    if any(s.part is not None for s in samples):
        fingerprint = rows_hash(
            (row.sha256_after, s.label or "", s.part or "")
            for row, s in zip(rows, samples, strict=True)
        )
    elif any(s.fold is not None for s in samples):
        fingerprint = rows_hash(
            (row.sha256_after, s.fold) for row, s in zip(rows, samples, strict=True)
        )
    return as_csv(
        samples, folder / INDEX, name=data.name, split_by=data.split_by, fingerprint=fingerprint
    )


def _text(place: tuple[slice, slice]) -> str:
    rows, columns = place
    return f"{columns.start},{rows.start},{columns.stop},{rows.stop}"


def _as_png(image: Pixels, *, drawn: bool) -> bytes:
    """Return an image as the bytes of a PNG file: all are written alike, and hold nothing but pixels.

    Of a drawn image the text that says so stays: nobody shall take it for a photograph.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    says = PngInfo()
    if drawn:
        says.add_text(*DRAWN)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=3, pnginfo=says)
    return stream.getvalue()
