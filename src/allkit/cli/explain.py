"""`allkit explain`: where the network looked for one answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from allkit.cli.completion import complete_method
from allkit.cli.models import load_folder
from allkit.cli.options import Device, Json, ModelFolder, Overwrite
from allkit.cli.progress import say
from allkit.cli.reports import require_places, write_report
from allkit.errors import ConfigError
from allkit.files import require_free
from allkit.plugins.written import part_of

__all__ = ["explain"]

METHODS = "METHOD"


def explain(
    model: ModelFolder,
    image: Annotated[str, typer.Argument(help="one image", metavar="IMAGE")],
    out: Annotated[Path, typer.Option(help="the .png to write")],
    target: Annotated[
        str | None,
        typer.Option("--class", help="the class to explain", show_default="the answer"),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="how the map is made: auto, cells, or an installed explainer, also with its settings: "
            "{NAME: {SETTING: VALUE}}",
            metavar=METHODS,
            autocompletion=complete_method,
        ),
    ] = "auto",
    data: Annotated[
        Path | None, typer.Option(help="the training images, to show the nearest of them")
    ] = None,
    json_file: Json = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Show where the network looked for an answer, and whether that map can be believed.

    Example:
    allkit explain model field.png --out map.png
    allkit explain model field.png --out map.png --data split.csv
    allkit explain model field.png --out map.png --method integrated-gradients
    """
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out is {out}; the explanation is written as a .png file.")
    require_free(out, overwrite=overwrite)
    require_places(out, json_file)
    classifier = load_folder(model, device)
    examples = cache = None
    if data is not None:
        from allkit.data.dataset import Dataset
        from allkit.features import FeatureCache

        examples, cache = Dataset.open(data), FeatureCache()
    asked: Any = part_of(method, "--method").plain
    explanation = classifier.explain(image, target=target, method=asked, data=examples, cache=cache)
    explanation.save(out, classifier.info.display_names)
    report = json.dumps(explanation.to_dict(), indent=1, ensure_ascii=False)
    write_report(json_file, report + "\n")
    for line in explanation.lines(classifier.info.display_names):
        say(line)
    say(f"Saved {out}.")
