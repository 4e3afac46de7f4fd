"""Writing a classifier as one file of another format, kept only if its answers agree."""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from allkit.data.dataset import Dataset
from allkit.errors import ExportError, PluginError
from allkit.evaluation.parity import Answering, ParityReport, measure_parity
from allkit.evaluation.parity_images import calibration_and_compared, hash_of, pixels_of
from allkit.evaluation.repetition import answers_on_probes
from allkit.files import require_free, whole_file
from allkit.model.info import ModelInfo
from allkit.plugins import registry
from allkit.plugins.suffixes import own_suffix
from allkit.records import Exporter, Predictor, Reference
from allkit.runtime.opening import opened, same_exporter
from allkit.runtime.seal import exporter_in, with_parity
from allkit.runtime.signature import own_work
from allkit.runtime.trailer import has_trailer
from allkit.types import Pixels, Progress

__all__ = [
    "Chosen",
    "Exported",
    "Format",
    "chosen_exporter",
    "with_settings",
    "write_export",
]

Images = Dataset | Sequence[Pixels]
Format = str | Mapping[str, Any] | Reference
"""How a format is asked for: `NAME`, `PACKAGE/NAME`, or one of these with settings, `{NAME: {…}}`."""


class Exported(Answering, Protocol):
    """What is exported: it answers, and a hash names its content. `Classifier` is one."""

    info: ModelInfo

    def content_hash(self) -> str:
        """Return a hash of everything that decides an answer."""


@dataclass(frozen=True)
class Chosen:
    """An exporter, its reference in full, and the precision that it is to write."""

    exporter: Exporter
    reference: Reference
    precision: str

    @property
    def called(self) -> str:
        """How messages name the format."""
        return self.reference.name if self.own else self.reference.qualified

    @property
    def own(self) -> bool:
        """Whether it is one of allkit's own."""
        return self.reference.package == "allkit"


def with_settings(format: Format, settings: Mapping[str, Any]) -> Reference:
    """Return the reference of a format with these settings beside those that it has already."""
    reference = Reference.of(format)
    return reference._replace(settings={**reference.settings, **settings})


def chosen_exporter(
    path: Path, *, format: Format, precision: str, calibrated: bool, overwrite: bool
) -> Chosen:
    """Return the exporter of a format; raise `ExportError` for what is wrong before any work is done.

    `calibrated` says whether there are images to calibrate int8 on. Raises `PluginError` for a format that
    is not there, or whose suffix is that of another, and `ConfigError` for settings that it does not take.
    """
    host = registry()
    exporter: Exporter = host.get("exporter", format)
    chosen = Chosen(exporter, host.reference("exporter", format), precision)
    if not path.name.endswith(exporter.suffix):
        raise ExportError(
            f"The name of a file of the format {chosen.called} ends in {exporter.suffix}, and {path.name!r} "
            f"does not. Choose another name, or another format: --format, `format=`."
        )
    taken = "" if chosen.own else own_suffix(host, path.name)
    if taken:
        raise PluginError(
            f"{host.provider('exporter', format).origin}: the exporter {exporter.name!r} writes files "
            f"*{exporter.suffix}, which is the suffix of {taken}: that would open them, and "
            f"not this exporter. Its author chooses another suffix."
        )
    require_free(path, overwrite=overwrite)
    if precision not in ("float32", "int8"):
        raise ExportError(f"The precision {precision!r} is not known. Use float32 or int8.")
    if precision not in exporter.precisions:
        others = [
            offer.name for _, offer in host.offers("exporter") if precision in offer.precisions
        ]
        raise ExportError(
            f"The {chosen.called} exporter writes {' and '.join(exporter.precisions)}, not {precision}. For "
            f"{precision} take the format {' or '.join(others)}."
        )
    if (precision == "int8") != calibrated:
        raise ExportError(
            "int8, and nothing else, needs images to calibrate it: give both --int8 and "
            "--calibrate, or neither."
        )
    return chosen


