"""`allkit reproduce`: the same training again, and whether its result is the same."""

from __future__ import annotations

import json

import typer

from allkit.cli.data import open_data, training_parts
from allkit.cli.extras import require_training_packages
from allkit.cli.options import Data, Json, ModelFolder, OptionalDevice, StartWeights
from allkit.cli.progress import bars, put
from allkit.cli.reports import require_places, write_report

__all__ = ["reproduce"]


def reproduce(
    model: ModelFolder,
    data: Data,
    weights: StartWeights = None,
    device: OptionalDevice = None,
    json_file: Json = None,
) -> None:
    """Train a model again and say whether it is identical.

    It is trained on the device of the first time, unless --device names another.
    Exit status 1 when it is different.

    Example:
    allkit reproduce model split.csv
    """
    require_places(json_file)
    require_training_packages()
    from allkit.model.classifier import Classifier
    from allkit.training.reproduce import reproduce as train_again

    saved = Classifier.load(model)
    config = saved.info.config
    train, val = training_parts(open_data(data, slide_pattern=config.slide), config)
    with bars() as progress:
        result, _ = train_again(
            saved, train, val, weights=weights, device=device, progress=progress
        )
    write_report(json_file, json.dumps(result.to_dict(), indent=1) + "\n")
    put(f"{result.verdict}: {result.message}\n")
    if result.retrained:
        for reason in result.reasons:
            put(f"  differs: {reason}\n")
    raise typer.Exit(int(result.verdict == "different"))
