"""`allkit verify`: whether an exported file answers here as its model does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from allkit.cli.data import open_part
from allkit.cli.models import load_folder, open_model
from allkit.cli.options import Json
from allkit.cli.progress import bars, put
from allkit.cli.reports import require_places, write_report
from allkit.errors import ConfigError, ExportError

__all__ = ["verify"]


def verify(
    exported: Annotated[
        Path, typer.Argument(help="a file that `allkit export` wrote", metavar="EXPORTED")
    ],
    model: Annotated[
        Path | None,
        typer.Argument(help="the model folder it was exported from", metavar="MODEL"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Argument(help="images to compare them on (the part test)", metavar="DATA"),
    ] = None,
    json_file: Json = None,
) -> None:
    """Repeat the parity report of an exported file.

    Exit status 1 when it does not hold here.

    Example:
    allkit verify model.onnx
    allkit verify model.onnx model split.csv --json parity.json
    """
    require_places(json_file)
    if exported.is_dir():
        raise ExportError(f"{exported} is a folder. Give a file that `allkit export` wrote.")
    if (model is None) != (data is None):
        raise ConfigError("Give MODEL and DATA, or neither: allkit verify EXPORTED MODEL DATA")
    file: Any = open_model(exported)
    _print(f"{exported} is as it was written: its hash is right.")
    values: dict[str, Any] = {"file": str(exported), "sealed": True}
    reasons: list[str] = []
    if model is None or "proof" in getattr(file, "info", {}):
        reasons += _repeat(file, exported, values)
    if model is not None and data is not None:
        reasons += _compare(file, model, data, values)
    values |= {"agrees": not reasons, "reasons": reasons}
    write_report(json_file, json.dumps(values, indent=1) + "\n")
    if reasons:
        _print(f"DOES NOT AGREE  {'; '.join(reasons)}.")
    else:
        _print("Agrees.")
    raise typer.Exit(1 if reasons else 0)


def _repeat(file: Any, path: Path, values: dict[str, Any]) -> list[str]:
    """Answer the probes of the file's own report again; fill `values`, return what falls short."""
    from allkit.evaluation.parity import parity_of
    from allkit.evaluation.repetition import repeat
    from allkit.model.distillation import Distillation

    parity = parity_of(file, str(path))
    for line in parity.lines():
        _print(f"When exported  {line}")
    student = Distillation.of_file(file)
    if student is not None:
        for line in student.lines():
            _print(f"When exported  {line}")
        values["distillation"] = student.model_dump(mode="json")
    repeated = repeat(file, parity)
    values["proof"] = parity.to_dict()
    values["probes"] = {
        "images": repeated.images,
        "same_class": repeated.same_class,
        "same_verdict": repeated.same_verdict,
        "difference": repeated.difference,
        "same_pixels": repeated.alike,
    }
    _print(
        f"Here           On {repeated.images} drawn images: the same class on "
        f"{repeated.same_class}, the same verdict on {repeated.same_verdict}; probabilities differ "
        f"by at most {repeated.difference:.1g}."
    )
    return list(repeated.shortfalls())


def _compare(file: Any, model: Path, data: Path, values: dict[str, Any]) -> list[str]:
    """Compare file and model on images; fill `values`, return what falls short."""
    from allkit.evaluation.parity import measure_parity
    from allkit.evaluation.parity_images import COMPARED, parity_images, sample_images

    reasons = []
    classifier = load_folder(model, "cpu")
    written_for = values.get("proof", {}).get("model")
    if written_for and written_for != classifier.content_hash():
        reasons.append(f"it was not exported from {model}")
    dataset = open_part(data, "test")
    with bars() as progress:
        parity = measure_parity(
            classifier,
            file,
            sample_images(parity_images(dataset), COMPARED),
            drawn=dataset.drawn,
            precision=getattr(file, "info", {}).get("precision", "float32"),
            progress=progress,
        )
    values["full"] = parity.to_dict()
    for line in parity.lines():
        _print(f"Model and file {line}")
    return [*reasons, *parity.shortfalls()]


def _print(line: str) -> None:
    put(line + "\n")
