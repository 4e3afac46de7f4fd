"""`allkit adapt`: a model adapted to the slides of a laboratory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from allkit.cli.data import open_data
from allkit.cli.extras import require_training_packages
from allkit.cli.models import load_folder
from allkit.cli.options import (
    Data,
    Device,
    GroupPattern,
    Json,
    ModelFolder,
    ModelOut,
    Overwrite,
    SlidePattern,
    spell_out,
)
from allkit.cli.progress import bars, put, say
from allkit.cli.reports import require_places, write_report
from allkit.errors import ConfigError
from allkit.files import require_free

if TYPE_CHECKING:
    from allkit.data.dataset import Dataset

__all__ = ["adapt"]

Strength = Literal["unchanged", "weak", "medium", "strong"]


def adapt(
    model: ModelFolder,
    data: Data,
    out: ModelOut,
    unlabelled: Annotated[
        bool,
        typer.Option(
            "--unlabelled",
            help="DATA is a folder of images, or a table, without labels; only the stain and what "
            "is known as a smear follow it",
        ),
    ] = False,
    column: Annotated[
        str | None,
        typer.Option(
            help="hold images with one value of this column out together", show_default="group"
        ),
    ] = None,
    group_pattern: GroupPattern = None,
    slide_pattern: SlidePattern = None,
    strength: Annotated[
        Strength | None,
        typer.Option(
            help="how far the head may go",
            metavar=spell_out(Strength),
            show_default="chosen on groups that are held out",
        ),
    ] = None,
    json_file: Json = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Adapt a model to the slides of a laboratory, with a few of its fields.

    Example:
    allkit adapt model ours.csv --out our-model --json adapted.json
    allkit adapt model fields --unlabelled --out our-model
    """
    require_free(out, overwrite=overwrite, former="model.json")
    require_places(json_file)
    if out.resolve() == model.resolve():
        raise ConfigError(
            f"--out is the model that is adapted. Name another folder, so that {model} stays."
        )
    require_training_packages()
    from allkit.adaptation.adapt import adapt as adapt_model

    classifier = load_folder(model, device)
    opened = _open_unlabelled if unlabelled else open_data
    dataset = opened(data, group_pattern, slide_pattern)
    with bars() as progress:
        adapted = adapt_model(
            classifier, dataset, column=column, strength=strength, progress=progress
        )
    adapted.save(out, overwrite=overwrite)
    record = adapted.info.adaptations[-1]
    put(record.to_text())
    write_report(json_file, json.dumps(record.model_dump(mode="json"), indent=1) + "\n")
    say(f"Saved {out}.")


def _open_unlabelled(path: Path, group_pattern: str | None, slide_pattern: str | None) -> Dataset:
    from allkit.data.dataset import Dataset

    dataset = Dataset.unlabelled(path)
    if group_pattern is not None:
        dataset = dataset.with_groups(group_pattern)
    if slide_pattern is not None:
        dataset = dataset.with_slides(slide_pattern)
    say(f"{dataset.name}: {len(dataset):,} images without labels.")
    return dataset
