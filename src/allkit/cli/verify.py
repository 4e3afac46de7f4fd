"""`allkit verify`: whether a model is as it was written, by whom, and whether a file answers like it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from allkit.cli.data import open_part
from allkit.cli.models import load_folder, open_model
from allkit.cli.options import Json
from allkit.cli.progress import bars
from allkit.cli.reports import require_places, write_report
from allkit.errors import ConfigError, ExportError

__all__ = ["verify"]


def verify(
    exported: Annotated[
        Path,
        typer.Argument(help="a model folder or exported file", metavar="MODEL_OR_EXPORTED"),
    ],
    model: Annotated[
        Path | None,
        typer.Argument(help="the model folder it was exported from", metavar="MODEL"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Argument(help="images to compare them on (the part test)", metavar="DATA"),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="a public key, or a folder of them: one must have signed it"),
    ] = None,
    json_file: Json = None,
) -> None:
    """Check the hashes and the signature of a model, and whether an exported
    file answers as its model did.

    Exit status 1 when it does not answer so here.

    Example:
    allkit verify model.onnx
    allkit verify model --key lab.key.pub
    allkit verify model.onnx model split.csv --json parity.json
    """
    require_places(json_file)
    if (model is None) != (data is None):
        raise ConfigError("Give MODEL and DATA, or neither: allkit verify EXPORTED MODEL DATA")
    if exported.is_dir() and model is not None:
        raise ExportError(
            f"{exported} is a folder. To compare it, give a file that `allkit export` wrote first."
        )
    values: dict[str, Any] = {"file": str(exported), "signature": _signature(exported, key)}
    reasons: list[str] = []
    if exported.is_dir():
        from allkit.model.folder import check_folder

        check_folder(exported)
        _print(f"{exported} is as it was written: its hashes are right.")
        values["sealed"] = True
    else:
        file: Any = open_model(exported)
        _print(f"{exported} is as it was written: its hash is right.")
        values["sealed"] = True
        if model is None or "proof" in getattr(file, "info", {}):
            reasons += _repeat(file, exported, values)
        if model is not None and data is not None:
            reasons += _compare(file, model, data, values)
        values |= {"agrees": not reasons, "reasons": reasons}
    write_report(json_file, json.dumps(values, indent=1) + "\n")
    if reasons:
        _print(f"DOES NOT AGREE  {'; '.join(reasons)}.")
    elif not exported.is_dir():
        _print("Agrees.")
    raise typer.Exit(1 if reasons else 0)


def _signature(path: Path, key: Path | None) -> dict[str, Any] | None:
    """Say who signed a model; raise where `key` is given and none of its keys did.

    It is asked before the model is opened: what a stranger signed is not parsed.
    """
    from allkit.runtime import signature

    if not path.exists():
        return None  # opening it says so
    if key is not None:
        found, made = signature.signed_by(path, signature.public_keys(key))
        _print(f"Signed on {found.when} by the key {made.path.name} ({made.id[:16]}…).")
        return signature.described(found, made)
    unchecked = signature.read_signature(path)
    if unchecked is None:
        return None
    _print(
        f"Signed, as it says, on {unchecked.when} by the key {unchecked.key[:16]}…; to check that, give "
        f"the public key: --key FILE"
    )
    return signature.described(unchecked)


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
    sys.stdout.write(line + "\n")
