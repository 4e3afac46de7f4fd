"""The formats by name, and `render`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from allkit.clinic.records import CaseReport
from allkit.errors import AllkitError, ConfigError, did_you_mean

__all__ = ["FORMATS", "Format", "render"]

ImageOf = Callable[[str], bytes]


class Make(Protocol):
    """A function that makes one format from a report alone."""

    def __call__(self, report: CaseReport, *, image_of: ImageOf) -> bytes:
        """Return the bytes; `image_of` gives an image file by its SHA-256."""


class Format(NamedTuple):
    """The suffix of a file with its dot, the media type, and the function that makes the bytes."""

    suffix: str
    media_type: str
    make: Make


def _pdf(report: CaseReport, *, image_of: ImageOf) -> bytes:
    from allkit.clinic.reports.pdf import pdf_of

    return pdf_of(report, image_of=image_of)


def _csv(report: CaseReport, *, image_of: ImageOf) -> bytes:
    from allkit.clinic.reports.tables import csv_of

    return csv_of(report)


def _xlsx(report: CaseReport, *, image_of: ImageOf) -> bytes:
    from allkit.clinic.reports.tables import xlsx_of

    return xlsx_of(report)


def _fhir(report: CaseReport, *, image_of: ImageOf) -> bytes:
    from allkit.clinic.reports.fhir import fhir_of

    return fhir_of(report)


def _hl7(report: CaseReport, *, image_of: ImageOf) -> bytes:
    from allkit.clinic.reports.hl7 import hl7_of

    return hl7_of(report)


def _sr(report: CaseReport, *, image_of: ImageOf) -> bytes:
    try:
        from allkit.clinic.reports.sr import sr_of
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"A DICOM report needs {error.name}, which is not installed. "
            "Type: pip install 'allkit[clinic]'"
        ) from None
    return sr_of(report, image_of=image_of)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "pdf": Format(".pdf", "application/pdf", _pdf),
        "csv": Format(".csv", "text/csv; charset=utf-8", _csv),
        "xlsx": Format(
            ".xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", _xlsx
        ),
        "fhir": Format(".fhir.json", "application/fhir+json", _fhir),
        "hl7": Format(".hl7", "application/hl7-v2", _hl7),
        "sr": Format(".dcm", "application/dicom", _sr),
    }
)


def render(report: CaseReport, format: str, *, image_of: ImageOf) -> bytes:
    """Return the report in one of `FORMATS`: the same report and images give the same bytes.

    `image_of` gives the bytes of an image file by their SHA-256; the PDF shows up to six. Raises
    `AllkitError` for an unknown format, and `ConfigError` where a library is missing.
    """
    if format not in FORMATS:
        raise AllkitError(
            f"There is no format {format!r} of a report.{did_you_mean(format, FORMATS)} "
            f"The formats are {', '.join(FORMATS)}."
        )
    return FORMATS[format].make(report, image_of=image_of)
