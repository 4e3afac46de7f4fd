"""What a network of cells is given of fields: their tiles, and the places of white cells in these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from allkit.images.batches import by_shape
from allkit.images.cells import Cells, Tile
from allkit.images.selection import Selection
from allkit.types import Ints, Pixels, Singles

__all__ = ["Bags", "Shown", "bags", "of_tiles", "shown"]

MOST_TILES = 12
"""Number of tiles of a field that a network sees, those with the most white cells."""


class Shown(NamedTuple):
    """What a network is shown of one field.

    `tiles` are T parts of its image, all of one shape, row by row. `cells` `(M,)` are positions
    among its cells, the largest first, and `owners` `(M,)` the tile of each.
    """

    tiles: tuple[Tile, ...]
    cells: Ints
    owners: Ints


class Bags(NamedTuple):
    """The input of a network of cells for N fields whose tiles, T in all, have one shape.

    `indices` are the positions of the fields. `pixels` is `(T, H, W, 3)` uint8. A place `(M, 3)`
    float32 is the position of a tile, and x and y of a cell in it; without any cell there is one
    place, of no tile (-1). `owners` `(M,)` is the position of the field of each, -1 for none.
    `shares` `(N, T)` float32 is how much each tile counts for each field: all tiles of a field
    alike, those of others nothing.
    """

    indices: list[int]
    pixels: Pixels
    places: Singles
    owners: Ints
    shares: Singles


def shown(cells: Cells, selection: Selection) -> Shown:
    """Return what a network is shown of a field: each of its tiles is what a field was in training.

    A cell is of the tile that its centre is in. Tiles without a cell do not count where others have
    some; of more than `MOST_TILES` those with the most cells do.
    """
    height, width = cells.image.shape[:2]
    tiles = cells.tiles() if selection.tiles else ((slice(0, height), slice(0, width)),)
    tile_of_cell = _tile_of_each(cells, tiles)
    count = np.bincount(tile_of_cell, minlength=len(tiles))
    busiest = np.argsort(-count, kind="stable")[:MOST_TILES]
    chosen = np.sort(busiest[count[busiest] > 0] if cells.count else busiest)
    of_tiles = [selection.among(np.flatnonzero(tile_of_cell == tile)) for tile in chosen.tolist()]
    positions = np.concatenate(of_tiles)
    owners = np.repeat(np.arange(len(chosen)), [len(part) for part in of_tiles])
    order = np.argsort(positions)
    return Shown(tuple(tiles[i] for i in chosen.tolist()), positions[order], owners[order])


def of_tiles(
    fields: Sequence[Cells], classify: Callable[[list[Cells]], Singles], selection: Selection
) -> list[Singles | None]:
    """Return what `classify` says of each tile of a field by itself, `(T, K)`; `None` for one tile.

    `classify` maps n fields to logits `(n, K)`.
    """
    apart = [_apart(cells, selection) for cells in fields]
    every = [tile for tiles in apart for tile in tiles]
    if not every:
        return [None] * len(fields)
    rows = np.split(classify(every), np.cumsum([len(tiles) for tiles in apart])[:-1])
    return [part if len(part) else None for part in rows]


def _apart(cells: Cells, selection: Selection) -> list[Cells]:
    """Return each tile that is shown of a field as a field of its own; none where it is one tile."""
    tiles, positions, owners = shown(cells, selection)
    if len(tiles) == 1:
        return []
    return [
        replace(
            cells,
            image=cells.image[rows, columns],
            centres=cells.centres[inside] - np.array([columns.start, rows.start], np.float32),
            diameters=cells.diameters[inside],
        )
        for number, (rows, columns) in enumerate(tiles)
        for inside in [positions[owners == number]]
    ]


def bags(fields: Sequence[Cells], selection: Selection) -> Iterator[Bags]:
    """Yield the input of a network for fields, in groups: those of one tile together, by its shape.

    A field of several tiles comes alone, so that no group is larger than the fields were many, or
    `MOST_TILES`.
    """
    parts = [shown(cells, selection) for cells in fields]
    whole = [index for index, part in enumerate(parts) if len(part.tiles) == 1]
    for positions, pixels in by_shape([fields[i].image[parts[i].tiles[0]] for i in whole]):
        yield _bags([whole[position] for position in positions], pixels, fields, parts)
    for index, part in enumerate(parts):
        if len(part.tiles) > 1:
            pixels = np.stack([fields[index].image[tile] for tile in part.tiles])
            yield _bags([index], pixels, fields, parts)


def _bags(
    indices: list[int], pixels: Pixels, fields: Sequence[Cells], parts: Sequence[Shown]
) -> Bags:
    """Return the input for the fields at `indices`, whose tiles in this order are `pixels`."""
    shares = np.zeros((len(indices), len(pixels)), np.float32)
    places: list[tuple[float, float, float]] = []
    owners: list[int] = []
    first = 0
    for row, index in enumerate(indices):
        tiles, cells, tile_of_cell = parts[index]
        shares[row, first : first + len(tiles)] = 1 / len(tiles)
        for (x, y), tile in zip(fields[index].centres[cells], tile_of_cell.tolist(), strict=True):
            rows, columns = tiles[tile]
            places.append((first + tile, x - columns.start, y - rows.start))
        owners += [index] * len(cells)
        first += len(tiles)
    if not places:
        places, owners = [(-1.0, 0.0, 0.0)], [-1]
    return Bags(
        indices,
        pixels,
        places=np.array(places, np.float32),
        owners=np.array(owners),
        shares=shares,
    )


def _tile_of_each(cells: Cells, tiles: Sequence[Tile]) -> Ints:
    """Return the first tile that holds the centre of each cell, `(M,)`."""
    if len(tiles) == 1:
        return np.zeros(cells.count, np.int64)
    x, y = cells.centres.T
    inside = [
        (rows.start <= y) & (y < rows.stop) & (columns.start <= x) & (x < columns.stop)
        for rows, columns in tiles
    ]
    first: Ints = np.argmax(inside, axis=0)
    return first
