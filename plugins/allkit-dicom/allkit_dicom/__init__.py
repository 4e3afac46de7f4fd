"""DICOM for allkit: one photograph of a microscope, read without anything that says whose it is.

reader  the file: its kind, what is dropped, the accession number, the scale
pixels  from its pixel data to RGB with 8 bits
"""

from __future__ import annotations

from collections.abc import Iterable

from allkit import Raster, Reader, hookimpl

api_version = 2


def _read(data: bytes, name: str) -> Raster:
    from allkit_dicom.reader import read_dicom  # pydicom only where a DICOM is read

    return read_dicom(data, name)


@hookimpl
def allkit_readers() -> Iterable[Reader]:
    """Offer the one format; a file without a preamble is known by its name, or by the clinic."""
    return [
        Reader(
            "dicom",
            (".dcm", ".dicom"),
            _read,
            magic=((128, b"DICM"),),
            summary="one frame of a photograph in DICOM; whose it is stays behind",
        )
    ]
