"""`allkit export`: a model, or a small student of it, as one file of another format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from allkit.cli.completion import complete_backbone, complete_exporter
from allkit.cli.data import open_data, open_part, training_parts
from allkit.cli.models import load_folder
from allkit.cli.options import ModelFolder, Overwrite
from allkit.cli.progress import bars, put, say
from allkit.errors import ConfigError
from allkit.files import require_free
from allkit.plugins.written import part_of

if TYPE_CHECKING:
    from allkit.model.classifier import Classifier

__all__ = ["export"]


def export(
    model: ModelFolder,
    out: Annotated[Path, typer.Option(help="the file to write")],
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="NAME or PACKAGE/NAME: see `allkit plugins`",
            show_default="the one with the suffix of the file",
            autocompletion=complete_exporter,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="a setting of the format; the value is YAML"
        ),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="compute in 8-bit integers")] = False,
    calibrate: Annotated[
        Path | None, typer.Option(help="training images for --int8 (the parts train and val)")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="images on which the file must answer like the model (the part test)"),
    ] = None,
    distil: Annotated[
        Path | None,
        typer.Option(
            help="labelled training images: write a small student that learnt the model's answers "
            "on them (the parts train and val)",
        ),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(
            help="the backbone of the student",
            show_default="efficientnet-lite0",
            autocompletion=complete_backbone,
        ),
    ] = None,
    student_weights: Annotated[
        str, typer.Option(help="of that backbone: a .safetensors file, `default`, or `none`")
    ] = "default",
    keep_model: Annotated[
        Path | None, typer.Option(help="also save the student as a model folder")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a model as one file of another format, after it answered alike.

    Example:
    allkit export model --out model.onnx --data split.csv
    allkit export model --int8 --calibrate split.csv --out small.onnx
    allkit export model --distil split.csv --out student.onnx --data split.csv
    """
    require_free(out, overwrite=overwrite)
    if keep_model is not None:
        require_free(keep_model, overwrite=overwrite, former="model.json")
    if distil is None and (student or keep_model or student_weights != "default"):
        raise ConfigError(
            "--student, --student-weights and --keep-model are for a student. Give --distil DATA too, or "
            "leave them out."
        )
    if int8 and calibrate is None:
        raise ConfigError(
            "--int8 needs training images to calibrate it. Give --calibrate DATA, 32 or more."
        )
    if calibrate is not None and not int8:
        raise ConfigError("--calibrate is for int8. Give --int8 too, or leave it out.")
    if format_name is None:
        from allkit.runtime.opening import format_of_name

        format_name = format_of_name(out.name)
    precision = "int8" if int8 else "float32"
    from allkit.config import override

    assigned = override({}, settings or [])
    asked = part_of(format_name, "--format").plain
    classifier = load_folder(model, "cpu" if distil is None else "auto")
    compared = open_part(data, "test") if data is not None else None
    calibration = open_part(calibrate, "train", "val") if calibrate is not None else None
    if distil is not None:
        from allkit.model.export import chosen_exporter, with_settings

        # To distil takes long: what can be wrong about the file is said before.
        chosen_exporter(
            out,
            format=with_settings(asked, assigned),
            precision=precision,
            calibrated=int8,
            overwrite=overwrite,
        )
        classifier = _student(classifier, distil, student, student_weights)
        if keep_model is not None:
            classifier.save(keep_model, overwrite=overwrite)
            say(f"Saved {keep_model}.")
    with bars() as progress:
        parity = classifier.export(
            out,
            format=asked,
            settings=assigned,
            precision=precision,
            calibration=calibration,
            check=compared,
            overwrite=overwrite,
            progress=progress,
        )
    say(f"Saved {out} ({out.stat().st_size / 1e6:.1f} MB, {parity.precision}).")
    for line in parity.lines():
        say(line)


def _student(model: Classifier, data: Path, backbone: str | None, weights: str) -> Classifier:
    """Return a student of a model, on the processor, after saying what it loses."""
    from allkit.model.classifier import Classifier
    from allkit.training.distilling import distil

    train, val = training_parts(open_data(data), model.info.config)
    with bars() as progress:
        found = distil(model, train, val, student=backbone, weights=weights, progress=progress)
    for note in found.info.trust_notes:
        say(f"CAUTION  {note}")
    record = found.info.distillation
    for line in [] if record is None else record.lines():
        put(f"{line}\n")
    for caution in [] if record is None else record.cautions():
        say(f"CAUTION  {caution}")
    return Classifier(found.network, found.info, trust=found.trust, training=found.training)
