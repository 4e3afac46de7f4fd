"""Images through a frozen backbone as bags: the whole field, its white cells, or both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn

from allkit.features.engines import BLOCK, CHECKED, FrozenPass
from allkit.images.bags import bags, shown
from allkit.images.cells import FINDER, FIRST_FINDER, Cells, find_cells
from allkit.network.standardise import CELL_SIZE, Standardise
from allkit.records import Cell, InputSpec
from allkit.types import Pixels

__all__ = ["BagPass", "pass_through"]

CELLS_TOGETHER = 64
"""Cells that go through the backbone at a time."""


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


class BagPass:
    """Images → the mean of a backbone over their white cells; with the field, side by side.

    `module` maps `(N, 3, S, S)` float32 to `(N, D)` for any S. An image gives `(D,)`, or with the
    bag `both` `(2 · D,)`: the field first. Without a cell, its part is zero. `finder` is the version
    of the finder that searches for the cells.

    `tiled`, a large field is cut into tiles (`allkit.images.bags.shown`): its part is the mean over
    them, and cells are cut from their tile, with the tile's own scale of stain. A field of one
    tile has the same features either way.
    """

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
        self._finder, self._tiled = finder, tiled
        # The cells are cut by the standardisation of the field, from which the view has its scale.
        self._cut = Standardise(spec).to(device)
        of_a_cell = replace(spec, size=CELL_SIZE, bag="field")
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
        whole = () if self._tiled or self._finder == FIRST_FINDER else ("whole",)
        return (*field, *self._cells.signature, self._finder, *whole)

    @property
    def settled(self) -> bool:
        """Whether the engine has been chosen."""
        return self._cells.settled and (self._field is None or self._field.settled)

    def prepare(self, images: Sequence[Pixels | Cells]) -> None:
        """Choose the engine; `signature` names it from then on."""
        if self.settled:
            return  # to find cells costs more than all else here, and every batch comes by
        bags_of_cells = self._with_cells(images[:CHECKED])
        if self._field:
            self._field.prepare([tile for cells in bags_of_cells for tile in self._tiles(cells)])
        crops, _ = self._crops(bags_of_cells)
        self._cells.prepare_on(crops)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Pixels | Cells], *, block: int = 0) -> torch.Tensor:
        """Return `(N, D)` or `(N, 2 · D)` float32 on the CPU for N images, in order.

        An image whose cells were found already may be given as these. `block` is that of
        `FrozenPass`.
        """
        fields = self._with_cells(images)
        return torch.cat([self._together(group, block) for group in self._groups(fields)])

    @torch.inference_mode()
    def without_each(self, cells: Cells) -> tuple[torch.Tensor, tuple[Cell, ...]]:
        """Return the results `(M, …)` of an image, each without one of the cells shown, and these."""
        crops, owners = self._crops([cells])
        rows = self._cells.on(crops)[owners >= 0]
        left = (rows.sum(dim=0) - rows) / max(1, len(rows) - 1)
        places = cells.cells
        seen = tuple(places[index] for index in shown(cells, tiled=self._tiled).cells)
        if self._field is None:
            return left, seen
        field = self._means(self._field, [cells], block=0)
        return torch.cat([field.expand(len(left), -1), left], dim=1), seen

    def _together(self, fields: Sequence[Cells], block: int) -> torch.Tensor:
        """Return `(N, D)` or `(N, 2 · D)` for N images that go through the backbone together."""
        crops, owners = self._crops(fields)
        rows = self._cells.on(crops, block=CELLS_TOGETHER if block else 0)
        pooled = torch.zeros(len(fields), rows.shape[1])
        for index in range(len(fields)):
            # One by one, so that an image gets the same bits whichever others are with it.
            of_image = owners == index
            if of_image.any():
                pooled[index] = rows[of_image].mean(dim=0)
        if self._field is None:
            return pooled
        return torch.cat([self._means(self._field, fields, block=block), pooled], dim=1)

    def _means(self, field: FrozenPass, fields: Sequence[Cells], *, block: int) -> torch.Tensor:
        """Return the mean `(N, D)` of a pass over the tiles of each of N images."""
        tiles = [self._tiles(cells) for cells in fields]
        rows = field([tile for of_image in tiles for tile in of_image], block=block)
        of_images = torch.split(rows, [len(of_image) for of_image in tiles])
        return torch.cat([part if len(part) == 1 else part.mean(0, True) for part in of_images])

    def _tiles(self, cells: Cells) -> list[Pixels]:
        return [cells.image[tile] for tile in shown(cells, tiled=self._tiled).tiles]

    def _groups(self, fields: Sequence[Cells]) -> Iterator[list[Cells]]:
        """Yield the images in groups with no more tiles than there are images, or `BLOCK`.

        So large fields take no more memory than so many small ones.
        """
        most = max(len(fields), BLOCK)
        group: list[Cells] = []
        count = 0
        for cells in fields:
            tiles = len(shown(cells, tiled=self._tiled).tiles)
            if group and count + tiles > most:
                yield group
                group, count = [], 0
            group.append(cells)
            count += tiles
        yield group

    def _crops(self, fields: Sequence[Cells]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cells of all images `(M, 3, C, C)` and the image of each `(M,)`."""
        crops, owners = [], []
        for bag in bags(fields, tiled=self._tiled):
            cut = self._cut.cells(
                torch.from_numpy(bag.pixels).to(self._cells.device),
                torch.from_numpy(bag.places).to(self._cells.device),
            )
            crops.append(cut)
            owners.append(torch.from_numpy(bag.owners))
        return torch.cat(crops), torch.cat(owners)

    def _with_cells(self, images: Sequence[Pixels | Cells]) -> list[Cells]:
        return [
            image if isinstance(image, Cells) else find_cells(image, self._finder)
            for image in images
        ]
