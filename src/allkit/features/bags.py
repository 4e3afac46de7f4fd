"""Images through a frozen backbone as bags: the whole field, its white cells, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from allkit.features.engines import CHECKED, FrozenPass
from allkit.images.cells import FINDER, Cells, bags, find_cells
from allkit.network.standardise import CELL_SIZE, Standardise
from allkit.records import InputSpec
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
) -> FrozenPass | BagPass:
    """Return the pass through a frozen backbone for the bag of `spec`."""
    if spec.bag == "field":
        return FrozenPass(module, spec, device, precision=precision, engine=engine)
    return BagPass(module, spec, device, precision=precision, engine=engine, finder=finder)


class BagPass:
    """Images → the mean of a backbone over their white cells; with the field, side by side.

    `module` maps `(N, 3, S, S)` float32 to `(N, D)` for any S. An image gives `(D,)`, or with the
    bag `both` `(2 · D,)`: the field first. Without a cell, its part is zero. `finder` is the version
    of the finder that searches for the cells.
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
    ) -> None:
        self._finder = finder
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
        """Engine, version, device and precision of each part, and the finder."""
        field = self._field.signature if self._field else ()
        return (*field, *self._cells.signature, self._finder)

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
            self._field.prepare([cells.image for cells in bags_of_cells])
        crops, _ = self._crops(bags_of_cells)
        self._cells.prepare_on(crops)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Pixels | Cells], *, block: int = 0) -> torch.Tensor:
        """Return `(N, D)` or `(N, 2 · D)` float32 on the CPU for N images, in order.

        An image whose cells were found already may be given as these. `block` is that of
        `FrozenPass`.
        """
        bags_of_cells = self._with_cells(images)
        crops, owners = self._crops(bags_of_cells)
        rows = self._cells.on(crops, block=CELLS_TOGETHER if block else 0)
        pooled = torch.zeros(len(bags_of_cells), rows.shape[1])
        for index in range(len(bags_of_cells)):
            # One by one, so that an image gets the same bits whichever others are with it.
            of_image = owners == index
            if of_image.any():
                pooled[index] = rows[of_image].mean(dim=0)
        if self._field is None:
            return pooled
        field = self._field([cells.image for cells in bags_of_cells], block=block)
        return torch.cat([field, pooled], dim=1)

    @torch.inference_mode()
    def without_each(self, cells: Cells) -> torch.Tensor:
        """Return the result of an image without one of its cells, for each cell: `(M, …)`."""
        crops, owners = self._crops([cells])
        rows = self._cells.on(crops)[owners >= 0]
        left = (rows.sum(dim=0) - rows) / max(1, len(rows) - 1)
        if self._field is None:
            return left
        return torch.cat([self._field([cells.image]).expand(len(left), -1), left], dim=1)

    def _crops(self, bags_of_cells: Sequence[Cells]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cells of all images `(M, 3, C, C)` and the image of each `(M,)`."""
        crops, owners = [], []
        for indices, pixels, places in bags(bags_of_cells):
            cut = self._cut.cells(
                torch.from_numpy(pixels).to(self._cells.device),
                torch.from_numpy(places).to(self._cells.device),
            )
            owner = torch.from_numpy(places[:, 0]).long()
            crops.append(cut)
            owners.append(torch.where(owner < 0, -1, torch.tensor(indices)[owner.clamp(min=0)]))
        return torch.cat(crops), torch.cat(owners)

    def _with_cells(self, images: Sequence[Pixels | Cells]) -> list[Cells]:
        return [
            image if isinstance(image, Cells) else find_cells(image, self._finder)
            for image in images
        ]
