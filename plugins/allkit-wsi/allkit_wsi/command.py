"""`allkit tiles`: the tiles of a whole slide as images, and a table of where they are from."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from allkit.errors import ConfigError
from allkit.images.hidden import TILE
from allkit_wsi.settings import Tiling
from allkit_wsi.slide import Slide, listed

__all__ = ["TABLE", "tiles"]

TABLE = "tiles.csv"
COLUMNS = ("image", "slide", "x", "y", "side", "micrometres_per_pixel")


def tiles(
    slide: Annotated[Path, typer.Argument(help="a whole slide, or a pyramidal TIFF")],
    out: Annotated[Path, typer.Option(help="the folder for tiles and table; it must not exist")],
    micrometres_per_pixel: Annotated[float, typer.Option(help="the scale of the tiles")] = 0.5,
    side: Annotated[int, typer.Option(help="pixels of a tile's side")] = 224,
    least_tissue: Annotated[
        float, typer.Option(help="the share of a tile that is not bare glass, at least")
    ] = 0.5,
    most_tiles: Annotated[
        int | None, typer.Option(help="at most so many, evenly spread over those with tissue")
    ] = None,
    stated: Annotated[
        float | None,
        typer.Option(help="the slide's micrometres per pixel, where its file is silent"),
    ] = None,
) -> None:
    """Cut a whole slide into images, with a table of their places.

    Each image is marked as a tile: answers about it say so, and none is accepted.

    Example:
    allkit tiles slide.svs --out tiles
    allkit predict model.onnx tiles/tiles.csv --by slide
    """
    try:
        settings = Tiling(
            micrometres_per_pixel=micrometres_per_pixel,
            side=side,
            least_tissue=least_tissue,
            most_tiles=most_tiles,
            stated_micrometres_per_pixel=stated,
        )
    except ValueError as error:
        first = error.errors()[0] if hasattr(error, "errors") else {"loc": (), "msg": error}
        key = str(first["loc"][0]) if first["loc"] else "a setting"
        raise ConfigError(f"--{key.replace('_', '-')}: {first['msg']}.") from None
    if out.exists():
        raise ConfigError(f"{out} exists. Give a folder that does not, or remove it.")
    opened = Slide(slide)
    regions = opened.regions(settings)
    out.mkdir(parents=True)
    scanned = round(side * micrometres_per_pixel / opened.scale(settings))
    mark = PngInfo()
    mark.add_text(*TILE)
    with (out / TABLE).open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(COLUMNS)
        for x, y, region in listed(regions):
            file = f"x{x:07}-y{y:07}.png"
            Image.fromarray(region.read()).save(out / file, pnginfo=mark)
            rows.writerow((file, slide.name, x, y, scanned, micrometres_per_pixel))
    opened.close()
    width, height = opened.size
    typer.echo(
        f"Saved {out}: {len(regions):,} tiles of {slide.name} ({width:,} × {height:,} pixels)."
    )
