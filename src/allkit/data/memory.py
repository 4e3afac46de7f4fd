"""Sets of images from what is in memory, and as a data frame in memory."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from allkit.data.rows import Sample, Table
from allkit.data.sources import BytesSource, FileSource
from allkit.data.tables import table_of
from allkit.errors import DatasetError
from allkit.images.given import Given, given
from allkit.telemetry import import_silent
from allkit.types import Pixels

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame_of", "table_of_arrays"]

NAME = "the arrays"
_UNLABELLED = "unlabelled"


def table_of_arrays(
    images: Iterable[Any],
    columns: Mapping[str, Sequence[Any] | None],
    names: Sequence[str] | None = None,
) -> Table:
    """Return a row for each image, with its values of `columns` (`label`, `group`, `case`, `slide`).

    Without labels every label is `None`. Raises `DatasetError` where a column has another length,
    and where something is no image.
    """
    found = list(given(images))
    known = {name: _plain(values) for name, values in columns.items() if values is not None}
    for name, values in [*known.items(), *([("name", list(names))] if names is not None else [])]:
        if len(values) != len(found):
            raise DatasetError(
                f"There are {len(found):,} images and {len(values):,} values of {name!r}. Give one for "
                f"each image."
            )
    if names is not None and len(set(names)) < len(found):
        raise DatasetError(
            "Two images have one name. Give each a name of its own, or leave `names` out."
        )
    called = [str(name) for name in names] if names is not None else [one.name for one in found]
    labelled = "label" in known
    known = known if labelled else {**known, "label": [_UNLABELLED] * len(found)}
    records = [
        {"image": _kept(one, name), **{column: known[column][at] for column in known}}
        for at, (one, name) in enumerate(zip(found, called, strict=True))
    ]
    table = table_of(NAME, ["image", *known], records, Path("."), first_line=0)
    if not labelled:
        table.rows = [replace(row, label=None) for row in table.rows]
    return table


def _plain(values: Any) -> list[Any]:
    """Return values as plain ones of Python: those of arrays and tensors, too."""
    if hasattr(values, "tolist"):
        found: list[Any] = values.tolist()
        return found
    return [
        one.item() if hasattr(one, "item") and getattr(one, "ndim", 0) == 0 else one
        for one in values
    ]


def _kept(one: Given, name: str) -> Any:
    """Return the image of a record: its path, or its name and its encoded bytes."""
    problem = one.mistake or one.error
    if problem is not None:
        raise DatasetError(str(problem))
    if isinstance(one.source, str):
        return one.source
    readable = one.readable()
    return {
        "path": name,
        "bytes": _png(readable) if isinstance(readable, np.ndarray) else readable,
    }


def _png(image: Pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def frame_of(samples: Sequence[Sample]) -> pd.DataFrame:
    """Return the samples as a data frame: a row an image, without columns that hold nothing."""
    pandas = import_silent("pandas")
    further = dict.fromkeys(name for sample in samples for name in sample.columns)
    columns: dict[str, list[Any]] = {
        "image": [_of_source(sample) for sample in samples],
        "label": [sample.label for sample in samples],
        "group": [sample.group for sample in samples],
        "case": [sample.case for sample in samples],
        "slide": [sample.slide for sample in samples],
        "split": [sample.part for sample in samples],
        "fold": [sample.fold for sample in samples],
        **{name: [sample.columns.get(name) for sample in samples] for name in further},
    }
    filled = {
        name: pandas.array(values, dtype="Int64") if name == "fold" else values
        for name, values in columns.items()
        if name == "image" or any(value is not None for value in values)
    }
    frame: pd.DataFrame = pandas.DataFrame(filled)
    return frame


def _of_source(sample: Sample) -> str | bytes:
    source = sample.source
    if isinstance(source, FileSource):
        return str(source.path)
    return source.data if isinstance(source, BytesSource) else source.read()
