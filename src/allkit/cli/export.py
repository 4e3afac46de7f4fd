"""`allkit export`: a model as one file of another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from allkit.cli.completion import complete_exporter
from allkit.cli.data import open_part
from allkit.cli.models import load_folder
from allkit.cli.options import ModelFolder, Overwrite
from allkit.cli.progress import bars, say
from allkit.errors import ConfigError
from allkit.files import require_free

__all__ = ["export"]


def export(
    model: ModelFolder,
    out: Annotated[Path, typer.Option(help="the file to write")],
    format_name: Annotated[
        str,
        typer.Option("--format", help="see `allkit plugins`", autocompletion=complete_exporter),
    ] = "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="compute in 8-bit integers")] = False,
    calibrate: Annotated[
        Path | None, typer.Option(help="training images for --int8 (the parts train and val)")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="images on which the file must answer like the model (the part test)"),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a model as one file of another format, after it answered alike.

    Example:
    allkit export model --out model.onnx --data split.csv
    allkit export model --int8 --calibrate split.csv --out small.onnx
    """
    require_free(out, overwrite=overwrite)
    if int8 and calibrate is None:
        raise ConfigError(
            "--int8 needs training images to calibrate it. Give --calibrate DATA, 32 or more."
        )
    if calibrate is not None and not int8:
        raise ConfigError("--calibrate is for int8. Give --int8 too, or leave it out.")
    classifier = load_folder(model, "cpu")
    compared = open_part(data, "test") if data is not None else None
    calibration = open_part(calibrate, "train", "val") if calibrate is not None else None
    with bars() as progress:
        parity = classifier.export(
            out,
            format=format_name,
            precision="int8" if int8 else "float32",
            calibration=calibration,
            check=compared,
            overwrite=overwrite,
            progress=progress,
        )
    say(f"Saved {out} ({out.stat().st_size / 1e6:.1f} MB, {parity.precision}).")
    for line in parity.lines():
        say(line)
