"""Whether the data of a JPEG ends where its pixels end: a decoder does not mind, and says nothing.

Where bytes were changed the codes that follow are read wrongly for a while. Then the pixels need more
data than there is, and the rest of the picture is filled in, or there is data left over.
"""

from __future__ import annotations

from PIL.JpegImagePlugin import JpegImageFile

from allkit.images.formats import PixelFile
from allkit.images.refusal import refuse

__all__ = ["Watched"]

AHEAD = 16
"""Bytes that a decoder may need to have before it decodes the last pixels."""


class Watched:
    """The file of a JPEG of one scan, which knows how far Pillow had to read for its last pixel.

    It gives the data but for its last bytes; then these; then bytes that no pixel needs; then the mark
    of the end. Pillow ends with the last pixel, so it should end with the second or the third.
    """

    def __init__(self, image: JpegImageFile, file: PixelFile) -> None:
        data = memoryview(file.data)
        end = file.data_end
        while end > 0 and data[end - 1] == 0:  # some encoders fill up with zeros
            end -= 1
        early = max(0, end - AHEAD)
        self.pieces = [data[:early], data[early : file.data_end]]
        self.pieces += [memoryview(bytes(AHEAD)), data[file.data_end :]]
        self.piece = self.at = 0
        image.fp = self  # type: ignore[assignment] # it has what the decoder of a JPEG asks for

    def seek(self, offset: int) -> None:
        """Go to the beginning, where Pillow lets the data of a JPEG begin."""
        self.piece = self.at = 0

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, of one piece."""
        while self.at >= len(self.pieces[self.piece]) and self.piece < len(self.pieces) - 1:
            self.piece, self.at = self.piece + 1, 0
        begin, self.at = self.at, self.at + size
        return bytes(self.pieces[self.piece][begin : self.at])

    def check(self, name: str) -> None:
        """Raise `ImageError` where the data ended before the last pixel, or went on after it."""
        if self.piece == 0:
            refuse(name, "corrupt", "more pixel data than it has pixels for")
        if self.piece == len(self.pieces) - 1:
            refuse(name, "corrupt", "less pixel data than it has pixels for")
