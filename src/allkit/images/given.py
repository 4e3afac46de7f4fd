"""What counts as an image: one rule for models, exported files and the server.

One image is a path, the bytes of an encoded file, a binary file object, a Pillow image, or an array
of uint8: `(H, W, 3)` RGB or `(H, W)` grey. A tensor of PyTorch is taken as such an array, and as
`(3, H, W)` too, which is how torchvision gives images. A sample of a set of images is the image that
it names. An iterable of these is several images, and so are a set of images and an array
`(N, H, W, 3)` of uint8; a Python set has no order, and is not taken. Everything else is a
mistake of the caller and raises: it never gets the answer `unreadable`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from allkit.errors import ImageError
from allkit.images.decode import read_image
from allkit.images.formats import exif_orientation
from allkit.images.refusal import MAX_BYTES

__all__ = ["Given", "Stored", "given", "is_one", "one"]


class Stored(Protocol):
    """Where a set of images keeps the bytes of one: a member of a zip, memory."""

    def read(self) -> bytes:
        """Return the encoded image; raise `ImageError` where that fails."""


Readable: TypeAlias = "str | bytes | npt.NDArray[np.uint8]"

BYTES = (bytes, bytearray, memoryview)
ONE = (
    "Give a path, the bytes of a file, a file opened with 'rb', a Pillow image, or an array "
    "(H, W, 3) uint8"
)
PIECE = 2**20
TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation for each EXIF orientation."""
WIDER = {"PA": "RGBA", "RGBa": "RGBA", "La": "LA", "I;16B": "I", "I;16L": "I", "I;16N": "I"}
"""Pillow's modes that are not RGB and that a PNG cannot hold → the mode they are converted to."""


class Given(NamedTuple):
    """One image: its name in the answer, and the source for `read_image`.

    `error` says why an image cannot be read; `mistake`, why something cannot be an image.
    """

    name: str
    source: Readable | Stored = b""
    error: ImageError | None = None
    mistake: ImageError | None = None

    def read(self) -> npt.NDArray[np.uint8]:
        """Return `(H, W, 3)` uint8 RGB. Raises `ImageError`."""
        if self.error is not None:
            raise self.error
        return read_image(self.readable(), name=self.name)

    def readable(self) -> Readable:
        """Return what `read_image` takes; the bytes of what is stored are read for it."""
        source = self.source
        return source if isinstance(source, (str, bytes, np.ndarray)) else source.read()


def one(image: Any) -> Given:
    """Return a single image. Raises `ImageError` (`array`) for anything that cannot be an image."""
    single = _given(image, 0)
    if single.mistake is not None:
        raise single.mistake
    return single


def given(images: Any) -> Iterator[Given]:
    """Return an iterator over one image, or over each of an iterable, in order.

    An image is examined when the iterator reaches it; a file object is then read once, from its
    beginning, and not closed. The first item that cannot be an image has a `mistake` and is the last
    one. Raises `ImageError` (`array`), at once, for anything that is neither an image nor several.
    """
    if _is_tensor(images):
        images = _batch_of_tensor(images)
    if is_one(images):
        return iter([one(images)])
    if isinstance(images, np.ndarray) and not (_is_batch(images) or _is_list(images)):
        mistake = _given(images, 0, called="The array").mistake  # what is wrong with shape or type
        return iter([one(images)]) if mistake is None else _raised(mistake)
    if isinstance(images, Set):
        raise _mistake("What was given", f"is {_kind(images)}, which has no order", many=True)
    table = isinstance(images, Mapping) or hasattr(images, "columns")
    if table or not isinstance(images, Iterable):
        raise _mistake("What was given", f"is {_kind(images)}, which holds no images", many=True)
    return _each(images)


def _each(images: Iterable[Any]) -> Iterator[Given]:
    for position, image in enumerate(images):
        one_of_them = _given(image, position)
        yield one_of_them
        if one_of_them.mistake is not None:
            return


def is_one(value: Any) -> bool:
    """Return whether this is a single image, or can only be meant as one, and not several."""
    if isinstance(value, np.ndarray):
        return _is_image(value) or value.ndim == 0  # which holds a single thing, such as a path
    if _is_tensor(value):
        return True
    known = (str, os.PathLike, *BYTES, Image.Image)
    return isinstance(value, known) or _is_sample(value) or _is_file(value)


def _is_sample(value: Any) -> bool:
    # A type of a higher layer, known by its fields.
    return isinstance(getattr(value, "image", None), str) and hasattr(value, "source")


def _is_file(value: Any) -> bool:
    # A set of images has a `read` too, but no `seek`.
    return hasattr(value, "read") and (hasattr(value, "seek") or hasattr(value, "readable"))


def _is_image(array: npt.NDArray[Any]) -> bool:
    rgb = array.ndim == 3 and array.shape[2] == 3
    return array.dtype == np.uint8 and (rgb or array.ndim == 2)


