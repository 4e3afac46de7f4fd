"""Writing a classifier as one file of another format, which counts only when it answers alike."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.data.dataset import Dataset
from allkit.errors import ExportError
from allkit.evaluation.parity import (
    ParityReport,
    answers_on_probes,
    compare,
    divide,
    hash_of,
    pixels_of,
)
from allkit.files import require_free
from allkit.plugins import registry
from allkit.records import Exporter
from allkit.runtime.seal import with_parity
from allkit.types import Progress

__all__ = ["write_export"]

Images = Dataset | Sequence[npt.NDArray[np.uint8]]


def write_export(
    model: Any,
    path: Path,
    *,
    format: str,
    precision: str,
    calibration: Images | None,
    check: Images | None,
    overwrite: bool,
    progress: Progress | None,
) -> ParityReport:
    """Write `model` to `path`, as `Classifier.export` says; raise `ExportError` and leave no file."""
    exporter: Exporter = registry().get("exporter", format)
    if path.suffix != exporter.suffix:
        raise ExportError(
            f"A {format} file is named *{exporter.suffix}, not {path.name!r}. Choose another name."
        )
    require_free(path, overwrite=overwrite)
    if precision not in ("float32", "int8"):
        raise ExportError(f"The precision {precision!r} is not known. Use float32 or int8.")
    if (precision == "int8") != (calibration is not None):
        raise ExportError(
            "int8, and nothing else, needs images to calibrate it: give both --int8 and "
            "--calibrate, or neither."
        )
    chosen, compared = divide(calibration, check)
    part = path.with_name(f".{path.stem}.part{exporter.suffix}")
    try:
        images = pixels_of(chosen) if chosen else None
        exporter.write(model, part, precision=precision, calibration=images)
        file = exporter.open(part)
        drawn = any(isinstance(given, Dataset) and given.drawn for given in (check, calibration))
        proof = compare(model, file, compared, precision=precision, drawn=drawn, progress=progress)
        reasons = proof.shortfalls()
        if reasons:
            raise ExportError(
                f"The {format} file does not answer like the model: {'; '.join(reasons)}. It "
                f"was not written."
            )
        proof = replace(
            proof, model=model.content_hash(), calibrated_on=len(chosen), calibrated=hash_of(chosen),
            probes=answers_on_probes(file),
        )  # fmt: skip
        data = with_parity(part.read_bytes(), proof.to_dict())
        if data is None:
            warnings.warn(
                f"The exporter {format!r} keeps no room for a proof, so the file has none "
                f"inside; `allkit verify` will need the model.",
                stacklevel=2,
            )
        else:
            part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return proof
