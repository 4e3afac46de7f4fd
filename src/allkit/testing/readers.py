"""The checks of a reader of images.

A reader is checked on damaged files in any case, and on real ones where the author gives some:

    from allkit.testing.readers import using_files

    @conformance("allkit-mine")
    def test_conformance(check):
        with using_files(["tests/field.mine"], identity=["Jane Doe", "P-4711"]):
            check()
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from allkit.errors import ImageError
from allkit.images.own import FORMATS, IMAGE_SUFFIXES, format_of
from allkit.images.readers import RESERVED, fault_of, fault_of_pixels, is_scale
from allkit.records import Raster, Reader, Region
from allkit.testing.checks import Skipped, require
from allkit.testing.examples import sample_images
from allkit.testing.surroundings import changed, global_state, no_network
from allkit.types import Pixels

__all__ = ["CHECKS", "using_files"]

PLANTED = "Jane Quincy Doe"
"""A name that damaged files hold, and that no message may quote."""
TELLING = (
    "patient",
    "name",
    "birth",
    "date",
    "time",
    "hospital",
    "institution",
    "physician",
    "serial",
)
"""Parts of the names of metadata that identify somebody."""
SECONDS, PER_MEGAPIXEL = 2.0, 2.0
SIZES = (1, 3, 16, 140, 4096, 70_000)


@dataclass(frozen=True)
class _Given:
    files: tuple[Path, ...] = ()
    identity: tuple[str, ...] = ()


_given = _Given()


@contextlib.contextmanager
def using_files(
    files: Sequence[str | os.PathLike[str]], *, identity: Sequence[str] = ()
) -> Iterator[None]:
    """Check readers on these files, of which each takes those with its suffixes.

    `identity` are words that are in the files and say whose they are: none may come out again. Without
    them it is not checked whether a reader tells whose an image is, and that check is skipped.
    """
    global _given
    before, _given = _given, _Given(tuple(map(Path, files)), tuple(identity))
    try:
        yield
    finally:
        _given = before


def _samples(record: Reader) -> list[tuple[str, bytes]]:
    """Return names and contents of the files to check a reader on; raise `Skipped` without any."""
    files = [p for p in _given.files if p.name.lower().endswith(record.suffixes)]
    if files:
        return [(str(path), path.read_bytes()) for path in files]
    if record.name in FORMATS and record.suffixes == FORMATS[record.name].suffixes:
        return [(f"drawn{record.suffixes[0]}", _encoded(record.name))]
    raise Skipped(
        f"There is no file to check on that ends with {' or '.join(record.suffixes)}. Name one: `--file "
        f"FILE`, or in a test `using_files`."
    )


def _encoded(kind: str) -> bytes:
    """Return a drawn image in one of allkit's formats, which holds `PLANTED` beside its pixels."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    stream, text = io.BytesIO(), PngInfo()
    text.add_text("Author", PLANTED)
    beside = {"pnginfo": text, "comment": PLANTED.encode(), "description": PLANTED}
    Image.fromarray(sample_images()[0]).save(stream, kind, **beside)
    return stream.getvalue() + (PLANTED.encode() if kind == "bmp" else b"")


def _words(record: Reader) -> tuple[str, ...]:
    """Return what the files hold that says whose they are; raise `Skipped` where nobody said it."""
    if _given.identity:
        return _given.identity
    if record.name in FORMATS and not any(p.name.endswith(record.suffixes) for p in _given.files):
        return (PLANTED,)
    raise Skipped(
        "Nobody said which words in the files tell whose they are, so they were not looked for. Name "
        "them: `--identity WORD`, or in a test `using_files(…, identity=[…])`."
    )


def _require_quiet(text: str, words: Sequence[str], what: str) -> None:
    """Fail where a text holds one of the words, which are not said again."""
    said = [str(i) for i, word in enumerate(words, 1) if word.casefold() in text.casefold()]
    require(not said, f"{what} tells whose it is: word {', '.join(said)} of those that were named.")