def _is_batch(array: npt.NDArray[Any]) -> bool:
    return array.ndim == 4 and array.dtype == np.uint8 and array.shape[3] == 3


def _is_list(array: npt.NDArray[Any]) -> bool:
    return array.ndim == 1 and array.dtype.kind in "OU"  # paths, or images of several sizes


def _raised(mistake: ImageError) -> Iterator[Given]:
    raise mistake


def _given(image: Any, position: int, *, called: str = "") -> Given:
    """Return one image. A path is its name; all other images are named by their position.

    A mistake speaks of what was given as `called`, where that is not one image of several.

    An uploaded file has a name too, but it may hold a patient's name, so it is not used.
    """
    name = f"image {position}"
    if isinstance(image, np.ndarray) and image.ndim == 0 and image.dtype.kind in "OU":
        image = image.item()
    try:
        if _is_sample(image):
            path = getattr(image.source, "path", None)
            return Given(image.image, image.source if path is None else str(path))
        if isinstance(image, (str, os.PathLike)):
            return _of_path(image)
        if isinstance(image, BYTES):
            return Given(name, _of_bytes(image))
        if _is_tensor(image):
            image = _array_of_tensor(image)
        if isinstance(image, np.ndarray):
            return _of_array(image, name)
        if isinstance(image, Image.Image):
            return _of_pillow(image, name)
        if _is_file(image):
            return _of_file(image, name)
    except _Mistake as mistake:
        return Given(name, mistake=_mistake(called or _called(name), str(mistake)))
    return Given(name, mistake=_mistake(_called(name), f"is {_kind(image)}, which is no image"))


class _Mistake(Exception):
    """The input cannot be an image; the text continues after its name."""


def _of_path(path: str | os.PathLike[str]) -> Given:
    try:
        name = os.fsdecode(path)
    except Exception as error:  # noqa: BLE001 - a path object is anybody's code
        raise _Mistake(f"is {_kind(path)} that gives no path ({error})") from None
    if not name:
        raise _Mistake("is an empty path")
    return Given(name, name)


def _of_bytes(content: bytes | bytearray | memoryview) -> bytes:
    """Return the bytes; a writable buffer is copied, because it may change later."""
    try:
        if isinstance(content, memoryview) and (content.ndim != 1 or content.itemsize != 1):
            raise _Mistake("is a memoryview of an array, not of a file's bytes")
        return bytes(content)
    except ValueError:
        raise _Mistake("is a memoryview that was released") from None


def _is_tensor(value: Any) -> bool:
    """Return whether this is a tensor of PyTorch, which need not be installed."""
    return any(f"{t.__module__}.{t.__qualname__}" == "torch.Tensor" for t in type(value).__mro__)


def _batch_of_tensor(tensor: Any) -> Any:
    """Return a tensor of several images as an array `(N, H, W, 3)`; any other as it is."""
    if tensor.ndim != 4 or str(tensor.dtype) != "torch.uint8":
        return tensor if tensor.ndim != 4 else [tensor]  # the one that says what is wrong
    try:
        channels_first, channels_last = tensor.shape[1] == 3, tensor.shape[3] == 3
        array = _values(tensor)
    except (_Mistake, RuntimeError):  # a nested one has no shape
        return [tensor]
    if channels_first == channels_last:
        return [tensor]
    return array.transpose(0, 2, 3, 1) if channels_first else array


def _array_of_tensor(tensor: Any) -> npt.NDArray[Any]:
    """Return a tensor `(3, H, W)`, `(H, W, 3)` or `(H, W)` of uint8 as an array of RGB or grey."""
    if str(tensor.dtype) != "torch.uint8":
        raise _Mistake(
            f"is a tensor of {str(tensor.dtype).removeprefix('torch.')}, whose range is not known; for one "
            f"of 0 to 1 give `(tensor * 255).round().to(torch.uint8)`, before any normalisation"
        )
    array = _values(tensor)
    shape = array.shape
    if array.ndim != 3 or (shape[2] == 3 and shape[0] != 3):
        return array
    if shape[0] == 3 and shape[2] != 3:
        return array.transpose(1, 2, 0)
    raise _Mistake(
        f"is a tensor of the shape {shape}, whose colours may be the first or the last axis"
    )


def _values(tensor: Any) -> npt.NDArray[Any]:
    """Return the values of a tensor, which not every kind of it has: those of `meta` have none."""
    try:
        array: npt.NDArray[Any] = tensor.detach().cpu().numpy()
    # Sparse, nested and quantised ones, and those of other packages, each raise an error of their own.
    except Exception as error:  # noqa: BLE001
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")[:200]
        raise _Mistake(
            f"is a tensor whose values cannot be taken as an array ({reason}); give a dense one, of "
            f"the processor"
        ) from None
    return array


