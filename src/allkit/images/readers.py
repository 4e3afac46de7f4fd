"""Which reader takes a file, and whether what it gives is an image: allkit's own and those of plugins.

The content decides first: a format that allkit reads itself never comes to a plugin. Then come the
bytes by which readers of plugins recognise their files, and last the end of the name. No plugin is
imported but the one that is needed.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn, TypeGuard, TypeVar, cast

import numpy as np

from allkit.errors import ConfigError, ImageError, PluginError
from allkit.images.mistaken import package_for, pretender
from allkit.images.own import IMAGE_SUFFIXES, format_of
from allkit.images.refusal import check_bytes, check_size
from allkit.images.regular import TAKEN
from allkit.plugins import Registry, registry
from allkit.plugins.offers import Offer
from allkit.plugins.written import parts_of
from allkit.records import Raster, Reader, Reference
from allkit.types import Pixels

__all__ = [
    "RESERVED",
    "Giver",
    "asked_for",
    "chosen",
    "fault_of",
    "fault_of_pixels",
    "is_scale",
    "raster_of",
    "reader_suffixes",
    "reading",
    "region_reader",
    "region_suffixes",
    "settled",
]

RESERVED = {".csv", ".tsv", ".parquet", ".json", ".jsonl", ".zip", ".txt", ".yaml", ".yml", ".md"}
"""Ends of names that mean something else to allkit; no reader gets them by the name."""
VARIABLE = "ALLKIT_READERS"
"""The environment variable that names readers with their settings, `;` between them."""
MOST_ENTRIES = 100
LONGEST = 200
"""Characters of a text in the metadata."""

FOREIGN = (
    (0, b"GIF8", "a GIF"),
    (8, b"WEBP", "a WebP"),
    (0, b"%PDF", "a PDF"),
    (128, b"DICM", "a DICOM"),
    (4, b"ftyphei", "a HEIC"),
    (4, b"ftypmif1", "a HEIC"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"jP  ", "a JPEG 2000"),
    (0, b"8BPS", "a Photoshop"),
    (0, b"PK\x03\x04", "a ZIP"),
    (0, b"MM\0+", "a big-endian BigTIFF"),  # Pillow misreads it
)
"""The bytes by which files of other formats are recognised, their position, and the format's name."""

T = TypeVar("T")

_OWN: dict[str, Callable[[bytes, str], Raster]] = {}
_LOCK = threading.Lock()
_asked: tuple[Reference, ...] = ()


class _Candidate(NamedTuple):
    """A reader that is on offer: the package with its version, and the name in full."""

    origin: str
    qualified: str


@contextlib.contextmanager
def chosen(readers: Iterable[Any]) -> Iterator[None]:
    """Use these readers, with their settings, for the files that they take, inside the block.

    Each is asked for as every record is: `PACKAGE/NAME`, or `{NAME: {SETTING: VALUE}}`. Raises
    `PluginError` for one that is not installed and `ConfigError` for settings that it does not take.
    It holds for the whole process, and goes before ALLKIT_READERS.
    """
    global _asked
    wanted = _meant(readers)
    before, _asked = _asked, (*wanted, *_asked)
    try:
        yield
    finally:
        _asked = before


def _meant(readers: Iterable[Any]) -> tuple[Reference, ...]:
    wanted = tuple(registry().reference("reader", reader) for reader in readers)
    for reference in wanted:
        if reference.package == "allkit":
            raise ConfigError(f"{reference.name} is read by allkit itself. Leave it out.")
    return wanted


def _all_chosen() -> tuple[Reference, ...]:
    """Return the readers of `chosen`, and after them those that ALLKIT_READERS names."""
    text = os.environ.get(VARIABLE, "")
    return (*_asked, *_of_text(text, registry())) if text.strip() else _asked


@lru_cache(maxsize=8)
def _of_text(text: str, _: Registry) -> tuple[Reference, ...]:
    try:
        return _meant(parts_of(text, VARIABLE))
    except (ConfigError, PluginError) as error:
        message = str(error).removeprefix(f"{VARIABLE} ")
        raise ConfigError(f"{VARIABLE}: {message}") from error


def asked_for() -> str:
    """Return the readers that were chosen, with their settings, as a text; empty where there are none."""
    return " ".join(reference.text for reference in _all_chosen())


