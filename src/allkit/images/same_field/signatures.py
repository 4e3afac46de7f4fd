"""The signature of an image, by which its field is recognised: keypoints and their descriptors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from allkit.images.arrays import large_array
from allkit.records import SCALE_BAR
from allkit.types import Bytes

__all__ = ["KEYPOINTS", "SIDE", "Array", "Signature", "SignatureStore", "as_vector"]
__all__ += ["green_channel", "of_vector", "pack", "signature", "unpack", "without_corner"]

Array = npt.NDArray[Any]

KEYPOINTS = 88
"""Keypoints of an image, at most."""
SIDE = 128
"""Longer side, in pixels, of the image in which keypoints are sought and their places kept."""
_LEVELS = (10, 45)  # a descriptor entry (0–255) becomes two bits: above the one, above the other
_BLACK = 4


@dataclass(frozen=True, slots=True)
class Signature:
    """The signature of an image, by which its field is recognised.

    `keypoints` is (K, 4) int16, K ≤ 88: x and y in 1/64 pixel of the image scaled to a longer side
    of 128, log2 of the diameter in 1/1024, angle in 1/65536 turn. `descriptors` is (K, 32) uint8,
    256 bits each. No pixel is kept.
    """

    sha256: str
    width: int
    height: int
    keypoints: npt.NDArray[np.int16]
    descriptors: Bytes


def signature(image: Bytes, sha256: str) -> Signature:
    """Return the signature of `image`, (H, W, 3) uint8 RGB, whose file has the digest `sha256`."""
    import cv2

    small = green_channel(image, SIDE)
    sift: Any = cv2.SIFT.create(nfeatures=KEYPOINTS, contrastThreshold=0.01)
    points, raw = sift.detectAndCompute(small, without_corner(small.shape))
    # The strongest first; those of one strength by their place, then as they were found.
    found = sorted((-p.response, p.pt, i, p.size, p.angle) for i, p in enumerate(points))
    found = found[:KEYPOINTS]
    order = [i for _, _, i, _, _ in found]
    rows = [(*place, size, angle) for _, place, _, size, angle in found]
    x, y, size, angle = np.array(rows, np.float64).reshape(-1, 4).T
    parts = ((x + 0.5) * 64, (y + 0.5) * 64, np.log2(size) * 1024, angle * 65536 / 360)
    keypoints = np.stack(parts, axis=1).round().astype(np.int64).astype(np.int16)  # wraps angles
    entries = raw[order] if order else np.zeros((0, 128))
    bits = np.concatenate([entries > level for level in _LEVELS], axis=1)
    height, width = image.shape[:2]
    return Signature(
        sha256=sha256,
        width=width,
        height=height,
        keypoints=keypoints,
        descriptors=np.packbits(bits, axis=1),
    )


class SignatureStore:
    """Room for the signatures of `count` images, also if they do not fit into memory."""

    def __init__(self, count: int) -> None:
        self._keypoints = large_array((count, KEYPOINTS, 4), np.int16)
        self._descriptors = large_array((count, KEYPOINTS, 32), np.uint8)
        self._digests = np.zeros((count, 32), np.uint8)
        self._sizes = np.zeros((count, 3), np.int32)  # width, height, number of keypoints

    def keep(self, row: int, one: Signature) -> None:
        """Store a signature in a row."""
        count = len(one.keypoints)
        self._keypoints[row, :count] = one.keypoints
        self._descriptors[row, :count] = one.descriptors
        self._digests[row] = np.frombuffer(bytes.fromhex(one.sha256), np.uint8)
        self._sizes[row] = one.width, one.height, count

    def get(self, row: int) -> Signature:
        """Return the signature of a row; its arrays are those of the store."""
        width, height, count = self._sizes[row].tolist()
        return Signature(
            sha256=self._digests[row].tobytes().hex(),
            width=width,
            height=height,
            keypoints=self._keypoints[row, :count],
            descriptors=self._descriptors[row, :count],
        )


def as_vector(one: Signature) -> npt.NDArray[np.float32]:
    """Return a signature, without its digest, in the bytes of a float32 vector, for a cache."""
    head = np.array([one.width, one.height, len(one.keypoints)], np.int32)
    parts = head, np.ascontiguousarray(one.keypoints), np.ascontiguousarray(one.descriptors)
    return np.frombuffer(b"".join(part.tobytes() for part in parts), np.float32)


def of_vector(vector: npt.NDArray[np.float32], sha256: str) -> Signature:
    """Return the signature that `as_vector` made into a vector, of the file with this digest."""
    data = vector.tobytes()
    width, height, count = np.frombuffer(data, np.int32, 3).tolist()
    keypoints = np.frombuffer(data, np.int16, 4 * count, 12)
    descriptors = np.frombuffer(data, np.uint8, 32 * count, 12 + 8 * count)
    return Signature(
        sha256=sha256,
        width=width,
        height=height,
        keypoints=keypoints.reshape(-1, 4),
        descriptors=descriptors.reshape(-1, 32),
    )


def pack(signatures: Sequence[Signature]) -> dict[str, Array]:
    """Return `signatures` as plain arrays; image i owns `counts[i]` rows of the keypoints."""
    digests = [list(bytes.fromhex(one.sha256)) for one in signatures]
    keypoints = [np.zeros((0, 4), np.int16), *(one.keypoints for one in signatures)]
    descriptors = [np.zeros((0, 32), np.uint8), *(one.descriptors for one in signatures)]
    return {
        "sha256": np.array(digests, np.uint8).reshape(-1, 32),
        "sizes": np.array([(o.width, o.height) for o in signatures], np.int32).reshape(-1, 2),
        "counts": np.array([len(one.keypoints) for one in signatures], np.int32),
        "keypoints": np.concatenate(keypoints),
        "descriptors": np.concatenate(descriptors),
    }


def unpack(arrays: Mapping[str, Array]) -> list[Signature]:
    """Return the signatures that `pack` made into `arrays`; none of no arrays."""
    if not arrays:
        return []
    ends = np.cumsum(arrays["counts"])
    keypoints = np.split(arrays["keypoints"], ends)[:-1]
    descriptors = np.split(arrays["descriptors"], ends)[:-1]
    rest = zip(arrays["sha256"], arrays["sizes"].tolist(), keypoints, descriptors, strict=True)
    return [
        Signature(
            sha256=digest.tobytes().hex(),
            width=width,
            height=height,
            keypoints=points,
            descriptors=bits,
        )
        for digest, (width, height), points, bits in rest
    ]


def green_channel(image: Bytes, side: int) -> Bytes:
    """Return the green channel, where both stains absorb, with `side` as the longer side.

    Black areas were cut out by someone: they are filled, so that their outlines do not correlate.
    """
    import cv2

    ratio = side / max(image.shape[:2])
    size = [max(1, round(length * ratio)) for length in image.shape[1::-1]]
    how = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    green = np.ascontiguousarray(image[:, :, 1])
    shown = green > _BLACK
    if 0 < shown.mean() < 0.98:
        green = np.where(shown, green, np.uint8(green[shown].mean()))
    return np.asarray(cv2.resize(green, size, interpolation=how), np.uint8)


def without_corner(shape: tuple[int, ...]) -> Bytes:
    """Return 255 where a scale bar cannot be, `(H, W)` uint8, and 0 in the lower right corner."""
    mask = np.full(shape, 255, np.uint8)
    mask[int(SCALE_BAR[0] * shape[0]) :, int(SCALE_BAR[1] * shape[1]) :] = 0
    return mask