def _of_array(array: npt.NDArray[Any], name: str) -> Given:
    if not _is_image(array):
        if array.ndim == 3 and array.shape[0] == 3 and array.dtype == np.uint8:
            raise _Mistake(
                f"has the shape {array.shape}, colours first; give `array.transpose(1, 2, 0)`"
            )
        hint = ""
        if array.dtype.kind == "f":
            hint = (
                ", whose range is not known; for one of 0 to 1 give "
                "`(array * 255).round().astype(np.uint8)`"
            )
        elif array.ndim == 4 and array.shape[1] == 3:
            hint = ": several images, colours first; give `array.transpose(0, 2, 3, 1)`"
        raise _Mistake(
            f"has the shape {array.shape} and the type {array.dtype}, which is no image{hint}"
        )
    return Given(name, np.array(array))  # a copy: the caller may write the next image into it


def _of_file(file: Any, name: str) -> Given:
    if isinstance(file, io.TextIOBase):
        raise _Mistake("is a file opened as text")
    if getattr(file, "closed", False) is True:
        raise _Mistake("is a file that is closed already")
    if isinstance(file, io.IOBase) and not file.readable():
        raise _Mistake("is a file opened for writing only")
    try:
        return Given(name, _content(file))
    except _Mistake:
        raise
    # A file object may come from any library (a member of an archive, a download), and the errors of
    # damaged ones have no common class.
    except Exception as error:  # noqa: BLE001
        reason = str(error) or type(error).__name__
        message = f"{name} cannot be read ({reason}). Copy it again from its source."
        return Given(name, error=ImageError(message, code="missing"))


def _content(file: Any) -> bytes:
    """Return a file's bytes from its beginning, at most one more than allowed; its position stays.

    An upload that was shown before is at its end, so it has to be read from the beginning.
    """
    seekable = getattr(file, "seekable", None)
    start = file.tell() if seekable is not None and seekable() else None
    if start:
        file.seek(0)
    pieces, size = [], 0
    while size <= MAX_BYTES:
        piece = file.read(PIECE)
        if not isinstance(piece, BYTES):
            if hasattr(piece, "close"):  # a coroutine that will not be awaited
                piece.close()
            raise _Mistake(f"is {_kind(file)} whose `read` gives {_kind(piece)}, not bytes")
        if not piece:
            break
        pieces.append(bytes(piece))
        size += len(piece)
    if start is not None:
        file.seek(start)
    return b"".join(pieces)


def _of_pillow(image: Image.Image, name: str) -> Given:
    """Take a Pillow image: its file if it was opened and not yet used, otherwise its pixels.

    So an opened file is decoded in the same way as its path, and the caller's image does not change.
    """
    file = getattr(image, "fp", None)
    if getattr(image, "tile", None) and file is not None and not getattr(file, "closed", False):
        return _of_file(file, name)
    try:
        return Given(name, _encoded(image))
    except ImageError as error:
        return Given(name, error=ImageError(f"{name} {error}", code=error.code))
    # Whatever Pillow and its plugins raise for a file that was closed or damaged since: an
    # AssertionError among others.
    except Exception as error:  # noqa: BLE001
        reason = str(error) or "its file was closed"
        message = f"{name} cannot be decoded ({reason}). Open it again."
        return Given(name, error=ImageError(message, code="corrupt"))


def _encoded(image: Image.Image) -> Readable:
    """Return pixels as an array, or as a PNG if the reader's rules apply to them."""
    turned = TURNED.get(_orientation(image))
    image = image if turned is None else image.transpose(turned)
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "F", "I", "I;16"):
        image = image.convert(WIDER.get(image.mode, "RGB"))
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode == "F":
        text = "holds floating-point pixels, whose range is not known. Convert it to 8-bit RGB."
        raise ImageError(text, code="float")
    if image.mode == "I":
        values = np.asarray(image)
        lowest, highest = int(values.min()), int(values.max())
        if lowest < 0 or highest > 65535:
            text = f"holds values from {lowest} to {highest}. Convert it to 8-bit RGB."
            raise ImageError(text, code="mode")
        image = Image.fromarray(values.astype(np.uint16))
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=0)
    return stream.getvalue()


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; Pillow would also use XMP, which the reader of files ignores."""
    block = image.info.get("exif")
    if block:
        return exif_orientation(bytes(block).removeprefix(b"Exif\0\0"))
    return int(getattr(image, "tag_v2", {}).get(274, 1))  # of a TIFF


def _called(name: str) -> str:
    return name[:1].upper() + name[1:]


def _kind(value: Any) -> str:
    name = "None" if value is None else type(value).__name__
    article = "" if value is None else "an " if name[:1].lower() in "aeiou" else "a "
    return article + name


def _mistake(what: str, fault: str, *, many: bool = False) -> ImageError:
    return ImageError(
        f"{what} {fault}. {ONE}{'; or a list of them' if many else ''}.", code="array"
    )
