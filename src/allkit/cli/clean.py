"""`allkit clean`: a set without copies and burnt-in marks, as a new folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from allkit.cli.data import open_data
from allkit.cli.extras import require_training_packages
from allkit.cli.options import Data, GroupPattern, Json, Overwrite, SlidePattern, spell_out
from allkit.cli.progress import bars, put, say
from allkit.cli.reports import require_places, write_report
from allkit.errors import ConfigError

__all__ = ["clean"]

Treated = Literal["paint", "crop", "keep"]
Near = Literal["keep", "drop"]

WORDS = {
    "chance": "WITHIN CHANCE",
    "crop": "CROPPING IS NEEDED",
    "field": "A CORNER STILL TELLS THE CLASS",
    "unknown": "NOT MEASURED",
}
"""What a verdict on the corners is called on the terminal."""


def clean(
    data: Data,
    out: Annotated[Path, typer.Option(help="the folder to write")],
    marks: Annotated[
        Treated,
        typer.Option(
            help="what is done about marks at one place, in every image alike",
            metavar=spell_out(Treated),
        ),
    ] = "paint",
    region: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LEFT,TOP,RIGHT,BOTTOM",
            help="a further place, as shares of width and height; repeatable",
        ),
    ] = None,
    only_regions: Annotated[
        bool, typer.Option("--only-regions", help="treat no other places than these")
    ] = False,
    colour: Annotated[
        str | None,
        typer.Option(
            metavar="RED,GREEN,BLUE",
            help="of the paint, 0 to 255",
            show_default="that of the background",
        ),
    ] = None,
    near_duplicates: Annotated[
        Near,
        typer.Option(help="drop keeps one image of each field", metavar=spell_out(Near)),
    ] = "keep",
    drop_unusable: Annotated[
        bool,
        typer.Option(
            "--drop-unusable",
            help="leave out, and name, unreadable and blank images and copies under two labels",
        ),
    ] = False,
    group_pattern: GroupPattern = None,
    slide_pattern: SlidePattern = None,
    json_file: Json = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a set without copies, and without the marks that `check` finds, to a new folder.

    The same places are treated in every image. The originals are only read.

    Example:
    allkit clean smears --out cleaned
    allkit clean smears.csv --out cleaned --marks crop
    allkit clean smears --out cleaned --region 0.8,0.9,1,1
    """
    boxes = [_numbers(text, "--region", "0.8,0.9,1,1") for text in region or ()]
    paint = None if colour is None else _numbers(colour, "--colour", "240,236,240")
    if any(len(box) != 4 for box in boxes) or (paint is not None and len(paint) != 3):
        raise ConfigError("--region takes four numbers, and --colour three, with commas between.")
    require_places(json_file)
    require_training_packages()
    from allkit.quality.clean import clean as clean_set

    dataset = open_data(data, group_pattern, slide_pattern)
    with bars() as progress:
        result = clean_set(
            dataset,
            out,
            marks=marks,
            regions=[(a, b, c, d) for a, b, c, d in boxes],
            only_regions=only_regions,
            near_duplicates=near_duplicates,
            drop_unusable=drop_unusable,
            colour=None if paint is None else (int(paint[0]), int(paint[1]), int(paint[2])),
            overwrite=overwrite,
            progress=progress,
        )
    verdict = WORDS[result.corners.verdict]
    put(f"{result.summary()}\n\n{verdict}  {result.corners.message}\n")
    write_report(json_file, json.dumps(result.to_dict(), indent=1, ensure_ascii=False) + "\n")
    say(f"Saved {out}. Train on {out / 'index.csv'}; {out / 'cleaned.csv'} says what was done.")


def _numbers(text: str, option: str, example: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"{option} is {text!r}. Give numbers with commas between, as in {example}."
        ) from None