def reading() -> dict[str, str]:
    """Return what makes images of files that allkit does not read itself, for keys of caches.

    Every reader of a plugin, `PACKAGE/NAME`, with what tells its code from that of other versions and the
    settings that were chosen. No plugin is imported for one that was not.
    """
    settings = {r.qualified: f" chosen {r.settings_text}" for r in reversed(_all_chosen())}
    names = [
        (plugin, f"{plugin.distribution}/{offer.name}")
        for plugin, offer in registry().offers("reader")
        if not plugin.built_in and "regions" not in offer.details
    ]
    return {name: plugin.mark + settings.get(name, "") for plugin, name in names}


def reader_suffixes() -> tuple[str, ...]:
    """Return the ends of names, in small letters, that installed plugins read as one image each."""
    return _suffixes(regions=False)


def region_suffixes() -> tuple[str, ...]:
    """Return those of files that installed plugins read as several images each (whole slides)."""
    return _suffixes(regions=True)


def _suffixes(*, regions: bool) -> tuple[str, ...]:
    taken = (*IMAGE_SUFFIXES, *RESERVED)
    return tuple(
        suffix
        for _, offer in registry().offers("reader")
        for suffix in offer.suffixes
        if ("regions" in offer.details) == regions and suffix not in taken
    )


def region_reader(name: str) -> tuple[Reader, Giver] | None:
    """Return the reader of a file that stands for several images, by its name, and who gives it.

    `None` for other files. Raises `ImageError` where two plugins claim it.
    """
    lower = name.lower()
    found = _candidates(lambda offer: lower.endswith(_ends(offer)), regions=True)
    if not found:
        return None
    reader = _record(found, name)
    return reader, Giver(found[0].origin, reader.name)


def raster_of(data: bytes, name: str, *, suffix: str = "") -> Raster:
    """Return what the reader of a file gives for its bytes. Raises `ImageError` that names the plugin.

    `name` is what an error calls it; its end counts where the content tells nothing, or `suffix` in
    its place, which then goes before allkit's own formats.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes). Copy it again from its source.", code="empty")
    check_bytes(len(data), name)
    if not suffix and (kind := format_of(data)):
        return _own_raster(kind, data, name)
    found = _candidates(lambda offer: _has_magic(offer, data)) or _candidates(
        lambda offer: (suffix or name.lower()).endswith(_ends(offer))
    )
    if not found:
        _refuse_unknown(data, name, suffix)
    return _read(_record(found, name), found[0].origin, data, name)


def _own_raster(kind: str, data: bytes, name: str) -> Raster:
    """Return what allkit's reader of a format gives; it is looked up once, and no plugin with it."""
    if kind not in _OWN:
        with _LOCK:
            _OWN[kind] = registry().get("reader", f"allkit/{kind}").read
    return _OWN[kind](data, name)


def _candidates(fits: Any, *, regions: bool = False) -> list[_Candidate]:
    return [
        _Candidate(plugin.origin, f"{plugin.distribution}/{offer.name}")
        for plugin, offer in registry().offers("reader")
        if not plugin.built_in and ("regions" in offer.details) == regions and fits(offer)
    ]


def _has_magic(offer: Offer, data: bytes) -> bool:
    for at, text in offer.magic:
        magic = bytes.fromhex(text)
        if data[at : at + len(magic)] == magic:
            return True
    return False


def _ends(offer: Offer) -> tuple[str, ...]:
    return tuple(s for s in offer.suffixes if s not in RESERVED and s not in IMAGE_SUFFIXES)


def _record(found: list[_Candidate], name: str) -> Reader:
    """Return the reader that is meant: one that was chosen, or the only one."""
    for reference in _all_chosen():
        if any(reference.qualified == one.qualified for one in found):
            return cast(Reader, registry().get("reader", reference))
    if len({one.origin for one in found}) > 1:
        origins = " and ".join(dict.fromkeys(one.origin for one in found))
        raise ImageError(
            f"{name} is claimed by the readers of {origins}. Uninstall one, leave it out with "
            f"ALLKIT_PLUGINS, or choose: {VARIABLE}={found[0].qualified}.",
            code="reader",
        )
    try:
        return cast(Reader, registry().get("reader", found[0].qualified))
    except PluginError as error:
        raise ImageError(f"{name} cannot be read: {error}", code="reader") from error


