"""The checks of a finder of white cells."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from allkit.records import Finder, Found
from allkit.testing.alone import called_alone, imports_quickly
from allkit.testing.checks import require
from allkit.testing.examples import sample_images
from allkit.testing.surroundings import changed, global_state, no_network
from allkit.types import Pixels

__all__ = ["CHECKS"]

SECONDS = 1.0  # for one field of 224 × 224 pixels
SIZES = ((16, 16), (33, 47), (90, 700), (640, 480))


def _found(record: Finder, image: Pixels) -> Found:
    found = record.find(image.copy())
    require(isinstance(found, Found), f"`find` returned {type(found).__name__}, not Found.")
    centres, diameters = found.centres, found.diameters
    for name, values in (("centres", centres), ("diameters", diameters)):
        require(
            isinstance(values, np.ndarray) and values.dtype.kind in "fiu",
            f"Its `{name}` are {type(values).__name__}, no array of numbers.",
        )
        require(np.isfinite(values).all(), f"Some of its `{name}` are not finite.")
    count = len(centres)
    require(
        centres.shape == (count, 2) and diameters.shape == (count,),
        f"Its centres are {centres.shape} and its diameters {diameters.shape}; (M, 2) and (M,) are wanted.",
    )
    searched = image if found.image is None else found.image
    require(
        isinstance(searched, np.ndarray)
        and searched.dtype == np.uint8
        and searched.ndim == 3
        and searched.shape[2] == 3,
        "Its `image` is no (H, W, 3) uint8.",
    )
    if found.image is not None:
        wanted = [found.scale * length for length in image.shape[:2]]
        off = max(abs(a - b) for a, b in zip(wanted, searched.shape, strict=False))
        require(
            found.scale > 0 and off <= 2,
            f"Its image is {searched.shape}, and its scale {found.scale:.3g} for one of {image.shape}.",
        )
    height, width = searched.shape[:2]
    inside = (centres >= 0) & (centres < (width, height))
    require(inside.all(), f"Some centres are outside the image of {width} × {height} pixels.")
    require((diameters > 0).all(), "Some diameters are not above zero.")
    red = found.red_cell
    require(
        red is None or (np.isfinite(red) and red > 0),
        f"Its red_cell is {red!r}; above zero, or None.",
    )
    return found


def _same(one: Found, other: Found) -> bool:
    pairs = [
        (getattr(one, name), getattr(other, name)) for name in ("image", "centres", "diameters")
    ]
    arrays = all(
        (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))
        for a, b in pairs
    )
    return arrays and (one.red_cell, one.scale) == (other.red_cell, other.scale)


def finds_cells_inside_the_image(record: Finder) -> None:
    """Of smears it finds white cells; centres are inside the image, numbers finite and above zero."""
    counts = [len(_found(record, image).centres) for image in sample_images()]
    require(any(counts), f"It found no cell in any of {len(counts)} smears.")


def takes_any_size(record: Finder) -> None:
    """Small, long and large images are searched too."""
    smear = sample_images()[0]
    for height, width in SIZES:
        rows, columns = (
            np.arange(n) % m for n, m in zip((height, width), smear.shape, strict=False)
        )
        _found(record, np.ascontiguousarray(smear[rows][:, columns]))


def takes_blank_images_and_noise(record: Finder) -> None:
    """In an image of one colour there is no cell; noise is searched without an error."""
    for value in (0, 128, 255):
        count = len(_found(record, np.full((128, 128, 3), value, np.uint8)).centres)
        require(not count, f"In an image that is {value} everywhere it found {count} cells.")
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    _found(record, noise)


def finds_the_same_every_time(record: Finder) -> None:
    """The same image gives the same cells, also after others."""
    images = sample_images()[:4]
    first = [_found(record, image) for image in images]
    again = [_found(record, image) for image in reversed(images)][::-1]
    require(
        all(map(_same, first, again)),
        "Twice the same image gave other cells: it uses chance or state.",
    )


def leaves_its_input_untouched(record: Finder) -> None:
    """The image that is given stays as it is, and may be one that cannot be written to."""
    image = sample_images()[0].copy()
    before = image.copy()
    record.find(image)
    require(np.array_equal(image, before), "It changed the image it was given.")
    image.flags.writeable = False
    record.find(image)


def threads_do_not_disturb_each_other(record: Finder) -> None:
    """Four threads at once get what each would get alone."""
    images = list(sample_images())
    alone = [_found(record, image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: _found(record, image), images))
    require(
        all(map(_same, alone, together)),
        "In threads it found other cells: it keeps state between calls.",
    )


def finds_without_torch(record: Finder) -> None:
    """In a process of its own it finds the same number of cells, and imports neither torch nor timm."""
    image = sample_images()[0]
    heavy = called_alone(
        record.find,
        image,
        "count = len(function(given).centres)\n"
        "print(count, *[n for n in ('torch', 'timm', 'albumentations') if n in sys.modules])",
    )
    count, *imported = heavy.split()
    require(not imported, f"Finding cells imported {', '.join(imported)}.")
    here = len(_found(record, image).centres)
    require(int(count) == here, f"It found {here} cells here, and {count} in another process.")


def changes_no_global_state(record: Finder) -> None:
    """Searching changes nothing of the process, and uses no network."""
    image = sample_images()[0]
    _found(record, image)  # the first time may import libraries
    with no_network() as attempts:
        before = global_state()
        _found(record, image)
        different = changed(before, global_state())
    require(not different, f"It changed: {', '.join(different)}.")
    require(not attempts, f"It tried to reach {', '.join(attempts)}.")


def is_quick(record: Finder) -> None:
    """One field of 224 × 224 pixels takes at most a second."""
    image = sample_images()[0]
    _found(record, image)
    start = time.perf_counter()
    for _ in range(3):
        record.find(image.copy())
    seconds = (time.perf_counter() - start) / 3
    require(seconds <= SECONDS, f"One field takes {seconds:.2f} s; at most {SECONDS:g} s is fair.")


CHECKS = (
    imports_quickly,
    finds_cells_inside_the_image,
    takes_any_size,
    takes_blank_images_and_noise,
    finds_the_same_every_time,
    leaves_its_input_untouched,
    threads_do_not_disturb_each_other,
    finds_without_torch,
    changes_no_global_state,
    is_quick,
)
