"""Writing a classifier as one file of another format, kept only if its answers agree."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from allkit.data.dataset import Dataset
from allkit.errors import ExportError
from allkit.evaluation.parity import Answering, ParityReport, measure_parity
from allkit.evaluation.parity_images import calibration_and_compared, hash_of, pixels_of
from allkit.evaluation.repetition import answers_on_probes
from allkit.files import require_free, whole_file
from allkit.model.info import ModelInfo
from allkit.plugins import registry
from allkit.records import Exporter
from allkit.runtime.seal import with_parity
from allkit.runtime.signature import own_work
from allkit.types import Pixels, Progress

__all__ = ["Exported", "chosen_exporter", "write_export"]

Images = Dataset | Sequence[Pixels]


class Exported(Answering, Protocol):
    """What is exported: it answers, and a hash names its content. `Classifier` is one."""

    info: ModelInfo

    def content_hash(self) -> str:
        """Return a hash of everything that decides an answer."""


def chosen_exporter(
    path: Path, *, format: str, precision: str, calibrated: bool, overwrite: bool
) -> Exporter:
    """Return the exporter of a format; raise `ExportError` for what is wrong before any work is done.

    `calibrated` says whether there are images to calibrate int8 on.
    """
    exporter: Exporter = registry().get("exporter", format)
    if path.suffix != exporter.suffix:
        raise ExportError(
            f"A {format} file is named *{exporter.suffix}, not {path.name!r}. Choose another name."
        )
    require_free(path, overwrite=overwrite)
    if precision not in ("float32", "int8"):
        raise ExportError(f"The precision {precision!r} is not known. Use float32 or int8.")
    if precision not in exporter.precisions:
        host = registry()
        others = [
            n for n in host.names("exporter") if precision in host.get("exporter", n).precisions
        ]
        raise ExportError(
            f"The {format} exporter writes {' and '.join(exporter.precisions)}, not {precision}. For "
            f"{precision} take the format {' or '.join(others)}."
        )
    if (precision == "int8") != calibrated:
        raise ExportError(
            "int8, and nothing else, needs images to calibrate it: give both --int8 and "
            "--calibrate, or neither."
        )
    return exporter


def write_export(
    model: Exported,
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
    exporter = chosen_exporter(
        path,
        format=format,
        precision=precision,
        calibrated=calibration is not None,
        overwrite=overwrite,
    )
    to_calibrate, to_compare = calibration_and_compared(calibration, check)
    drawn = any(isinstance(images, Dataset) and images.drawn for images in (check, calibration))
    trained = set(model.info.data.images_sha256)
    with whole_file(path, suffix=exporter.suffix) as part:
        pixels = pixels_of(to_calibrate) if to_calibrate else None
        exporter.write(model, part, precision=precision, calibration=pixels)
        try:
            with own_work():
                file = exporter.open(part)
        except ExportError as error:
            reason = str(error).replace(str(part), "it").removesuffix(" Export it again.")
            raise ExportError(
                f"The {format} file cannot be opened again after it was written, so it was not kept: "
                f"{reason} Choose another format, and report this with the name of the backbone."
            ) from None
        report = measure_parity(
            model, file, to_compare, precision=precision, drawn=drawn, progress=progress
        )
        reasons = report.shortfalls()
        if reasons:
            raise ExportError(
                f"The {format} file does not answer like the model: {'; '.join(reasons)}. It "
                f"was not written."
            )
        report = replace(
            report,
            model=model.content_hash(),
            trained_on=len(trained & {image.digest for image in to_compare}),
            calibrated_on=len(to_calibrate),
            calibrated=hash_of(to_calibrate),
            probes=answers_on_probes(file),
        )
        student = model.info.distillation
        of_student = {} if student is None else student.in_file()
        data = with_parity(part.read_bytes(), report.to_dict() | of_student)
        if data is None:
            warnings.warn(
                f"The exporter {format!r} leaves no room for a parity report, so the file has none; "
                f"`allkit verify` will need the model.",
                stacklevel=2,
            )
        else:
            part.write_bytes(data)
    return report
