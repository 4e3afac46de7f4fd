"""The images of a set for PyTorch's own loaders, standardised as a network is given them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.utils.data import Dataset as TorchDataset

from allkit.network.standardise import Standardise
from allkit.records import InputSpec

if TYPE_CHECKING:
    from allkit.data.dataset import Dataset

__all__ = ["TorchImages"]


class TorchImages(TorchDataset[tuple[torch.Tensor, int]]):
    """The images of `data` for `torch.utils.data.DataLoader`; processes of a loader may share it.

    Item i is `(image, label)`: the whole field as a tensor `(3, S, S)` float32, standardised as `spec`
    says (size, view, mean, deviation), and the position of its class in `data.classes`, -1 without one.
    Raises `ImageError` for an unreadable image.
    """

    def __init__(self, data: Dataset, spec: InputSpec) -> None:
        self.data = data
        self.spec = spec
        self._standardise = Standardise(spec).eval()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        pixels = torch.from_numpy(self.data.read(index))
        with torch.no_grad():
            image: torch.Tensor = self._standardise(pixels[None])[0]
        return image, int(self.data.labels[index])
