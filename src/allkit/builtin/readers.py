"""The formats of images that allkit reads itself, as records like those of plugins."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from allkit.hookspecs import hookimpl
from allkit.images.own import FORMATS, pixels_of
from allkit.records import Raster, Reader

api_version = 2


def _read(kind: str, data: bytes, name: str) -> Raster:
    return Raster(pixels_of(kind, data, name))


@hookimpl
def allkit_readers() -> Iterable[Reader]:
    """Offer JPEG, PNG, TIFF and BMP; what a file holds beside pixels is named by `read_raster`."""
    return [
        Reader(
            name,
            kind.suffixes,
            partial(_read, name),
            # Two bytes are too few to tell a BMP by; `format_of` looks at more of it.
            magic=tuple((0, magic) for magic in kind.magic if len(magic) > 2),
            summary=f"{name.upper()}, read by allkit itself",
        )
        for name, kind in FORMATS.items()
    ]