def write_export(
    model: Exported,
    path: Path,
    *,
    format: Format,
    precision: str,
    calibration: Images | None,
    check: Images | None,
    overwrite: bool,
    progress: Progress | None,
) -> ParityReport:
    """Write `model` to `path`, as `Classifier.export` says; raise `ExportError` and leave no file."""
    chosen = chosen_exporter(
        path,
        format=format,
        precision=precision,
        calibrated=calibration is not None,
        overwrite=overwrite,
    )
    to_calibrate, to_compare = calibration_and_compared(calibration, check)
    drawn = any(isinstance(images, Dataset) and images.drawn for images in (check, calibration))
    trained = set(model.info.data.images_sha256)
    with whole_file(path, suffix=chosen.exporter.suffix) as part:
        pixels = pixels_of(to_calibrate) if to_calibrate else None
        with _alone(part, chosen):
            chosen.exporter.write(model, part, precision=precision, calibration=pixels)
        file = _opened_again(part, chosen)
        report = measure_parity(
            model, file, to_compare, precision=precision, drawn=drawn, progress=progress
        )
        reasons = report.shortfalls()
        if reasons:
            raise ExportError(
                f"The {chosen.called} file does not answer like the model: {'; '.join(reasons)}. It "
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
        _finish(part, chosen, report.to_dict() | ({} if student is None else student.in_file()))
    return report


def _finish(part: Path, chosen: Chosen, parity: Mapping[str, Any]) -> None:
    """Write the parity into a file, and into a trailer also by what and with which settings it was made."""
    data = part.read_bytes()
    further: dict[str, Any] = {"settings": dict(chosen.reference.settings)}
    if not exporter_in(data):
        further["exporter"] = chosen.reference.qualified
    finished = with_parity(data, parity, further)
    if finished is None:
        warnings.warn(
            f"The exporter {chosen.called!r} leaves no room for a parity report, so the file has none; "
            f"`allkit verify` will need the model. Its author writes the file with "
            f"`allkit.exporting.write`.",
            stacklevel=4,
        )
        return
    part.write_bytes(finished)
    if not chosen.own and not has_trailer(finished):
        _opened_again(part, chosen)  # a checksum of its own may not agree with what was filled in


def _opened_again(part: Path, chosen: Chosen) -> Predictor:
    """Open what was written, as whoever uses it will; raise `ExportError` where it cannot be."""
    named = exporter_in(part.read_bytes())
    if named and not same_exporter(named, chosen.reference.package, chosen.reference.name):
        raise ExportError(
            f"The file says that {named} wrote it, and {chosen.reference.qualified} did, so it would be "
            f"opened by another. Its author gives the name of this one to `allkit.exporting.write`."
        )
    try:
        with own_work():
            return opened(chosen.exporter, part)
    except ExportError as error:
        reason = str(error).replace(str(part), "it").removesuffix(" Export it again.")
        raise ExportError(
            f"The {chosen.called} file cannot be opened again after it was written, so it was not kept: "
            f"{reason} Choose another format, and report this with the name of the backbone."
        ) from None


@contextlib.contextmanager
def _alone(part: Path, chosen: Chosen) -> Iterator[None]:
    """Have the block write one file and nothing beside it; what it leaves there is removed."""
    stem = part.name.rpartition(".part")[0]  # which no other file has
    try:
        yield
    finally:
        beside = [one for one in part.parent.iterdir() if one.name.startswith(stem) and one != part]
        for one in beside:
            shutil.rmtree(one) if one.is_dir() else one.unlink(missing_ok=True)
    if beside:
        kinds = ", ".join(one.name.removeprefix(stem) for one in beside)
        raise ExportError(
            f"The exporter {chosen.called!r} wrote more than one file ({kinds}), of which only one would "
            f"be kept. Its author packs them into one, or a format that needs several is no export."
        )
    if not part.is_file() or not part.stat().st_size:
        raise ExportError(
            f"The exporter {chosen.called!r} wrote nothing. Report this to its author, or choose another "
            f"format."
        )
