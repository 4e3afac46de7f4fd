"""Images through a frozen backbone as bags: the whole field, its white cells, or both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn

from allkit.features.engines import BLOCK, CHECKED, FrozenPass
from allkit.images.bags import bags, shown
from allkit.images.cells import FINDER, FIRST_FINDER, Cells, find_cells
from allkit.images.finders import mark_of_finder
from allkit.images.selection import Selection
from allkit.network.around import ordinary
from allkit.network.standardise import Standardise
from allkit.records import Cell, InputSpec
from allkit.types import Pixels

__all__ = ["BagPass", "pass_through"]

CELLS_TOGETHER = 16
"""Cells that go through the backbone at a time: what is filled up to so many is soon wasted."""
ON_A_CARD = 128
"""The same on a graphics card, which has work for more."""


def pass_through(
    module: nn.Module,
    spec: InputSpec,
    device: torch.device,
    *,
    precision: str,
    engine: str,
    finder: str = FINDER,
    tiled: bool = True,
) -> FrozenPass | BagPass:
    """Return the pass through a frozen backbone for the bag of `spec`."""
    if spec.bag == "field":
        return FrozenPass(module, spec, device, precision=precision, engine=engine)
    return BagPass(
        module, spec, device, precision=precision, engine=engine, finder=finder, tiled=tiled
    )


class _Given(NamedTuple):
    """What the backbone is given of N images: T tiles and M pictures of cells, with their owners.

    `tiles` `(T, 3, S, S)` and `crops` `(M, 3, C, C)` are standardised, `tile_owners` `(T,)` and `owners`
    `(M,)` int64 are positions of images; an owner of -1 is none. Where the bag holds no field, T is 0.
    """

    tiles: torch.Tensor
    tile_owners: torch.Tensor
    crops: torch.Tensor
    owners: torch.Tensor


class BagPass:
    """Images → the mean of a backbone over their white cells; with the field, side by side.

    `module` maps `(N, 3, S, S)` float32 to `(N, D)` for any S. An image gives `(D,)`, or with the
    bag `both` `(2 · D,)`: the field first. Without a cell, its part is zero. `finder` is the version
    of the finder that searches for the cells.

    `tiled`, a large field is cut into tiles (`allkit.images.bags.shown`): its part is the mean over
    them, and cells are cut from their tile, with the tile's own scale of stain. A field of one
    tile has the same features either way.
    """

    @ordinary()
    def __init__(
        self,
        module: nn.Module,
        spec: InputSpec,
        device: torch.device,
        *,
        precision: str = "float32",
        engine: str = "torch",
        finder: str = FINDER,
        tiled: bool = True,
    ) -> None:
        self.asked_for = engine
        self._finder, self._selection = finder, Selection.of(spec, tiles=tiled)
        self._found_by = mark_of_finder(finder)
        # The cells are cut by the standardisation of the field, from which the view has its scale.
        self._standardise = Standardise(spec).to(device)
        of_a_cell = replace(spec, size=spec.cell_size, bag="field")
        self._cells = FrozenPass(module, of_a_cell, device, precision=precision, engine=engine)
        self._field = (
            FrozenPass(module, spec, device, precision=precision, engine=engine)
            if spec.bag == "both"
            else None
        )

    @property
    def signature(self) -> tuple[str, ...]:
        """Engine, version, device and precision of each part, the finder, and whether it does not tile.

        Keys in the cache are made before an image is read, so those of small fields, whose features
        are the same either way, differ as well. The first finder never tiled.
        """
        field = self._field.signature if self._field else ()
        whole = () if self._selection.tiles or self._finder == FIRST_FINDER else ("whole",)
        return (*field, *self._cells.signature, self._found_by, *whole)

    @property
    def settled(self) -> bool:
        """Whether the engine has been chosen."""
        return self._cells.settled and (self._field is None or self._field.settled)

    def prepare(self, images: Sequence[Pixels | Cells]) -> None:
        """Choose the engine; `signature` names it from then on."""
        if self.settled:
            return  # to find cells costs more than all else here, and every batch comes by
        given = self._given(self._with_cells(images[:CHECKED]))
        if self._field:
            self._field.prepare_on(given.tiles)
        self._cells.prepare_on(given.crops)

    @ordinary()
    @torch.inference_mode()
    def __call__(self, images: Sequence[Pixels | Cells], *, block: int = 0) -> torch.Tensor:
        """Return `(N, D)` or `(N, 2 · D)` float32 on the CPU for N images, in order.

        An image whose cells were found already may be given as these. `block` is that of
        `FrozenPass`.
        """
        fields = self._with_cells(images)
        return torch.cat([self._together(group, block) for group in self._groups(fields)])

    @ordinary()
    @torch.inference_mode()
    def without_each(self, cells: Cells) -> tuple[torch.Tensor, tuple[Cell, ...]]:
        """Return the results `(M, …)` of an image, each without one of the cells shown, and these."""
        given = self._given([cells])
        rows = self._of_cells(given.crops, block=0)[given.owners >= 0]
        left = (rows.sum(dim=0) - rows) / max(1, len(rows) - 1)
        places = cells.cells
        seen = tuple(places[index] for index in shown(cells, self._selection).cells)
        if self._field is None:
            return left, seen
        field = self._field.on(given.tiles).mean(dim=0)
        return torch.cat([field.expand(len(left), -1), left], dim=1), seen

    def _together(self, fields: Sequence[Cells], block: int) -> torch.Tensor:
        """Return `(N, D)` or `(N, 2 · D)` for N images that go through the backbone together."""
        given = self._given(fields)
        of_cells = _means(self._of_cells(given.crops, block), given.owners, len(fields))
        if self._field is None:
            return of_cells
        of_tiles = self._field.on(given.tiles, block=block)
        return torch.cat([_means(of_tiles, given.tile_owners, len(fields)), of_cells], dim=1)

    def _of_cells(self, crops: torch.Tensor, block: int) -> torch.Tensor:
        """Return the rows `(M, D)` of the pictures of cells, few at a time, which the caches hold."""
        few = CELLS_TOGETHER if self._cells.device.type == "cpu" else ON_A_CARD
        if block:
            return self._cells.on(crops, block=few)
        return torch.cat([self._cells.on(part) for part in torch.split(crops, few)])

    def _groups(self, fields: Sequence[Cells]) -> Iterator[list[Cells]]:
        """Yield the images in groups with no more tiles than there are images, or `BLOCK`.

        So large fields take no more memory than so many small ones.
        """
        most = max(len(fields), BLOCK)
        group: list[Cells] = []
        count = 0
        for cells in fields:
            tiles = len(shown(cells, self._selection).tiles)
            if group and count + tiles > most:
                yield group
                group, count = [], 0
            group.append(cells)
            count += tiles
        yield group

    def _given(self, fields: Sequence[Cells]) -> _Given:
        """Return what the backbone is given of images."""
        parts: list[_Given] = []
        for bag in bags(fields, self._selection):
            pixels = torch.from_numpy(bag.pixels).to(self._cells.device)
            places = torch.from_numpy(bag.places).to(self._cells.device)
            tile_owners = torch.tensor(bag.indices)[torch.from_numpy(bag.shares).argmax(dim=0)]
            owners = torch.from_numpy(bag.owners)
            if self._field is None:
                crops = self._standardise.cells(pixels, places)
                parts.append(_Given(crops[:0], tile_owners[:0], crops, owners))
            else:
                tiles, crops = self._standardise.both(pixels, places)
                parts.append(_Given(tiles, tile_owners, crops, owners))
        return _Given(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _with_cells(self, images: Sequence[Pixels | Cells]) -> list[Cells]:
        return [
            image if isinstance(image, Cells) else find_cells(image, self._finder)
            for image in images
        ]


def _means(rows: torch.Tensor, owners: torch.Tensor, count: int) -> torch.Tensor:
    """Return the mean `(N, D)` of the rows `(M, D)` of each of N owners, zeros for one without any.

    One by one, so that an image gets the same bits whichever others are with it.
    """
    means = torch.zeros(count, rows.shape[1])
    for index in range(count):
        own = rows[owners == index]
        if len(own):
            means[index] = own[0] if len(own) == 1 else own.mean(dim=0)
    return means
