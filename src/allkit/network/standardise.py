"""The one standardisation: from uint8 pixels to what a backbone is given.

It is written in torch operations only, so that it runs in training and prediction and is part of
every exported graph: nothing has to be implemented again on the other side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from allkit.errors import PluginError
from allkit.images.batches import by_shape
from allkit.network.calls import Maker, made_by, run
from allkit.network.modules import numbers_of
from allkit.plugins import registry
from allkit.plugins.kept import meant, provider_of_kept
from allkit.records import CELL_SPAN, SCALE_BAR, InputSpec, View

__all__ = ["Stain", "Standardise", "seen_as", "to_batches", "view_fingerprint"]

ROUNDING = 1e-4
"""By how much the values of a view may leave 0 to 1."""


class Standardise(nn.Module):
    """Resize the whole image to S × S, scale to 0–1, take the view, subtract the mean, divide.

    The whole image is kept: nothing is cropped, since a crop may cut away the cell that matters;
    an image that is not square changes its proportions. The resize is an antialiased bilinear
    one, written as two matrix products with triangle-filter weights (the filter of Pillow's and
    torch's antialiased resize), because that form is exact in every export.

    `cells` gives the white cells of an image instead, each as an input of its own.
    """

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.size = spec.size
        self.cell_size = spec.cell_size
        self.view = seen_as(spec.view, spec.size)
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)
        self.mean: torch.Tensor
        self.std: torch.Tensor

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map `(N, H, W, 3)` uint8 RGB to `(N, 3, S, S)` float32."""
        whole = self._resized(_scaled(pixels))
        return self._normal(run(self.view, whole, whole))

    def cells(self, pixels: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Map `(N, H, W, 3)` uint8 RGB and `(M, 3)` places to `(M, 3, C, C)` float32.

        A place is the position of the image in the batch, and x and y of the cell in it, float32.
        The image is at the scale of the finder. A square of `CELL_SPAN` pixels about each cell is
        cut from the view of its whole image, so that all cells of a field are on one scale of
        stain, and resampled to C = `cell_size` pixels; beyond the border it is white.
        """
        image = _scaled(pixels)
        return self._cut(run(self.view, image, self._resized(image)), places)

    def both(self, pixels: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what `forward` and `cells` give, in less time: the view is made once for both."""
        image = _scaled(pixels)
        whole = self._resized(image)
        field = run(self.view, whole, whole)
        view = field if image is whole else run(self.view, image, whole)
        return self._normal(field), self._cut(view, places)

    def _cut(self, view: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Cut the cells at `places` `(M, 3)` from the views `(N, 1 or 3, H, W)` of images."""
        # What is beyond the border must be white, and weights of zero give black.
        dark = 1.0 - view
        owner = places[:, 0].clamp(min=0.0).long()
        rows = _window_weights(places[:, 2], dark.shape[2], self.cell_size)  # (M, C, H)
        columns = _window_weights(places[:, 1], dark.shape[3], self.cell_size)  # (M, C, W)
        crops = rows[:, None] @ dark[owner] @ columns[:, None].transpose(2, 3)
        return self._normal(1.0 - crops)

    def _resized(self, image: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_exporting() and image.shape[2:] == (self.size, self.size):
            return image  # the weights would be the identity
        rows = _resize_weights(image.shape[2], self.size, image.device)  # (S, H)
        columns = _resize_weights(image.shape[3], self.size, image.device)  # (S, W)
        return rows @ image @ columns.T

    def _normal(self, image: torch.Tensor) -> torch.Tensor:
        return (image.expand(-1, 3, -1, -1) - self.mean) / self.std


def _scaled(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.permute(0, 3, 1, 2).to(torch.float32) / 255.0


# ── views ──────────────────────────────────────────────────────────────────────────────────────


def seen_as(view: str, size: int) -> nn.Module:
    """Return the module of a view: `(N, 3, H, W)` in 0–1 → `(N, 1 or 3, H, W)` in 0–1.

    Its second argument, `(N, 3, S, S)` with S = `size`, is the whole image, from which it takes
    its scale. `view` is the name under which models keep it. A plugin's is tried on drawn images; raises
    `PluginError` that names package and view where it is none.
    """
    record: View = registry().get("view", meant("view", view))
    module: nn.Module = record.build(size)
    plugin = provider_of_kept("view", view)
    if plugin is None:
        return module
    maker = Maker(plugin.origin, "view", record.name)
    if not isinstance(module, nn.Module):
        raise PluginError(
            f"{maker.named} returned {module!r:.200} in `build`; it must return an nn.Module."
        )
    made_by(module.eval().requires_grad_(False), maker)
    _require_view(module, maker, size)
    return module


@torch.no_grad()
def view_fingerprint(spec: InputSpec) -> tuple[float, ...]:
    """Return nine numbers that say what the view of a plugin makes of a drawn image; none of a built-in.

    They are those that `fingerprint` makes of features.
    """
    if provider_of_kept("view", spec.view) is None:
        return ()
    image = _drawn(spec.size, spec.size, 0.0)[None]
    return numbers_of(run(seen_as(spec.view, spec.size), image, image).flatten())


@torch.no_grad()
def _require_view(module: nn.Module, maker: Maker, size: int) -> None:
    """Raise `PluginError` unless a module does what a view does, on two drawn images."""
    whole = torch.stack([_drawn(size, size, phase) for phase in (0.0, 1.0)])
    part = torch.stack([_drawn(40, 56, phase) for phase in (0.0, 1.0)])
    for image in (whole, part):
        seen = run(module, image, whole)
        shape = tuple(image.shape)
        wanted = [(2, channels, *shape[2:]) for channels in (1, 3)]
        if tuple(seen.shape) not in wanted or seen.dtype != torch.float32:
            raise PluginError(
                f"{maker.named} returned {tuple(seen.shape)} {_dtype(seen)} in `forward` for {shape} "
                f"float32; it must return {wanted[0]} or {wanted[1]} float32."
            )
        low, high = float(seen.min()), float(seen.max())
        if not (low >= -ROUNDING and high <= 1.0 + ROUNDING):  # also where it is no number
            raise PluginError(
                f"{maker.named} returned values from {low:g} to {high:g} in `forward`; they must be numbers "
                f"from 0 to 1."
            )
        alone = torch.cat([run(module, image[i : i + 1], whole[i : i + 1]) for i in range(2)])
        if alone.shape != seen.shape or float((alone - seen).abs().max()) > 1e-4:
            raise PluginError(
                f"{maker.named} shows an image otherwise when another is beside it in the batch, or when it "
                f"is shown again. It must look at each image by itself, without chance."
            )


def _drawn(height: int, width: int, phase: float) -> torch.Tensor:
    """Return an image of stained discs `(3, H, W)`, which every view has something to see in."""
    rows, columns = torch.arange(height)[:, None] / height, torch.arange(width)[None, :] / width
    density = (torch.sin(9.0 * rows + phase) * torch.cos(7.0 * columns - phase)).clamp(min=0.0)
    density = density * (1.0 - 0.5 * phase)
    return torch.stack([0.95 - share * density for share in (0.6, 0.75, 0.3 + 0.1 * phase)])


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


class Colours(nn.Module):
    """The colours as they are."""

    def forward(self, image: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        """Return `image`."""
        return image


class Masked(nn.Module):
    """The colours, but white where microscopes burn in a scale bar."""

    def forward(self, image: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        """Map `(N, 3, H, W)` in 0–1 to the same, without the lower right corner."""
        return 1.0 - (1.0 - image) * _shown(image)


class Stain(nn.Module):
    """How much stain is where, on a scale of the image's own: what colour does not reach.

    `haematoxylin`, `eosin`: share of a stain by colour deconvolution (Ruifrok & Johnston 2001,
    with their vectors of haematoxylin, eosin and the residual) of the optical density;
    haematoxylin is what nuclei take up. `saturation`: 1 − min / max of the colours. `normalised`:
    the optical density of each colour. The lowest 1 % become white and the highest 0.5 % black,
    so that neither the strength of the stain nor the light of the microscope is seen. The lower
    right corner, where microscopes burn in a scale bar, is white.
    """

    LOW, HIGH = 0.01, 0.005

    def __init__(self, kind: str, size: int) -> None:
        super().__init__()
        self.kind = kind
        stains = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
        stains = stains / stains.norm(dim=1, keepdim=True)
        which = 1 if kind == "eosin" else 0
        share = torch.linalg.inv(stains)[:, which].view(1, 3, 1, 1)
        self.low, self.high = (max(1, round(part * size * size)) for part in (self.LOW, self.HIGH))
        self.register_buffer("share", share, persistent=False)
        self.share: torch.Tensor

    def forward(self, image: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        """Map `(N, 3, H, W)` in 0–1 to `(N, 1, H, W)`, or 3 for `normalised`, in 0–1."""
        of_whole = self._planes(whole)
        low, high = self._ends(of_whole)
        planes = of_whole if image is whole else self._planes(image)
        scaled = ((planes - low) / (high - low).clamp(min=FLAT)).clamp(0.0, 1.0)
        return 1.0 - scaled * _shown(image)

    def _planes(self, image: torch.Tensor) -> torch.Tensor:
        if self.kind == "saturation":
            most = image.amax(dim=1, keepdim=True)
            return 1.0 - image.amin(dim=1, keepdim=True) / most.clamp(min=1.0 / 255.0)
        density = -torch.log((image * 255.0 + 1.0) / 256.0)
        if self.kind == "normalised":
            return density
        return (density * self.share).sum(dim=1, keepdim=True)

    def _ends(self, planes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # What is not shown is as pale as the middle of the image while the ends are sought.
        shown = _shown(planes)
        middle = planes.mean(dim=(2, 3), keepdim=True)
        inside = (planes * shown + middle * (1.0 - shown)).flatten(2)
        # By the largest values, because every export knows them, which quantiles it may not.
        high = inside.topk(self.high, dim=2).values[..., -1, None, None]
        low = -(-inside).topk(self.low, dim=2).values[..., -1, None, None]
        return low, high


def _shown(image: torch.Tensor) -> torch.Tensor:
    """Return `(H, W)` float32 that is 0 in the corner of the scale bar, else 1."""
    row, column = (
        torch.arange(length, dtype=torch.float32, device=image.device) + 1.0 > share * length
        for length, share in zip(image.shape[2:], SCALE_BAR, strict=True)
    )
    return 1.0 - row.float()[:, None] * column.float()[None, :]


FLAT = 0.02
"""Optical density; an image whose stain varies less is empty, and its noise is not blown up."""


def _resize_weights(length: int, size: int, device: torch.device) -> torch.Tensor:
    """Return the `(size, length)` weights that resample `length` pixels to `size`.

    A triangle filter whose half-width is one output pixel when shrinking and one input pixel
    when enlarging; the identity when nothing changes.
    """
    output = torch.arange(size, dtype=torch.float32, device=device)
    source = torch.arange(length, dtype=torch.float32, device=device)
    # A tensor, not a Python number: the length may be symbolic while a graph is exported.
    scale = source.new_ones(()) * length / size
    support = torch.clamp(scale, min=1.0)
    centre = (output + 0.5) * scale - 0.5
    weights = torch.clamp(1.0 - (source[None, :] - centre[:, None]).abs() / support, min=0.0)
    return weights / weights.sum(dim=1, keepdim=True)


def _window_weights(centres: torch.Tensor, length: int, size: int) -> torch.Tensor:
    """Return `(M, C, length)` weights that sample C = `size` points of a window about each centre.

    Linear between the pixels; a point beyond the border has weights of zero.
    """
    steps = torch.arange(size, dtype=torch.float32, device=centres.device)
    offsets = (steps + 0.5) * (CELL_SPAN / size) - CELL_SPAN / 2
    points = centres[:, None] + offsets
    source = torch.arange(length, dtype=torch.float32, device=centres.device)
    return torch.clamp(1.0 - (points[..., None] - source).abs(), min=0.0)


def to_batches(
    images: Sequence[npt.NDArray[np.uint8]],
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Yield (positions in `images`, `(n, H, W, 3)` uint8) for each shape there is."""
    for indices, pixels in by_shape(images):
        yield indices, torch.from_numpy(pixels)
