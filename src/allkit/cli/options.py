"""The arguments and options that several commands share: each has one text of help.

An option whose meaning belongs to one command (`split --folds`, `audit --model`) is declared there.
In a text of help `[…]` would be taken for markup, so a default in words goes into `show_default`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from allkit.cli.completion import complete_backbone, complete_config

__all__ = [
    "BY",
    "AsJson",
    "Backbone",
    "Config",
    "Data",
    "Device",
    "Epochs",
    "Folds",
    "GroupPattern",
    "Html",
    "Json",
    "Model",
    "ModelFolder",
    "ModelOut",
    "OptionalDevice",
    "OptionalModelOut",
    "OptionalSeed",
    "OptionalVal",
    "Overwrite",
    "Seed",
    "Set",
    "SlidePattern",
    "StartWeights",
    "Strategy",
    "Val",
    "Weights",
    "spell_out",
]


def spell_out(choices: Any) -> str:
    """Return the values of a `Literal` for `metavar=`: lines break between many, not within one."""
    return " | ".join(get_args(choices))


_DEVICE = typer.Option(help="auto, cpu, cuda, cuda:1 or mps")
_MODEL_OUT = typer.Option(help="the model folder to write")
_VAL = typer.Option(help="share of the images kept for validation")
_SEED = typer.Option(help="the same seed gives the same result")

BY = "what is kept whole, or answered for, as one"
"""The text for `--by`, whose values are each command's own."""

Data = Annotated[
    Path, typer.Argument(help="folder of class folders, zip, CSV, TSV or Parquet", metavar="DATA")
]
Model = Annotated[Path, typer.Argument(help="a model folder, or an exported file", metavar="MODEL")]
ModelFolder = Annotated[Path, typer.Argument(help="a model folder", metavar="MODEL")]

ModelOut = Annotated[Path, _MODEL_OUT]
OptionalModelOut = Annotated[Path | None, _MODEL_OUT]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace what is there already")]
Json = Annotated[Path | None, typer.Option("--json", help="write the result as JSON")]
Html = Annotated[Path | None, typer.Option("--html", help="write the result as one HTML page")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for programs")]

Backbone = Annotated[
    str | None, typer.Option(help="see `allkit plugins`", autocompletion=complete_backbone)
]
Strategy = Annotated[
    Literal["head", "last", "full", "lora"] | None, typer.Option(help="what is trained")
]
Epochs = Annotated[
    int | None,
    typer.Option(help="passes of the head over the images, at most; trains it in steps"),
]
Weights = Annotated[
    str | None,
    typer.Option(help="of the backbone: a .safetensors file, `default`, or `none`"),
]
StartWeights = Annotated[
    str | None, typer.Option("--weights", help="of the backbone, if the model began with a file")
]
Folds = Annotated[int | None, typer.Option(help="k-fold cross-validation")]
Val = Annotated[float, _VAL]
OptionalVal = Annotated[float | None, _VAL]
Config = Annotated[
    str | None,
    typer.Option(
        help="a recipe (quick, standard or best), or a YAML file of settings",
        autocompletion=complete_config,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="one setting; repeatable"),
]

GroupPattern = Annotated[
    str | None, typer.Option(help=r"take groups from the images' names, as in 'UID_(\d+)_'")
]
SlidePattern = Annotated[
    str | None,
    typer.Option(
        "--slide",
        metavar="REGEX",
        help=r"take slides from the images' paths, as in 'slide(\d+)_'",
    ),
]
Seed = Annotated[int, _SEED]
OptionalSeed = Annotated[int | None, _SEED]
Device = Annotated[str, _DEVICE]
OptionalDevice = Annotated[str | None, _DEVICE]