def _images(record: Reader, data: bytes, name: str) -> list[Pixels]:
    """Return the pixels that a reader gives for a file: those of one image, or of a few regions."""
    if record.read is not None:
        return [_raster(record, data, name).pixels]
    regions = _regions(record, name)
    chosen = sorted({0, len(regions) // 2, len(regions) - 1}) if regions else []
    return [regions[i].read() for i in chosen]


def _raster(record: Reader, data: bytes, name: str) -> Raster:
    if record.read is None:
        raise Skipped("It gives regions, and no image of a whole file.")
    raster: Raster = record.read(data, name)
    return raster


def _regions(record: Reader, path: str) -> list[Region]:
    if record.regions is None:
        raise Skipped("It reads whole files, and gives no regions.")
    return list(record.regions(path))


def _broken(record: Reader, data: bytes) -> str:
    """Return the message with which a reader refuses a damaged file; empty where it gives an image."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"broken{record.suffixes[0]}")
        if record.regions is not None:
            path.write_bytes(data)
        try:
            images = _images(record, data, str(path))
        except ImageError as error:
            require(
                path.name in str(error),
                "A message does not name the file. Begin it with `name`.",
            )
            return str(error)
        except Skipped:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it raises is what is looked for
            cause = error.__cause__ or error
            require(
                False,
                f"For a damaged file of {len(data):,} bytes it raised {type(cause).__name__}. Raise "
                f"allkit.ImageError for whatever cannot be read.",
            )
        for pixels in images:
            _require_pixels(pixels)
    return ""


def _require_pixels(pixels: object) -> None:
    fault = fault_of_pixels(pixels)
    require(not fault, f"It {fault}.")


def claims_nothing_of_allkit(record: Reader) -> None:
    """Its suffixes and magic are not those of formats that allkit reads itself, nor of tables."""
    if record.name in FORMATS and record.suffixes == FORMATS[record.name].suffixes:
        raise Skipped("It is one of allkit's own.")
    taken = [s for s in record.suffixes if s in IMAGE_SUFFIXES or s in RESERVED]
    require(not taken, f"It claims {', '.join(taken)}, for which it is never asked.")
    own = [magic for at, magic in record.magic if at == 0 and format_of(magic + b"\0" * 16)]
    require(not own, f"It claims {own!r}, by which allkit knows a format of its own.")


def refuses_what_is_no_such_file(record: Reader) -> None:
    """Empty, random and cut files, also behind its magic, raise `ImageError` and nothing else."""
    rng = np.random.default_rng(0)
    heads = [b""] if not record.magic else [bytes(at) + magic for at, magic in record.magic]
    for size in (0, *SIZES):
        noise = rng.bytes(size)
        for data in (noise, bytes(size), *(head + noise for head in heads)):
            message = _broken(record, data)
            require(message, f"For {len(data):,} bytes of noise it gave an image.")


def quotes_nothing_of_a_file(record: Reader) -> None:
    """Messages quote nothing of a file, which may hold the name of a patient."""
    words = (PLANTED + "\n").encode() * 40
    for head in [b""] + [bytes(at) + magic for at, magic in record.magic]:
        message = _broken(record, head + words)
        require(PLANTED not in message, f"A message quotes the file: {message!r:.200}.")
    if not _given.files:
        return
    for name, data in _samples(record)[:2]:
        for part in range(1, 7):
            message = _broken(record, data[: len(data) * part // 7])
            _require_quiet(message, _words(record), f"A message about a part of {name}")


def gives_images(record: Reader) -> None:
    """Pixels are `(H, W, 3)` uint8, the scale is a number or not known, and metadata are plain."""
    for name, data in _samples(record):
        if record.read is None:
            regions = _regions(record, name)
            require(regions, f"It gave no region of {name}.")
            names = [region.name for region in regions]
            require(len(set(names)) == len(names), "Two regions have one name.")
            require(
                all(is_scale(region.micrometres_per_pixel) for region in regions),
                "The scale of a region is no positive number.",
            )
            for pixels in _images(record, data, name):
                _require_pixels(pixels)
        else:
            fault = fault_of(record.read(data, name))
            require(not fault, f"For {name} it {fault}.")


def same_file_gives_same_image(record: Reader) -> None:
    """A file gives the same pixels, or the same regions in the same order, each time."""
    for name, data in _samples(record):
        first, again = _images(record, data, name), _images(record, data, name)
        same = len(first) == len(again) and all(map(np.array_equal, first, again))
        require(same, f"Twice {name} gave two images.")
        if record.regions is not None:
            orders = [[region.name for region in _regions(record, name)] for _ in range(2)]
            require(orders[0] == orders[1], f"The regions of {name} changed their order.")


def threads_do_not_disturb_each_other(record: Reader) -> None:
    """Eight threads at once get what each would get alone."""
    for name, data in _samples(record)[:2]:
        alone = _images(record, data, name)
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(partial(_images, record, data), [name] * 8))
        require(
            all(all(map(np.array_equal, alone, images)) for images in together),
            f"In threads {name} gave other pixels than alone.",
        )


def survives_damage(record: Reader) -> None:
    """Cut anywhere, and with bytes flipped, a file gives an image or `ImageError`, nothing else."""
    rng = np.random.default_rng(1)
    for name, data in _samples(record)[:2]:
        for length in rng.integers(0, len(data), 12):
            _broken(record, data[:length])
        for _ in range(24):
            broken = bytearray(data)
            for place in rng.integers(0, min(len(data), 100_000), 3):
                broken[place] = rng.integers(256)
            message = _broken(record, bytes(broken))
            _require_quiet(message, _given.identity, f"A message about damage in {name}")


def identity_stays_behind(record: Reader) -> None:
    """Metadata, names of regions and of what was left out say nothing of whose an image is."""
    for name, data in _samples(record):
        for metadata, text in _told(record, data, name):
            telling = [k for k in metadata if any(part in k.lower() for part in TELLING)]
            require(
                not telling,
                f"The metadata have {', '.join(telling)}, which may say whose it is. Name it in left_out.",
            )
            _require_quiet(text, _words(record), f"What it says of {name}")


def _told(record: Reader, data: bytes, name: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield what a reader says beside pixels: the metadata, and all of it as a text."""
    if record.read is None:
        yield {}, " ".join(region.name for region in _regions(record, name))
    else:
        raster = _raster(record, data, name)
        yield raster.metadata, f"{dict(raster.metadata)!r} {raster.left_out!r}"


def ignores_and_keeps_global_state(record: Reader) -> None:
    """Nothing of the process is changed, no file is, and no network is used."""
    name, data = _samples(record)[0]
    _images(record, data, name)  # the first call may import libraries
    stamp = os.stat(name).st_mtime_ns if os.path.exists(name) else 0
    with no_network() as attempts:
        before = global_state()
        _images(record, data, name)
        different = changed(before, global_state())
    require(not different, f"It changed: {', '.join(different)}.")
    require(not attempts, f"It tried to reach {', '.join(attempts)}.")
    require(not stamp or os.stat(name).st_mtime_ns == stamp, f"It wrote into {name}.")


def is_quick_and_small(record: Reader) -> None:
    """A file takes two seconds, and two for each megapixel, at most; memory stays in proportion."""
    for name, data in _samples(record)[:2]:
        images = _images(record, data, name)
        tracemalloc.start()
        try:
            start = time.perf_counter()
            _images(record, data, name)
            seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        pixels = sum(math.prod(image.shape[:2]) for image in images)
        most = SECONDS + PER_MEGAPIXEL * pixels / 1e6
        require(seconds <= most, f"{name} takes {seconds:.1f} s; at most {most:.1f} s is fair.")
        room = 2**27 + 30 * pixels + (4 * len(data) if record.read is not None else 0)
        require(
            peak <= room,
            f"{name} took {peak / 1e6:.0f} MB of memory for {pixels:,} pixels; {room / 1e6:.0f} MB is fair.",
        )


CHECKS: tuple[Callable[[Any], None], ...] = (
    claims_nothing_of_allkit,
    refuses_what_is_no_such_file,
    quotes_nothing_of_a_file,
    gives_images,
    same_file_gives_same_image,
    threads_do_not_disturb_each_other,
    survives_damage,
    identity_stays_behind,
    ignores_and_keeps_global_state,
    is_quick_and_small,
)
