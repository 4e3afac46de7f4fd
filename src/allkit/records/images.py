"""Records of what is done with images: reading, changing them for training, finding white cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allkit.errors import PluginError
from allkit.records.naming import require_callable, require_name, require_settings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from pydantic import BaseModel

__all__ = ["Augmentation", "Finder", "Found", "Raster", "Reader", "Region"]


@dataclass(frozen=True)
class Augmentation:
    """A random change of a training image, offered by a plugin.

    `apply(image, rng)` takes `(H, W, 3)` uint8 RGB and a `numpy.random.Generator`, leaves the
    image untouched and returns a new one of the same shape and type. It keeps no state: the same
    image and the same generator state give the same result, so that the feature cache and a
    resumed training can repeat it.

    With `settings`, a class of pydantic, `apply` is called with `settings=`, an instance of it.
    """

    name: str
    apply: Callable[..., npt.NDArray[np.uint8]]
    summary: str = ""
    settings: type[BaseModel] | None = field(default=None, kw_only=True)
    chosen: Any = field(default=None, kw_only=True, repr=False)
    """The settings that it was asked for with; filled by allkit."""

    def __post_init__(self) -> None:
        require_name("augmentation", self.name)
        require_callable("augmentation", self.name, "apply", self.apply)
        require_settings("augmentation", self.name, self.settings)


@dataclass(frozen=True)
class Found:
    """What a finder of cells found in one image.

    `centres` `(M, 2)` are x and y of the nuclei and `diameters` `(M,)` their diameters, both in pixels
    of `image`. `red_cell` is the diameter of the red cells in pixels of the image that was given;
    `None` where it cannot be measured. `image` is the field at the scale at which it was searched,
    where that is another: `(H, W, 3)` uint8, with `scale` pixels per pixel of the image that was given.
    Where it is left out, allkit scales the field, so that a red cell has the size it had in training.
    """

    centres: npt.NDArray[Any]
    diameters: npt.NDArray[Any]
    red_cell: float | None = None
    image: npt.NDArray[np.uint8] | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Finder:
    """A search for the white cells of a field, offered by a plugin.

    `find(image)` takes `(H, W, 3)` uint8 RGB of any size and returns `Found`. It keeps no state, uses
    no chance and imports no torch: it is part of every answer, also of an exported file's. A model
    keeps to the finder that it was trained with.

    With `settings`, a class of pydantic, `find` is called with `settings=`, an instance of it.
    """

    name: str
    find: Callable[..., Found]
    summary: str = ""
    settings: type[BaseModel] | None = field(default=None, kw_only=True)
    chosen: Any = field(default=None, kw_only=True, repr=False)
    """The settings that it was asked for with; filled by allkit."""

    def __post_init__(self) -> None:
        require_name("finder", self.name)
        require_callable("finder", self.name, "find", self.find)
        require_settings("finder", self.name, self.settings)


@dataclass(frozen=True)
class Raster:
    """The pixels of one file, `(H, W, 3)` uint8 RGB, upright, and what it says of them.

    `micrometres_per_pixel` is `None` where the file does not say it, or pixels are not square.
    `metadata` holds what describes the picture (a stain, an objective) and identifies nobody: no name,
    number, date or place. `left_out` has the names, never the values, of everything that the file
    held beside and that was not taken. `accession` is the number of the order that it belongs to, which
    only the clinic keeps.
    """

    pixels: npt.NDArray[np.uint8]
    micrometres_per_pixel: float | None = None
    metadata: Mapping[str, str | int | float] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    accession: str = ""


@dataclass(frozen=True)
class Region:
    """A part of an image that is too large to be read whole, such as a tile of a whole slide.

    `name` tells it from the other regions of its file (`x=2048,y=512`), and `read()` returns its
    pixels, `(H, W, 3)` uint8 RGB, when they are needed and not before.
    """

    name: str
    read: Callable[[], npt.NDArray[np.uint8]]
    micrometres_per_pixel: float | None = None


@dataclass(frozen=True)
class Reader:
    """A format of images that a plugin reads.

    `read(data, name)` takes the bytes of a file and what an error may call it, and returns a `Raster`.
    `regions(path)` takes the path of a file that is never read whole, and returns its regions, in a
    fixed order, as an iterable: it stands for several images, and every answer is said to be one of a
    tile. A reader has one of the two. Both raise `allkit.ImageError` for what they cannot read.

    `suffixes` are the ends of such files' names (`.dcm`), in small letters. `magic` are bytes with
    their position by which the content is recognised whatever the name is. Formats that allkit reads
    itself (JPEG, PNG, TIFF, BMP) never come to a plugin.

    With `settings`, a class of pydantic, the function is called with `settings=`, an instance of it.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[..., Raster] | None = None
    regions: Callable[..., Iterable[Region]] | None = None
    magic: tuple[tuple[int, bytes], ...] = ()
    summary: str = ""
    settings: type[BaseModel] | None = field(default=None, kw_only=True)
    chosen: Any = field(default=None, kw_only=True, repr=False)
    """The settings that it was asked for with; filled by allkit."""

    def __post_init__(self) -> None:
        require_name("reader", self.name)
        if (self.read is None) == (self.regions is None):
            raise PluginError(f"The reader {self.name!r} must have one of `read` and `regions`.")
        given = "read" if self.regions is None else "regions"
        require_callable("reader", self.name, given, getattr(self, given))
        require_settings("reader", self.name, self.settings)
        suffixes = self.suffixes if isinstance(self.suffixes, tuple) else ()
        if not suffixes or not all(
            isinstance(s, str) and s.startswith(".") and s == s.lower() and len(s) > 1
            for s in suffixes
        ):
            raise PluginError(
                f"The reader {self.name!r} has the suffixes {self.suffixes!r:.200}; they are a tuple of ends "
                f"of names in small letters, such as ('.dcm',)."
            )
        for place in self.magic:
            if not (
                isinstance(place, tuple)
                and len(place) == 2
                and isinstance(place[0], int)
                and 0 <= place[0] <= 4096
                and isinstance(place[1], bytes)
                and len(place[1]) >= 3
            ):
                raise PluginError(
                    f"The reader {self.name!r} has the magic {place!r:.200}; it is a position up to 4096 and "
                    f"at least three bytes, such as (128, b'DICM')."
                )
