"""`allkit export` and `allkit verify`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allkit.cli.judge import load_folder, open_model
from allkit.cli.progress import bars, say
from allkit.cli.reports import require_places, write_report
from allkit.errors import ConfigError, DatasetError, ExportError
from allkit.files import require_free

if TYPE_CHECKING:
    from allkit.data.dataset import Dataset

__all__ = ["part_of", "run_export", "run_verify"]


def part_of(data: Path, *names: str) -> Dataset:
    """Open a set; of one that is divided, take the named parts."""
    from allkit.data.dataset import Dataset

    dataset = Dataset.open(data)
    if dataset.has_parts:
        dataset = dataset.part(*names)
    if not len(dataset):
        raise DatasetError(f"{data} holds no images of the part {' or '.join(names)}.")
    return dataset


def run_export(
    model_path: Path,
    out: Path,
    format_name: str,
    *,
    int8: bool,
    calibrate: Path | None,
    data: Path | None,
    overwrite: bool,
) -> None:
    """Export a model folder and say how well the file agrees with it."""
    require_free(out, overwrite=overwrite)
    if int8 and calibrate is None:
        raise ConfigError(
            "--int8 needs training images to calibrate it. Give --calibrate DATA, 32 or more."
        )
    if calibrate is not None and not int8:
        raise ConfigError("--calibrate is for int8. Give --int8 too, or leave it out.")
    model = load_folder(model_path, "cpu")
    check = part_of(data, "test") if data is not None else None
    calibration = part_of(calibrate, "train", "val") if calibrate is not None else None
    with bars() as progress:
        proof = model.export(
            out, format=format_name, precision="int8" if int8 else "float32",
            calibration=calibration, check=check, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    say(f"Saved {out} ({out.stat().st_size / 1e6:.1f} MB, {proof.precision}).")
    for line in proof.lines():
        say(line)


def run_verify(
    exported: Path, model_path: Path | None, data: Path | None, json_file: Path | None
) -> int:
    """Repeat the proof of an exported file; return 1 when it does not hold here."""
    from allkit.evaluation.parity import ParityReport, measure_parity, parity_of
    from allkit.evaluation.parity_images import COMPARED, parity_images, sample_images
    from allkit.evaluation.repetition import repeat

    require_places(json_file)
    if exported.is_dir():
        raise ExportError(f"{exported} is a folder. Give a file that `allkit export` wrote.")
    if (model_path is None) != (data is None):
        raise ConfigError("Give MODEL and DATA, or neither: allkit verify EXPORTED MODEL DATA")
    file: Any = open_model(exported)
    _tell(f"{exported} is as it was written: its hash is right.")
    values: dict[str, Any] = {"file": str(exported), "sealed": True}
    reasons: list[str] = []
    full: ParityReport | None = None
    if model_path is None or "proof" in getattr(file, "info", {}):
        proof = parity_of(file, str(exported))
        for line in proof.lines():
            _tell(f"When exported  {line}")
        found = repeat(file, proof)
        reasons += found.shortfalls()
        values |= {
            "proof": proof.to_dict(),
            "probes": {
                "images": found.images, "same_class": found.same_class,
                "same_verdict": found.same_verdict, "difference": found.difference,
                "same_pixels": found.alike,
            },
        }  # fmt: skip
        _tell(
            f"Here           On {found.images} drawn probes: the same class on {found.same_class}, "
            f"the same verdict on {found.same_verdict}; probabilities differ by at most "
            f"{found.difference:.1g}."
        )
    if model_path is not None and data is not None:
        model = load_folder(model_path, "cpu")
        marked = values.get("proof", {}).get("model")
        if marked and marked != model.content_hash():
            reasons.append(f"it was not exported from {model_path}")
        chosen = part_of(data, "test")
        with bars() as progress:
            full = measure_parity(
                model, file, sample_images(parity_images(chosen), COMPARED), drawn=chosen.drawn,
                precision=getattr(file, "info", {}).get("precision", "float32"), progress=progress,
            )  # fmt: skip
        reasons += full.shortfalls()
        values["full"] = full.to_dict()
        for line in full.lines():
            _tell(f"Model and file {line}")
    values |= {"agrees": not reasons, "reasons": reasons}
    write_report(json_file, json.dumps(values, indent=1) + "\n")
    if reasons:
        _tell(f"DOES NOT AGREE  {'; '.join(reasons)}.")
        return 1
    _tell("Agrees.")
    return 0


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