def _read(reader: Reader, origin: str, data: bytes, name: str) -> Raster:
    giver, function = Giver(origin, reader.name), reader.read
    if function is None:
        raise giver.broken(name, "reads no bytes")
    raster = giver.call(name, lambda: function(data, name))
    if fault := fault_of(raster):
        raise giver.broken(name, fault)
    check_size(raster.pixels.shape[1], raster.pixels.shape[0], name)
    return replace(raster, pixels=settled(raster.pixels), metadata=dict(raster.metadata))


class Giver(NamedTuple):
    """Who gave something: the package with its version, and the name of the reader."""

    origin: str
    reader: str

    def call(self, name: str, work: Callable[[], T]) -> T:
        """Return what a reader does for the file `name`; raise `ImageError` where it fails.

        The message has the type of an error and not its text, which may quote the file.
        """
        try:
            return work()
        except MemoryError:
            message = f"{name} does not fit into the memory that is left. Shrink it or free memory."
            raise ImageError(message, code="too_large") from None
        except PluginError as error:
            kind = type(error.__cause__ or error).__name__
            raise ImageError(
                f"{name} was not read: the reader {self.reader!r} of {self.origin} failed ({kind}). The "
                f"file may be damaged; `allkit plugins check` looks at the reader.",
                code="reader",
            ) from error

    def broken(self, name: str, what: str) -> ImageError:
        """Return the error for a reader that does not keep the contract."""
        return ImageError(
            f"{name} was not read: the reader {self.reader!r} of {self.origin} {what}. Tell its author; "
            f"`allkit plugins check` shows it.",
            code="reader",
        )


def settled(pixels: Pixels) -> Pixels:
    """Return pixels as every image is given: contiguous, and such that they can be written to."""
    plain = np.ascontiguousarray(pixels)
    return plain if plain.flags.writeable else plain.copy()


def fault_of(raster: Any) -> str:
    """Return what is wrong with what a reader gave, after its name; empty where nothing is."""
    if not isinstance(raster, Raster):
        return f"returned {type(raster).__name__} and not a Raster"
    if fault := fault_of_pixels(raster.pixels):
        return fault
    if not is_scale(raster.micrometres_per_pixel):
        return "returned micrometres per pixel that are no positive number"
    if not isinstance(raster.metadata, Mapping) or len(raster.metadata) > MOST_ENTRIES:
        return f"returned metadata that are no mapping of at most {MOST_ENTRIES} entries"
    if not all(_is_word(key) and _is_plain(value) for key, value in raster.metadata.items()):
        return f"returned metadata that are not names with numbers or texts of up to {LONGEST} characters"
    if not isinstance(raster.left_out, tuple) or not all(map(_is_word, raster.left_out)):
        return "returned names in left_out that are no tuple of texts"
    if raster.accession and not _is_word(raster.accession):
        return "returned an accession number that is no text"
    return ""


def fault_of_pixels(pixels: Any) -> str:
    """Return what is wrong with pixels that a plugin gave, after the name of its reader."""
    shape, dtype = getattr(pixels, "shape", ()), getattr(pixels, "dtype", type(pixels).__name__)
    if isinstance(pixels, np.ndarray) and dtype == np.uint8 and shape[2:] == (3,):
        return ""
    return f"returned pixels {shape} {dtype} where (H, W, 3) uint8 is expected"


def is_scale(value: object) -> bool:
    """Return whether a value can be micrometres per pixel, or says that they are not known."""
    return value is None or (_is_number(value) and math.isfinite(value) and value > 0)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_word(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable()


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST and (value.isprintable() or not value)
    return _is_number(value) and math.isfinite(value)


def _refuse_unknown(data: bytes, name: str, suffix: str) -> NoReturn:
    if saved := pretender(data):
        raise ImageError(f"{name} {saved}", code="not_an_image")
    kinds = (kind for at, magic, kind in FOREIGN if data[at : at + len(magic)] == magic)
    kind = next(kinds, "an SVG" if b"<svg" in data[:1024] else "")
    kind = "a DICOM" if suffix == ".dcm" else kind
    if not kind and not any(byte < 9 for byte in data[:512]):
        kind = "a text"
    package = package_for(suffix or name, data)
    what = f"is {kind} file, which is not read" if kind else "is not an image of a known format"
    way = f"Type: pip install {package}. Or give" if package else TAKEN.partition(" ")[0]
    rest = TAKEN.partition(" ")[2]
    raise ImageError(f"{name} {what}. {way} {rest}.", code="not_an_image")
